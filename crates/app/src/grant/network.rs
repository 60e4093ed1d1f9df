//! Networks of addresses, as an operator names them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::GrantError;
use super::address::masked;

/// All addresses with the same first bits, written `ADDRESS` or `ADDRESS/BITS`; brackets around IPv6 may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// `base` has no bit set behind the first `bits`.
    pub(super) fn new(base: IpAddr, bits: u8) -> Self {
        Self { base, bits }
    }

    /// One address.
    pub(super) fn of(address: IpAddr) -> Self {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self::new(address, bits)
    }

    /// What `localhost` stands for.
    pub(super) const LOCALHOST: [Self; 2] = [
        Self {
            base: IpAddr::V4(Ipv4Addr::LOCALHOST),
            bits: 32,
        },
        Self {
            base: IpAddr::V6(Ipv6Addr::LOCALHOST),
            bits: 128,
        },
    ];

    /// Whether the address is one of them. IPv4 inside IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && masked(address, self.bits) == self.base
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.base
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        let shift = u32::from(self.bits);
        match self.base {
            IpAddr::V4(base) => {
                let host = u32::MAX.checked_shr(shift).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() | host))
            }
            IpAddr::V6(base) => {
                let host = u128::MAX.checked_shr(shift).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() | host))
            }
        }
    }
}

impl FromStr for Network {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let base: Option<IpAddr> = match bare {
            Some(bare) => bare.parse().ok().map(IpAddr::V6),
            None => address.parse().ok(),
        };
        let Some(base) = base.map(|base| base.to_canonical()) else {
            return Err(GrantError::new(
                format!("\"{text}\" is not an address or a network"),
                "write for example 127.0.0.1, 10.0.0.0/8, ::1 or fd00::/8",
            ));
        };
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => Some(width),
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width),
        };
        let Some(bits) = bits else {
            return Err(GrantError::new(
                format!("\"{text}\" has no valid length behind its slash"),
                format!("write a number from 0 to {width}"),
            ));
        };
        if masked(base, bits) != base {
            return Err(GrantError::new(
                format!("\"{text}\" has address bits behind its prefix"),
                format!("write {}/{bits}", masked(base, bits)),
            ));
        }
        Ok(Self { base, bits })
    }
}

/// As it can be parsed again; the length only where it is more than one address.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.base, self.bits) {
            (IpAddr::V4(base), 32) => write!(f, "{base}"),
            (IpAddr::V6(base), 128) => write!(f, "{base}"),
            (base, bits) => write!(f, "{base}/{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_network_has_a_first_a_last_and_what_is_between() {
        for (text, shown, first, last, inside, outside) in [
            (
                "10.0.0.0/8",
                "10.0.0.0/8",
                "10.0.0.0",
                "10.255.255.255",
                "::ffff:10.9.8.7",
                "11.0.0.0",
            ),
            (
                "127.0.0.1",
                "127.0.0.1",
                "127.0.0.1",
                "127.0.0.1",
                "127.0.0.1",
                "127.0.0.2",
            ),
            (
                "[fd00::]/8",
                "fd00::/8",
                "fd00::",
                "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fd12::1",
                "fe00::",
            ),
            ("::1/128", "::1", "::1", "::1", "::1", "127.0.0.1"),
            (
                "0.0.0.0/0",
                "0.0.0.0/0",
                "0.0.0.0",
                "255.255.255.255",
                "1.2.3.4",
                "::1",
            ),
            (
                "::ffff:10.0.0.1",
                "10.0.0.1",
                "10.0.0.1",
                "10.0.0.1",
                "10.0.0.1",
                "10.0.0.2",
            ),
        ] {
            let network = network(text);
            assert_eq!(network.to_string(), shown);
            assert_eq!(shown.parse(), Ok(network));
            assert_eq!(network.first().to_string(), first);
            assert_eq!(network.last().to_string(), last);
            assert!(network.contains(inside.parse().unwrap()), "{text}");
            assert!(!network.contains(outside.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_network_says_how_to_write_one() {
        for (text, what) in [
            ("", "\"\" is not an address or a network"),
            (
                "example.com",
                "\"example.com\" is not an address or a network",
            ),
            (
                "[10.0.0.1]",
                "\"[10.0.0.1]\" is not an address or a network",
            ),
            (
                "10.0.0.0/33",
                "\"10.0.0.0/33\" has no valid length behind its slash",
            ),
            (
                "10.0.0.0/",
                "\"10.0.0.0/\" has no valid length behind its slash",
            ),
            (
                "10.0.0.1/8",
                "\"10.0.0.1/8\" has address bits behind its prefix",
            ),
        ] {
            let error = text.parse::<Network>().expect_err(text);
            assert_eq!(error.what, what);
            assert!(!error.help.is_empty());
        }
    }
}
