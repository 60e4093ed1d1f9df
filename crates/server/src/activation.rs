//! Sockets that whoever started this process has opened for it: systemd's socket activation, `sd_listen_fds(3)`.
//!
//! `LISTEN_FDS` says how many there are, from descriptor 3 on, `LISTEN_FDNAMES` how they are called, and `LISTEN_PID` whom
//! they are for: a process that merely inherited these variables must not touch descriptors that are something else to it.
//! They are asked for once, before anything else is opened, and removed from the environment.

use std::io;
use std::net::TcpListener;
use std::process;

use hostel_app::ListenOn;
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::listen::{Bound, ListenError};

/// The first descriptor that is handed over.
const FIRST: usize = 3;

/// The listening sockets of the service manager.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Given>);

/// One of them.
#[derive(Debug)]
struct Given {
    number: usize,
    /// Empty where it has none; several may have the same.
    name: String,
    socket: TcpListener,
}

/// What was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the service manager's socket fd:{number} cannot be used: {cause}\n  \
     help: hand over listening TCP sockets: in a unit of systemd `ListenStream=` with a port, without `Accept=yes`"
)]
pub struct ActivationError {
    number: usize,
    cause: io::Error,
}

impl Inherited {
    /// Takes the sockets that are meant for this process; none where none are. To be called once, early.
    ///
    /// # Errors
    ///
    /// One of them is no listening TCP socket.
    pub fn of_environment() -> Result<Self, ActivationError> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (pid, names) = (variable("LISTEN_PID"), variable("LISTEN_FDNAMES"));
        if !is_for(&pid, process::id()) {
            return Ok(Self::default());
        }
        let mut sockets = ListenFd::from_env();
        let mut names = names.split(':');
        let mut all = Vec::with_capacity(sockets.len());
        for index in 0..sockets.len() {
            let number = FIRST + index;
            let bad = |cause| ActivationError { number, cause };
            let taken = sockets.take_tcp_listener(index).map_err(bad)?;
            let socket = taken.ok_or_else(|| bad(io::ErrorKind::NotFound.into()))?;
            all.push(Given {
                number,
                name: names.next().unwrap_or_default().to_owned(),
                socket: listening(socket).map_err(bad)?,
            });
        }
        Ok(Self(all))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a server listens that was told nothing else: on all of them that no service is to have.
    pub fn places_without<'p>(
        &self,
        taken: impl Iterator<Item = &'p ListenOn> + Clone,
    ) -> Vec<ListenOn> {
        let is_taken = |given: &&Given| {
            let mut taken = taken.clone();
            taken.any(|place| matches!(place, ListenOn::Inherited(name) if given.is(name)))
        };
        let free = self.0.iter().filter(|given| !is_taken(given));
        free.map(|given| ListenOn::Inherited(given.number.to_string()))
            .collect()
    }

    /// Those of this name or number.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<&TcpListener>, ListenError> {
        let found = self.0.iter().filter(|given| given.is(name));
        let found: Vec<_> = found.map(|given| &given.socket).collect();
        if found.is_empty() {
            return Err(ListenError::NotInherited {
                name: name.to_owned(),
                known: self.known(),
            });
        }
        Ok(found)
    }

    /// The same, each as often as there are threads to accept from it.
    pub(crate) fn shared(&self, name: &str, count: usize) -> Result<Vec<Bound>, ListenError> {
        let bound = self.all(name)?.into_iter().map(|socket| {
            let sockets: io::Result<_> = (0..count).map(|_| socket.try_clone()).collect();
            Ok(Bound {
                address: socket.local_addr()?,
                sockets: sockets?,
            })
        });
        bound
            .collect::<io::Result<_>>()
            .map_err(|error| ListenError::Inherited {
                name: name.to_owned(),
                error,
            })
    }

    fn known(&self) -> String {
        let known = self.0.iter().map(|given| match given.name.as_str() {
            "" => format!("fd:{}", given.number),
            name => format!("fd:{name}"),
        });
        known.collect::<Vec<_>>().join(", ")
    }
}

impl Given {
    fn is(&self, name: &str) -> bool {
        self.name == name || name.parse() == Ok(self.number)
    }
}

/// Whether the variables are about the process of this number.
fn is_for(listen_pid: &str, own: u32) -> bool {
    listen_pid.parse() == Ok(own)
}

/// The socket as ours are: it never makes a thread wait.
fn listening(socket: TcpListener) -> io::Result<TcpListener> {
    if !socket_acceptconn(&socket)? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it does not listen",
        ));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Sockets with these names, from descriptor 3 on as it were.
    fn inherited(names: &[&str]) -> Inherited {
        let given = |(index, name): (usize, &&str)| Given {
            number: FIRST + index,
            name: (*name).to_owned(),
            socket: listening(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap(),
        };
        Inherited(names.iter().enumerate().map(given).collect())
    }

    fn place(text: &str) -> ListenOn {
        text.parse().unwrap()
    }

    #[test]
    fn they_are_for_one_process_only() {
        assert!(is_for("17", 17));
        for other in ["18", "", "-17", "17 "] {
            assert!(!is_for(other, 17), "{other}");
        }
    }

    #[test]
    fn a_name_stands_for_all_that_have_it_and_a_number_for_one() {
        let sockets = inherited(&["web", "web", "", "broker"]);
        assert_eq!(sockets.all("web").unwrap().len(), 2);
        assert_eq!(sockets.all("5").unwrap().len(), 1);
        let message = sockets.all("other").unwrap_err().to_string();
        assert!(
            message.contains("fd:web, fd:web, fd:5, fd:broker"),
            "{message}"
        );
        let services = [place("fd:broker"), place("127.0.0.1:1")];
        let free = sockets.places_without(services.iter());
        assert_eq!(free, [place("fd:3"), place("fd:4"), place("fd:5")]);
    }

    #[test]
    fn every_thread_has_the_socket() {
        let sockets = inherited(&["web"]);
        let bound = sockets.shared("web", 3).unwrap();
        assert_eq!((bound.len(), bound[0].sockets.len()), (1, 3));
        let _client = TcpStream::connect_timeout(&bound[0].address, PATIENCE).unwrap();
        let accepted = bound[0]
            .sockets
            .iter()
            .filter(|socket| socket.accept().is_ok());
        assert_eq!(accepted.count(), 1, "and none of them waits");
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        use socket2::{Domain, Socket, Type};
        let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let error = listening(plain.into()).unwrap_err();
        assert!(error.to_string().contains("does not listen"), "{error}");
        let error = ActivationError {
            number: 3,
            cause: error,
        };
        assert!(error.to_string().contains("ListenStream="), "{error}");
    }
}
