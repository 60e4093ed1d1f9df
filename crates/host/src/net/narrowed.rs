//! Grants of a manifest that name addresses outside the public internet, which only the operator opens; for `hostel check`.

use std::net::IpAddr;

use hostel_app::grant::{GrantError, Network};
use hostel_app::{Grants, NetworkPolicy};

use super::policy::{Policy, names};

/// A grant that reaches less than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowed {
    /// `http`, `tcp` or `udp`.
    pub kind: &'static str,
    /// The grant.
    pub grant: String,
    /// An address that it names and that is not reached: what `allow` in `[network]` would have to hold.
    pub address: IpAddr,
    /// The name of its range.
    pub range: &'static str,
}

/// The grants that this policy takes something away from.
///
/// # Errors
/// An entry of the policy is no network.
pub fn narrowed(grants: &Grants, policy: &NetworkPolicy) -> Result<Vec<Narrowed>, GrantError> {
    let judge = Policy::new(&policy.allow)?;
    let http = grants.http.iter();
    let http = http.map(|grant| ("http", grant.to_string(), grant.networks()));
    let tcp = grants.tcp.iter();
    let tcp = tcp.map(|grant| ("tcp", grant.to_string(), grant.networks()));
    let udp = grants.udp.iter();
    let udp = udp.map(|grant| ("udp", grant.to_string(), grant.networks()));
    let closed = http.chain(tcp).chain(udp).filter_map(|(kind, grant, of)| {
        let opened = |address| opened(grants, kind, address);
        let ends = of
            .iter()
            .flat_map(|network| [network.first(), network.last()]);
        let forbidden = ends
            .filter_map(|end| judge.judge(end, &opened).err())
            .next()?;
        Some(Narrowed {
            kind,
            grant,
            address: forbidden.address,
            range: forbidden.range,
        })
    });
    Ok(closed.collect())
}

/// Whether the operator's own grants of this kind name the address.
fn opened(grants: &Grants, kind: &str, address: IpAddr) -> bool {
    let operator = &grants.operator;
    let networks: Vec<Network> = match kind {
        "http" => operator
            .http
            .iter()
            .flat_map(|grant| grant.networks())
            .collect(),
        "tcp" => operator
            .tcp
            .iter()
            .flat_map(|grant| grant.networks())
            .collect(),
        _ => operator
            .udp
            .iter()
            .flat_map(|grant| grant.networks())
            .collect(),
    };
    networks.iter().any(|network| names(network, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(grants: &Grants, allow: &[&str]) -> String {
        let policy = NetworkPolicy {
            allow: allow.iter().map(|text| (*text).to_owned()).collect(),
            ..NetworkPolicy::default()
        };
        let all = narrowed(grants, &policy).unwrap();
        let shown = all
            .iter()
            .map(|one| format!("{} {} {}", one.kind, one.address, one.range));
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_grant_of_a_special_address_needs_the_operator_s_word() {
        let mut grants = Grants {
            http: ["http://localhost:8080", "https://example.com", "*://*:*"]
                .map(|text| text.parse().unwrap())
                .into(),
            tcp: ["10.0.0.5:5432", "8.8.8.8:53", "*:*"]
                .map(|text| text.parse().unwrap())
                .into(),
            udp: vec!["8.0.0.0/7:53".parse().unwrap()],
            ..Grants::default()
        };
        assert_eq!(
            found(&grants, &[]),
            "http 127.0.0.1 loopback, tcp 10.0.0.5 private"
        );
        assert_eq!(found(&grants, &["10.0.0.0/8"]), "http 127.0.0.1 loopback");
        grants.operator.http = vec!["http://localhost:*".parse().unwrap()];
        assert_eq!(found(&grants, &["10.0.0.5"]), "");
    }
}
