//! Which addresses are not of the public internet, and which of those the operator opens all the same.
//!
//! An address is judged in its canonical form, and so is every IPv4 address that it carries for a translator or a tunnel:
//! `64:ff9b::7f00:1` is loopback to whoever translates it. The ranges are those of the registries of special-purpose
//! addresses (RFC 6890 and what followed it), and everything that is not global unicast.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hostel_app::grant::{GrantError, Network};

/// A range by its first address and the length of its prefix.
type Range<A> = (A, u32, &'static str);

const V4: [Range<Ipv4Addr>; 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    // Where AWS, GCP, Azure and others answer with credentials: 169.254.169.254.
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relays"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    // Azure's own, on every one of its machines, although the address is a public one.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "cloud metadata"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The first match counts.
const V6: [Range<Ipv6Addr>; 18] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 96, "IPv4-compatible"),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0),
        96,
        "IPv4-translated",
    ),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "NAT64"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "NAT64"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discard"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo"),
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        "protocol assignments",
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        "documentation",
    ),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        "documentation",
    ),
    (
        Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0),
        16,
        "segment routing",
    ),
    // The metadata service of AWS is fd00:ec2::254.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    // Above all that are named; below is global unicast.
    (Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0), 1, "reserved"),
];

/// Of all IPv6 addresses only these are global unicast.
const GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Why an address may not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forbidden {
    /// What the operator would have to allow: the address, or the one inside it.
    pub(crate) address: IpAddr,
    /// The name of its range.
    pub(crate) range: &'static str,
}

/// What the operator allows for every grant of every app.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    allow: Vec<Network>,
}

impl Policy {
    /// Reads the operator's list. The error comes with the text that was not understood.
    pub(crate) fn new(allow: &[String]) -> Result<Self, GrantError> {
        let allow = allow.iter().map(|text| text.parse());
        Ok(Self {
            allow: allow.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the address may be reached; `opened` says whether the operator's own grants name one that is special.
    pub(crate) fn judge(
        &self,
        address: IpAddr,
        opened: &dyn Fn(IpAddr) -> bool,
    ) -> Result<(), Forbidden> {
        let address = address.to_canonical();
        if let Some(range) = special(address)
            && !self.allow.iter().any(|network| network.contains(address))
            && !opened(address)
        {
            return Err(Forbidden { address, range });
        }
        if let IpAddr::V6(address) = address {
            for inner in carried(address) {
                self.judge(inner.into(), opened)?;
            }
        }
        Ok(())
    }
}

/// The range of an address that is not of the public internet.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => V4
            .iter()
            .find(|(base, bits, _)| same_v4(address, *base, *bits))
            .map(|(_, _, name)| *name),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let named = V6
        .iter()
        .find(|(base, bits, _)| same_v6(address, *base, *bits))
        .map(|(_, _, name)| *name);
    let (base, bits) = GLOBAL;
    match named {
        None if !same_v6(address, base, bits) => Some("reserved"),
        None if is_isatap(address) => Some("ISATAP"),
        named => named,
    }
}

fn same_v4(one: Ipv4Addr, other: Ipv4Addr, bits: u32) -> bool {
    let differ = one.to_bits() ^ other.to_bits();
    differ.leading_zeros() >= bits
}

fn same_v6(one: Ipv6Addr, other: Ipv6Addr, bits: u32) -> bool {
    let differ = one.to_bits() ^ other.to_bits();
    differ.leading_zeros() >= bits
}

/// An interface that tunnels to the IPv4 address in its last half (RFC 5214), behind any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [_, _, _, _, 0 | 0x0200, 0x5efe, _, _])
}

/// The IPv4 addresses that this one stands for at a translator or a tunnel.
fn carried(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let [_, _, a, b, c, d, e, f, _, g, h, i, w, x, y, z] = address.octets();
    let last = Ipv4Addr::new(w, x, y, z);
    match special_v6(address) {
        Some("IPv4-compatible" | "IPv4-translated" | "ISATAP") => vec![last],
        // Behind the local prefix it is where RFC 6052 puts it for 48 bits; some put it at the end.
        Some("NAT64") if (c, d) == (0, 1) => {
            let middle = Ipv4Addr::new(e, f, g, h);
            match (i, last.to_bits()) {
                (0, 0) => vec![middle],
                _ => vec![middle, last],
            }
        }
        Some("NAT64") => vec![last],
        Some("6to4") => vec![Ipv4Addr::new(a, b, c, d)],
        // The server, and the client with every bit turned over (RFC 4380).
        Some("Teredo") => vec![
            Ipv4Addr::new(c, d, e, f),
            Ipv4Addr::from_bits(!last.to_bits()),
        ],
        _ => vec![],
    }
}

/// Whether a grant of the operator's names this address. 10.0.0.0/8 names what is in it; 0.0.0.0/0 contains everything,
/// but only as a wildcard does.
pub(crate) fn names(network: &Network, address: IpAddr) -> bool {
    let first = special(network.first());
    network.contains(address) && first.is_some() && first == special(network.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        policy: &Policy,
        opened: &[Network],
        address: &str,
    ) -> Option<(String, &'static str)> {
        let opens = |address| opened.iter().any(|network| names(network, address));
        let forbidden = policy
            .judge(address.parse().expect(address), &opens)
            .err()?;
        Some((forbidden.address.to_string(), forbidden.range))
    }

    #[test]
    fn what_is_not_of_the_public_internet_is_refused_by_its_name() {
        let nothing = Policy::default();
        for (address, range) in [
            ("0.0.0.0", "this network"),
            ("0.1.2.3", "this network"),
            ("10.0.0.0", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "carrier-grade NAT"),
            ("100.100.100.200", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.192", "protocol assignments"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "6to4 relays"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("168.63.129.16", "cloud metadata"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::7f00:1", "IPv4-compatible"),
            ("::ffff:0:7f00:1", "IPv4-translated"),
            ("64:ff9b::7f00:1", "NAT64"),
            ("64:ff9b::808:808", "NAT64"),
            ("64:ff9b:1::7f00:1", "NAT64"),
            ("100::1", "discard"),
            ("2001::1", "Teredo"),
            ("2001:2::1", "protocol assignments"),
            ("2001:20::1", "protocol assignments"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("2002:808:808::1", "6to4"),
            ("3fff::1", "documentation"),
            ("5f00::1", "segment routing"),
            ("4000::1", "reserved"),
            ("a000::1", "reserved"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("2a00:1450::5efe:a00:1", "ISATAP"),
            ("2a00:1450::200:5efe:808:808", "ISATAP"),
        ] {
            let found = judged(&nothing, &[], address);
            assert_eq!(found, Some((address.to_owned(), range)), "{address}");
        }
        // Inside IPv6 they are the same addresses to the kernel.
        let mapped = judged(&nothing, &[], "::ffff:127.0.0.1");
        assert_eq!(mapped, Some(("127.0.0.1".to_owned(), "loopback")));
    }

    #[test]
    fn what_is_of_the_public_internet_is_not_refused() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "2a00:1450:4001:800::200e",
        ] {
            assert_eq!(judged(&Policy::default(), &[], address), None, "{address}");
        }
    }

    #[test]
    fn the_operator_opens_what_it_names_and_not_what_is_inside() {
        let policy = |allow: &[&str]| {
            let allow: Vec<String> = allow.iter().map(|text| (*text).to_owned()).collect();
            Policy::new(&allow).unwrap()
        };
        let private = policy(&["10.0.0.0/8"]);
        assert_eq!(judged(&private, &[], "10.1.2.3"), None);
        assert_eq!(judged(&private, &[], "::ffff:10.1.2.3"), None);
        assert!(judged(&private, &[], "192.168.0.1").is_some());
        assert!(judged(&private, &[], "64:ff9b::a01:203").is_some());
        let translator = policy(&["64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"]);
        assert_eq!(judged(&translator, &[], "64:ff9b::808:808"), None);
        for (address, inside) in [
            ("64:ff9b::a01:203", "10.1.2.3"),
            ("64:ff9b:1:a01:2:300::", "10.1.2.3"),
            ("64:ff9b:1:a01:2:300:808:808", "10.1.2.3"),
            ("64:ff9b:1:808:8:800:a01:203", "10.1.2.3"),
            ("2002:a01:203::1", "10.1.2.3"),
            ("2001:0:a01:203:0:0:f7f7:f7f7", "10.1.2.3"),
            ("2001:0:808:808:0:0:f5fe:fdfc", "10.1.2.3"),
        ] {
            let found = judged(&translator, &[], address);
            assert_eq!(found, Some((inside.to_owned(), "private")), "{address}");
        }
        assert_eq!(judged(&translator, &[], "64:ff9b:1:808:8:800::"), None);
        let both = policy(&["64:ff9b::/96", "10.0.0.0/8"]);
        assert_eq!(judged(&both, &[], "64:ff9b::a01:203"), None);
        assert_eq!(judged(&policy(&["0.0.0.0/0"]), &[], "127.0.0.1"), None);
        let wrong = Policy::new(&["10.0.0.0/8".to_owned(), "localhost".to_owned()]).unwrap_err();
        assert!(wrong.what.contains("localhost"));
    }

    #[test]
    fn a_grant_opens_what_it_names_and_a_wildcard_in_disguise_nothing() {
        let opened = |text: &str, address| {
            let network: Network = text.parse().unwrap();
            judged(&Policy::default(), &[network], address).is_none()
        };
        assert!(opened("127.0.0.1", "127.0.0.1"));
        assert!(!opened("127.0.0.1", "127.0.0.2"));
        assert!(opened("127.0.0.0/8", "127.9.9.9"));
        assert!(opened("10.0.0.0/8", "10.9.9.9"));
        assert!(opened("192.168.0.0/16", "192.168.1.1"));
        assert!(opened("fd00::/8", "fd12::1"));
        for wide in ["0.0.0.0/0", "0.0.0.0/1", "8.0.0.0/5", "192.0.0.0/2"] {
            assert!(!opened(wide, "127.0.0.1"), "{wide}");
            assert!(!opened(wide, "10.0.0.1"), "{wide}");
            assert!(!opened(wide, "192.168.0.1"), "{wide}");
        }
        for wide in ["::/0", "::/1", "::/96", "f000::/4"] {
            assert!(!opened(wide, "::1"), "{wide}");
            assert!(!opened(wide, "fd00::1"), "{wide}");
        }
    }
}
