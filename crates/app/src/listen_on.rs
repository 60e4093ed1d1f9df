//! [`ListenOn`]: where a server or a service listens. Only reads and writes the text; `server` opens sockets.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// What stands in front of the name of an inherited socket.
const INHERITED: &str = "fd:";

/// A place to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenOn {
    /// An address of this machine; port 0 is any free one.
    Address(SocketAddr),
    /// A socket that whoever started the process has opened (systemd's socket activation), by its name or by its number.
    Inherited(String),
}

/// The text is neither an address nor the name of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPlace;

impl ListenOn {
    /// Whether no two can listen there: any free port is another one each time.
    pub fn is_one_place(&self) -> bool {
        !matches!(self, Self::Address(address) if address.port() == 0)
    }
}

/// `127.0.0.1:3000`, `[::1]:0`; `localhost:3000`, `:3000` and `3000` mean 127.0.0.1, because a port alone must not open the
/// machine to the network; `fd:NAME` or `fd:3` is an inherited socket. Other names are not looked up: which interface they
/// mean would depend on a resolver.
impl FromStr for ListenOn {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if let Some(name) = text.strip_prefix(INHERITED) {
            let plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
            return match !name.is_empty() && name.len() <= 255 && name.bytes().all(plain) {
                true => Ok(Self::Inherited(name.to_owned())),
                false => Err(NotAPlace),
            };
        }
        let mut prefixes = ["localhost:", ":"].iter();
        let port = prefixes.find_map(|host| text.strip_prefix(host));
        if let Ok(port) = port.unwrap_or(text).parse() {
            return Ok(Self::Address((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::Address).map_err(|_| NotAPlace)
    }
}

impl fmt::Display for ListenOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Inherited(name) => write!(f, "{INHERITED}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (text, shown) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:80", "127.0.0.1:80"),
            (":80", "127.0.0.1:80"),
            ("80", "127.0.0.1:80"),
            ("fd:broker", "fd:broker"),
            ("fd:3", "fd:3"),
        ] {
            let place: ListenOn = text.parse().unwrap();
            assert_eq!(place.to_string(), shown);
            assert_eq!(shown.parse(), Ok(place));
        }
        for bad in [
            "",
            "fd:",
            "fd:a b",
            "fd:a:b",
            "fd:\n",
            "::1:3000x",
            "example.com:80",
            "127.0.0.1",
            "127.0.0.1:65536",
            "localhost:",
        ] {
            assert_eq!(bad.parse::<ListenOn>(), Err(NotAPlace), "{bad}");
        }
    }

    #[test]
    fn any_free_port_can_be_asked_for_twice() {
        let one_place = |text: &str| text.parse::<ListenOn>().unwrap().is_one_place();
        assert!(!one_place("127.0.0.1:0"));
        assert!(one_place("127.0.0.1:1") && one_place("fd:3"));
    }
}
