//! Addresses and ports that a guest may dial, send to or bind.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{GrantError, Network};

/// Addresses and ports, written `ADDRESS[/BITS]:PORTS`.
///
/// `10.0.0.5:5432`, `[::1]:53`, `10.0.0.0/8:5432`, `[fd00::]/8:443`, `127.0.0.1:8000-8100`, `127.0.0.1:*`, `*:*`;
/// `localhost:80` is 127.0.0.1 and ::1. Names are refused: what a name means can change after it was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressGrant {
    addresses: Addresses,
    /// First and last port.
    ports: (u16, u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Addresses {
    Any,
    Localhost,
    Net { base: IpAddr, bits: u8 },
}

impl AddressGrant {
    /// Whether this address may be dialled, sent to or bound. An IPv4-mapped IPv6 address counts as the IPv4 address
    /// that the kernel would use.
    pub fn permits(&self, address: SocketAddr) -> bool {
        let (first, last) = self.ports;
        let ip = address.ip().to_canonical();
        let inside = match &self.addresses {
            Addresses::Any => true,
            Addresses::Localhost => ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST,
            Addresses::Net { base, bits } => {
                masked(ip, *bits) == *base && ip.is_ipv4() == base.is_ipv4()
            }
        };
        inside && (first..=last).contains(&address.port())
    }

    /// The addresses that it names; none where it stands for all of them.
    pub fn networks(&self) -> Vec<Network> {
        match self.addresses {
            Addresses::Any => Vec::new(),
            Addresses::Localhost => Network::LOCALHOST.to_vec(),
            Addresses::Net { base, bits } => vec![Network::new(base, bits)],
        }
    }
}

/// That one address and port.
impl From<SocketAddr> for AddressGrant {
    fn from(address: SocketAddr) -> Self {
        let base = address.ip().to_canonical();
        Self {
            addresses: Addresses::Net {
                base,
                bits: if base.is_ipv4() { 32 } else { 128 },
            },
            ports: (address.port(), address.port()),
        }
    }
}

impl FromStr for AddressGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (addresses, ports) = split(text)?;
        Ok(Self {
            addresses: parse_addresses(addresses)?,
            ports: parse_ports(ports)?,
        })
    }
}

/// As it can be parsed again; the length of the prefix only where it is a network.
impl fmt::Display for AddressGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.addresses {
            Addresses::Any => f.write_str("*")?,
            Addresses::Localhost => f.write_str("localhost")?,
            Addresses::Net {
                base: IpAddr::V4(base),
                bits: 32,
            } => write!(f, "{base}")?,
            Addresses::Net {
                base: IpAddr::V4(base),
                bits,
            } => write!(f, "{base}/{bits}")?,
            Addresses::Net {
                base: IpAddr::V6(base),
                bits: 128,
            } => write!(f, "[{base}]")?,
            Addresses::Net {
                base: IpAddr::V6(base),
                bits,
            } => write!(f, "[{base}]/{bits}")?,
        }
        match self.ports {
            (0, u16::MAX) => f.write_str(":*"),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

/// Splits at the colon in front of the ports.
fn split(text: &str) -> Result<(&str, &str), GrantError> {
    let unbracketed = |text: &str| !text.contains('[') && text.matches(':').count() > 1;
    if unbracketed(text) {
        return Err(GrantError::new(
            format!("\"{text}\" is not an address and a port"),
            "put an IPv6 address in brackets: [::1]:53",
        ));
    }
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    match text.rfind(':').filter(|colon| *colon >= after_bracket) {
        Some(colon) => Ok((
            text.get(..colon).unwrap_or(""),
            text.get(colon + 1..).unwrap_or(""),
        )),
        None => Err(GrantError::new(
            format!("\"{text}\" has no port"),
            format!(
                "add one, or * for every port: {}:*",
                if text.is_empty() { "127.0.0.1" } else { text }
            ),
        )),
    }
}

fn parse_addresses(text: &str) -> Result<Addresses, GrantError> {
    match text {
        "*" => return Ok(Addresses::Any),
        "localhost" => return Ok(Addresses::Localhost),
        _ => {}
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let base = match address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(bare) => bare.parse().map(IpAddr::V6).ok(),
        None => address.parse().map(IpAddr::V4).ok(),
    };
    let Some(base) = base else {
        return Err(not_an_address(address));
    };
    let width = if base.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(bits) => bits
            .parse()
            .ok()
            .filter(|bits| *bits <= width)
            .ok_or_else(|| {
                GrantError::new(
                    format!("\"/{bits}\" is not the length of a network prefix"),
                    format!("write a number from 0 to {width}"),
                )
            })?,
    };
    if masked(base, bits) != base {
        return Err(GrantError::new(
            format!("\"{text}\" has address bits behind its prefix"),
            match masked(base, bits) {
                IpAddr::V4(net) => {
                    format!("write {net}/{bits} for the network, or {base} for the one address")
                }
                IpAddr::V6(net) => {
                    format!("write [{net}]/{bits} for the network, or [{base}] for the one address")
                }
            },
        ));
    }
    // Addresses are judged in their canonical form, so a grant for IPv4 written as IPv6 must be in that form too.
    Ok(match (base.to_canonical(), bits.checked_sub(96)) {
        (IpAddr::V4(inner), Some(inner_bits)) if base.is_ipv6() => Addresses::Net {
            base: IpAddr::V4(inner),
            bits: inner_bits,
        },
        _ => Addresses::Net { base, bits },
    })
}

fn not_an_address(text: &str) -> GrantError {
    let name_like = text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*'));
    if name_like {
        return GrantError::new(
            format!("\"{text}\" is a name, and this grant needs an address"),
            "write the address, for example 10.0.0.5:5432 or 10.0.0.0/8:5432; only http grants take names",
        );
    }
    GrantError::new(
        format!("\"{text}\" is not an address"),
        "write for example 10.0.0.5:5432, [::1]:53, 10.0.0.0/8:5432, localhost:80 or *:*",
    )
}

fn parse_ports(text: &str) -> Result<(u16, u16), GrantError> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let ports = match text.split_once('-') {
        _ if text == "*" => Some((0, u16::MAX)),
        None => number(text).map(|port| (port, port)),
        Some((first, last)) => number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last),
    };
    ports.ok_or_else(|| {
        GrantError::new(
            format!("\"{text}\" is not a port"),
            "write a number up to 65535, a range such as 8000-8100, or * for every port",
        )
    })
}

/// The first `bits` of an address, the rest zero.
pub(super) fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(u32::from(bits)))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(u32::from(bits)))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(text: &str) -> AddressGrant {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn permits(text: &str, address: &str) -> bool {
        grant(text).permits(address.parse().expect(address))
    }

    #[test]
    fn an_address_grants_itself_and_nothing_else() {
        for text in ["127.0.0.1:9000", "[::1]:9000", "[::ffff:10.0.0.1]:9000"] {
            let address: SocketAddr = text.parse().unwrap();
            let grant = AddressGrant::from(address);
            assert!(grant.permits(address), "{text}");
            for other in [
                "127.0.0.1:9001",
                "127.0.0.2:9000",
                "[::2]:9000",
                "[::]:9000",
            ] {
                assert!(!grant.permits(other.parse().unwrap()), "{text} {other}");
            }
        }
    }

    #[test]
    fn what_a_grant_covers() {
        for (text, address) in [
            ("10.0.0.5:5432", "10.0.0.5:5432"),
            ("10.0.0.5:5432", "[::ffff:10.0.0.5]:5432"),
            ("[::ffff:10.0.0.5]:5432", "10.0.0.5:5432"),
            ("[::ffff:10.0.0.0]/104:5432", "10.200.0.5:5432"),
            ("[::1]:53", "[::1]:53"),
            ("10.0.0.0/8:5432", "10.255.255.255:5432"),
            ("10.0.0.0/8:5432", "[::ffff:10.1.2.3]:5432"),
            ("0.0.0.0/0:1", "255.255.255.255:1"),
            ("[fd00::]/8:443", "[fdff::1]:443"),
            ("[::]/0:443", "[2001:db8::1]:443"),
            ("127.0.0.1:8000-8100", "127.0.0.1:8000"),
            ("127.0.0.1:8000-8100", "127.0.0.1:8100"),
            ("127.0.0.1:*", "127.0.0.1:0"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost:80", "[::1]:80"),
            ("localhost:80", "[::ffff:127.0.0.1]:80"),
            ("*:53", "8.8.8.8:53"),
            ("*:*", "[2001:db8::1]:65535"),
        ] {
            assert!(permits(text, address), "{text} must cover {address}");
            assert_eq!(grant(text).to_string().parse(), Ok(grant(text)));
        }
    }

    #[test]
    fn what_a_grant_does_not_cover() {
        for (text, address) in [
            ("10.0.0.5:5432", "10.0.0.6:5432"),
            ("10.0.0.5:5432", "10.0.0.5:5433"),
            ("10.0.0.5:5432", "[::10.0.0.5]:5432"),
            ("10.0.0.0/8:5432", "11.0.0.0:5432"),
            ("[::1]:53", "127.0.0.1:53"),
            ("[::]/0:443", "10.0.0.1:443"),
            ("[::]/0:443", "[::ffff:10.0.0.1]:443"),
            ("0.0.0.0/0:443", "[::1]:443"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("127.0.0.1:8000-8100", "127.0.0.1:7999"),
            ("127.0.0.1:8000-8100", "127.0.0.1:8101"),
            ("localhost:80", "127.0.0.2:80"),
            ("localhost:80", "[::2]:80"),
            ("*:53", "8.8.8.8:54"),
        ] {
            assert!(!permits(text, address), "{text} must not cover {address}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, what) in [
            ("", "\"\" has no port"),
            ("10.0.0.5", "\"10.0.0.5\" has no port"),
            ("[::1]", "\"[::1]\" has no port"),
            ("::1", "\"::1\" is not an address and a port"),
            (
                "db.example.com:5432",
                "\"db.example.com\" is a name, and this grant needs an address",
            ),
            (
                "*.example.com:80",
                "\"*.example.com\" is a name, and this grant needs an address",
            ),
            (
                "localhost/8:80",
                "\"localhost\" is a name, and this grant needs an address",
            ),
            (":80", "\"\" is not an address"),
            ("10.0.0:80", "\"10.0.0\" is not an address"),
            ("10.0.0.256:80", "\"10.0.0.256\" is not an address"),
            ("010.0.0.1:80", "\"010.0.0.1\" is not an address"),
            ("[10.0.0.1]:80", "\"[10.0.0.1]\" is not an address"),
            ("[fe80::1%eth0]:80", "\"[fe80::1%eth0]\" is not an address"),
            (
                "10.0.0.0/33:80",
                "\"/33\" is not the length of a network prefix",
            ),
            (
                "10.0.0.0/:80",
                "\"/\" is not the length of a network prefix",
            ),
            (
                "10.0.0.5/8:80",
                "\"10.0.0.5/8\" has address bits behind its prefix",
            ),
            (
                "[fd00::1]/8:80",
                "\"[fd00::1]/8\" has address bits behind its prefix",
            ),
            ("10.0.0.5:", "\"\" is not a port"),
            ("10.0.0.5:http", "\"http\" is not a port"),
            ("10.0.0.5:65536", "\"65536\" is not a port"),
            ("10.0.0.5:+1", "\"+1\" is not a port"),
            ("10.0.0.5:90-80", "\"90-80\" is not a port"),
            ("10.0.0.5:80-", "\"80-\" is not a port"),
        ] {
            let error = text.parse::<AddressGrant>().expect_err(text);
            assert_eq!(error.what, what, "{text}");
            assert!(!error.help.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_panics(text in ".{0,40}", address: SocketAddr) {
            if let Ok(grant) = text.parse::<AddressGrant>() {
                grant.permits(address);
            }
        }

        /// One address, however it is written, covers that address and no other.
        #[test]
        fn an_address_covers_only_itself(granted: (IpAddr, u16), asked: (IpAddr, u16)) {
            let (granted, asked) = (SocketAddr::from(granted), SocketAddr::from(asked));
            let grant = grant(&granted.to_string());
            prop_assert!(grant.permits(granted));
            prop_assert_eq!(grant.to_string().parse(), Ok(grant.clone()));
            let same = granted.ip().to_canonical() == asked.ip().to_canonical() && granted.port() == asked.port();
            prop_assert_eq!(grant.permits(asked), same);
        }

        /// A network covers an address exactly when the leading bits agree.
        #[test]
        fn a_network_covers_its_prefix(base: u32, asked: u32, bits in 0_u8..=32) {
            let net = masked(Ipv4Addr::from_bits(base).into(), bits);
            let grant = grant(&format!("{net}/{bits}:*"));
            let agree = bits == 0 || (base ^ asked) >> (32 - bits) == 0;
            prop_assert_eq!(grant.permits(SocketAddr::new(Ipv4Addr::from_bits(asked).into(), 1)), agree);
        }
    }
}
