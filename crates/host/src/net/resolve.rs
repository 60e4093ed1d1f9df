//! Names and addresses: what a guest may write as a host, and the one place that asks the system's resolver.
//!
//! A host is an address in its one usual form or a name. What other parsers would read as an address (`127.1`,
//! `0x7f.0.0.1`, `2130706433`) is neither, so it never reaches a resolver that would understand it. The answers are not
//! judged here.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::{fmt, io};

use hostel_app::grant::is_neighbour;
use hostel_app::limits;
use tokio::sync::Semaphore;

/// A host as a guest may write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Address(IpAddr),
    /// In lower case; a dot at its end is kept, because it means something to a resolver.
    Name(Box<str>),
}

impl Host {
    /// Reads the host of a URI, where IPv6 is in brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(bare) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            return bare.parse().ok().map(IpAddr::V6).map(Self::Address);
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let bare = text.strip_suffix('.').unwrap_or(text);
        let last = bare.rsplit('.').next()?;
        // What ends in a number is an address to everyone who reads it (WHATWG URL), only not to everyone the same.
        let number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last
                .get(..2)
                .is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        (is_name(bare) && !number).then(|| Self::Name(text.to_ascii_lowercase().into()))
    }

    /// As it stands in front of a port, without the dot at the end of a name.
    pub(crate) fn bare(&self) -> String {
        match self {
            Self::Address(IpAddr::V4(address)) => address.to_string(),
            Self::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Self::Name(name) => name.strip_suffix('.').unwrap_or(name).to_owned(),
        }
    }
}

/// Labels of letters, digits, dashes and underscores.
fn is_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(inside);
    name.len() <= 253 && name.split('.').all(label)
}

/// Who knows the addresses of names. A look-up may take its time: it is made on a thread for that.
pub(crate) trait Resolver: Send + Sync {
    /// Every address of the name, in the order in which they are to be tried.
    fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's own, with its hosts file and its search domains.
struct System;

impl Resolver for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that resolves names for guests"
    )]
    fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let all = (name, 0).to_socket_addrs()?;
        Ok(all.map(|address| address.ip()).collect())
    }
}

/// The look-ups of one app.
#[derive(Clone)]
pub(crate) struct Names {
    resolver: Arc<dyn Resolver>,
    /// A look-up that nobody waits for any more still has its thread until the resolver gives up.
    places: Arc<Semaphore>,
}

impl Names {
    pub(crate) fn system() -> Self {
        Self::of(Arc::new(System))
    }

    pub(crate) fn of(resolver: Arc<dyn Resolver>) -> Self {
        Self {
            resolver,
            places: Arc::new(Semaphore::new(limits::LOOKUPS.size())),
        }
    }

    /// The same resolver for another app.
    pub(crate) fn for_another(&self) -> Self {
        Self::of(self.resolver.clone())
    }

    /// Every address of a name, asked once. Nobody is asked for one of the app's own components.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if is_neighbour(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let place = self.places.clone().acquire_owned().await;
        let (resolver, name) = (self.resolver.clone(), name.to_owned());
        let look_up = tokio::task::spawn_blocking(move || {
            let _place = place;
            resolver.addresses(&name)
        });
        look_up.await.map_err(io::Error::other)?
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_address_has_one_spelling_and_everything_else_is_a_name_or_nothing() {
        let address = |text: &str| Some(Host::Address(text.parse().unwrap()));
        assert_eq!(Host::parse("127.0.0.1"), address("127.0.0.1"));
        assert_eq!(Host::parse("[::1]"), address("::1"));
        assert_eq!(Host::parse("[::ffff:127.0.0.1]"), address("::ffff:7f00:1"));
        for (name, bare) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com.", "example.com"),
            ("localhost", "localhost"),
            ("a-b_c.d1", "a-b_c.d1"),
            ("1.example", "1.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            let host = Host::parse(name).expect(name);
            assert_eq!(host, Host::Name(name.to_ascii_lowercase().into()));
            assert_eq!(host.bare(), bare);
        }
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0X7F.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.0x1",
            "127.0.0.01",
            "a.0x",
            "::1",
            "[127.0.0.1]",
            "[::1",
            "[fe80::1%25lo]",
            "[::1]x",
            "a b",
            "a%2eb",
            "a\\b",
            "a@b",
            "\u{ff11}27.0.0.1",
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }

    /// Answers when it is told to.
    struct Slow {
        waiting: AtomicUsize,
        go: Mutex<mpsc::Receiver<()>>,
    }

    impl Resolver for Slow {
        fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            self.waiting.fetch_add(1, SeqCst);
            let told = self.go.lock().unwrap().recv();
            told.map(|()| vec![]).map_err(io::Error::other)
        }
    }

    #[test]
    fn only_so_many_look_ups_are_made_at_once() {
        let most = limits::LOOKUPS.size();
        let (tell, go) = mpsc::sync_channel(100);
        let slow = Arc::new(Slow {
            waiting: AtomicUsize::new(0),
            go: Mutex::new(go),
        });
        let names = Names::of(slow.clone());
        crate::testing::block_on(async {
            let ask = |names: Names| tokio::spawn(async move { names.addresses("a").await });
            let abandoned: Vec<_> = (0..most).map(|_| ask(names.clone())).collect();
            while slow.waiting.load(SeqCst) < most {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            // Nobody waits for them any more, but they still have their threads.
            abandoned.iter().for_each(|task| task.abort());
            let late = ask(names.clone());
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(slow.waiting.load(SeqCst), most, "there is no place");
            (0..=most).for_each(|_| tell.send(()).unwrap());
            assert!(late.await.unwrap().unwrap().is_empty());
        });
    }
}
