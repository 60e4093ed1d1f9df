//! What a service manager that started this process is told of its life: `sd_notify(3)`.
//!
//! One datagram for each state to the Unix socket that `NOTIFY_SOCKET` names: a path, or an abstract name behind `@`. A manager
//! that does not listen is nobody's failure, so nothing is waited for and no error is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::sleep;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear from us.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Self::new(
            &variable("NOTIFY_SOCKET"),
            (&variable("WATCHDOG_USEC"), &variable("WATCHDOG_PID")),
        )
    }

    fn new(path: &str, (period, pid): (&str, &str)) -> Self {
        let ours = pid.is_empty() || pid.parse() == Ok(std::process::id());
        let period = period.parse().ok().filter(|micros| ours && *micros > 0);
        Self {
            socket: open(path),
            // In half of the time, as the manual advises.
            watchdog: period.map(|micros: u64| Duration::from_micros(micros / 2)),
        }
    }

    /// The app is served.
    pub(crate) fn ready(&self) {
        self.say("READY=1");
    }

    /// The drain begins.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Says again and again that the process lives; ends only by being dropped.
    pub(crate) async fn watchdog(&self) {
        let Some(period) = self.watchdog.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        loop {
            self.say("WATCHDOG=1");
            sleep(period).await;
        }
    }

    fn say(&self, state: &str) {
        if let Some((socket, manager)) = &self.socket {
            let _heard = socket.send_to_addr(state.as_bytes(), manager);
        }
    }
}

fn open(path: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let manager = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if path.starts_with('/') => SocketAddr::from_pathname(path),
        None => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    // A full queue must not hold anybody up.
    socket.set_nonblocking(true).ok()?;
    Some((socket, manager.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_manager_hears_of_every_state() {
        let path = std::env::temp_dir().join(format!("hostel-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::new(path.to_str().unwrap(), ("2000", ""));
        manager.ready();
        assert_eq!(heard(&socket), "READY=1");
        let _goes_on = tokio::time::timeout(Duration::from_millis(40), manager.watchdog()).await;
        socket.set_nonblocking(true).unwrap();
        let mut beats = 0;
        let mut bytes = [0; 64];
        while let Ok(length) = socket.recv(&mut bytes) {
            assert_eq!(&bytes[..length], b"WATCHDOG=1");
            beats += 1;
        }
        assert!(beats >= 1, "at once, and then again and again");
        manager.stopping();
        assert_eq!(heard(&socket), "STOPPING=1");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_abstract_name_is_one_too() {
        let name = format!("hostel-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Manager::new(&format!("@{name}"), ("", "")).stopping();
        assert_eq!(heard(&socket), "STOPPING=1");
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        for path in ["", "relative", "/nowhere/at/all"] {
            Manager::new(path, ("", "")).ready();
        }
        let period = |micros, pid: &str| Manager::new("", (micros, pid)).watchdog;
        assert_eq!(period("2000", ""), Some(Duration::from_millis(1)));
        assert_eq!(period("2000", "1"), None, "another process's");
        assert_eq!((period("", ""), period("0", "")), (None, None));
    }
}
