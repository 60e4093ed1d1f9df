//! Names that change their minds: a name is resolved once for a connection, every answer is judged, and what is dialled
//! is what was judged.

use std::net::Ipv6Addr;
use std::time::Duration;

use hostel_app::limits;
use tokio::net::TcpSocket;

use super::*;
use crate::testing::block_on;

const ROUNDS: usize = 200;
/// Stands for a server of the public internet: the operator allows it.
const PUBLIC: &str = "127.0.0.2";
/// Ways to say 127.0.0.1 or ::1, and what else leads to this machine.
const FORBIDDEN: [&str; 8] = [
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "0.0.0.0",
    "::",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "::7f00:1",
];

/// Answers a name in one of several ways, another each time.
struct Rebinding {
    asked: AtomicUsize,
    /// Those that had a permitted address among them.
    good: AtomicUsize,
}

impl Rebinding {
    fn answers(round: usize) -> Vec<&'static str> {
        let bad = FORBIDDEN[round / 8 % FORBIDDEN.len()];
        match round % 8 {
            0 => vec![PUBLIC],
            1 => vec![bad],
            2 => vec![PUBLIC, bad],
            3 => vec![bad, PUBLIC],
            4 => vec![bad, PUBLIC, bad, PUBLIC],
            5 => vec![],
            6 => FORBIDDEN.to_vec(),
            _ => vec![PUBLIC],
        }
    }
}

impl Resolver for Rebinding {
    fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        // An alias, and another: only the last has addresses.
        let chain = ["rebind.example", "alias.example", "end.example"];
        let at = chain.iter().position(|alias| *alias == name);
        if let Some(next) = at.and_then(|at| chain.get(at + 1)) {
            return self.addresses(next);
        }
        let round = self.asked.fetch_add(1, SeqCst);
        if round % 8 == 7 {
            // On a thread for look-ups; nobody else waits.
            let (_never, slow) = std::sync::mpsc::sync_channel::<()>(0);
            let _never = slow.recv_timeout(Duration::from_millis(5));
        }
        let answers = Self::answers(round);
        if answers.is_empty() {
            return Err(io::Error::other("no such name"));
        }
        self.good
            .fetch_add(usize::from(answers.contains(&PUBLIC)), SeqCst);
        Ok(answers.iter().map(|text| text.parse().unwrap()).collect())
    }
}

/// Counts who connects.
struct Canary(Arc<AtomicUsize>);

impl Canary {
    /// Listens at both loopback addresses on the port of a server at the public one; tells where that one is.
    async fn beside_a_server() -> (Self, Server, u16) {
        loop {
            let server = Server::new(0).await;
            let port = server.port;
            let hits = Arc::<AtomicUsize>::default();
            let v4 = TcpListener::bind(("127.0.0.1", port)).await;
            let v6 = bind_v6(port);
            let (Ok(v4), Ok(v6)) = (v4, v6) else { continue };
            for listener in [v4, v6] {
                let hits = hits.clone();
                tokio::spawn(async move {
                    while listener.accept().await.is_ok() {
                        hits.fetch_add(1, SeqCst);
                    }
                });
            }
            return (Self(hits), server, port);
        }
    }

    fn hits(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Without IPv4: a wildcard of both would take the other's port.
fn bind_v6(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.bind((Ipv6Addr::LOCALHOST, port).into())?;
    socket.listen(16)
}

/// Answers one request on each connection.
struct Server {
    port: u16,
    served: Arc<AtomicUsize>,
}

impl Server {
    async fn new(port: u16) -> Self {
        let listener = TcpListener::bind((PUBLIC, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::<AtomicUsize>::default();
        let count = served.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let answer =
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\npublic";
                if request(&mut stream).await.is_some() {
                    let _gone = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        Self { port, served }
    }
}

#[test]
fn no_round_of_rebinding_reaches_what_is_forbidden() {
    block_on(async {
        let (canary, server, port) = Canary::beside_a_server().await;
        let resolver = Arc::new(Rebinding {
            asked: AtomicUsize::new(0),
            good: AtomicUsize::new(0),
        });
        let network = Network {
            names: Names::of(resolver.clone()),
            ..allowing(&[PUBLIC])
        };
        let guest = guest(grants("http", "http://*:*"), network);
        let uri = format!("http://rebind.example:{port}/");
        let mut answered = 0;
        for round in 0..ROUNDS {
            match send(&guest, get(&uri)).await {
                Ok((_, body)) => {
                    assert_eq!(body, "public", "round {round}");
                    answered += 1;
                }
                Err(Error::DestinationIpProhibited | Error::DnsError { .. }) => {}
                Err(error) => panic!("round {round}: {error:?}"),
            }
        }
        assert_eq!(canary.hits(), 0);
        assert_eq!(resolver.asked.load(SeqCst), ROUNDS, "resolved once each");
        let good = resolver.good.load(SeqCst);
        assert_eq!((answered, server.served.load(SeqCst)), (good, good));
        assert!(good >= ROUNDS / 2);
    });
}

/// The same where the operator allows it: the canary can be hit.
#[test]
fn the_canary_is_reached_where_the_operator_allows_it() {
    block_on(async {
        let (canary, _server, port) = Canary::beside_a_server().await;
        for (hits, address) in ["127.0.0.1", "::1"].into_iter().enumerate() {
            let (names, _) = names(&[&[address]]);
            let network = Network {
                names,
                ..allowing(&["127.0.0.0/8", "::1"])
            };
            let guest = guest(grants("http", "http://*:*"), network);
            let options = RequestOptions {
                first_byte_timeout: Some(Duration::from_millis(20)),
                ..RequestOptions::default()
            };
            let uri = format!("http://rebind.example:{port}/");
            let sent = send_within(&guest, get(&uri), Some(options)).await;
            assert!(sent.is_err(), "it does not answer");
            assert_eq!(canary.hits(), hits + 1);
        }
    });
}

/// A grant that names an address opens it for requests to that address, and not for a name that leads there.
#[test]
fn a_name_does_not_inherit_what_an_address_was_granted() {
    block_on(async {
        let (canary, _server, port) = Canary::beside_a_server().await;
        let mut granted = Grants::clone(&operator("http", "http://*:*"));
        granted.http.push("http://127.0.0.1:*".parse().unwrap());
        granted.operator.http = granted.http.clone();
        let (names, _) = names(&[&["127.0.0.1"]]);
        let network = Network {
            names,
            ..Network::default()
        };
        let guest = guest(Arc::new(granted), network);
        let sent = send(&guest, get(&format!("http://rebind.example:{port}/"))).await;
        assert!(matches!(sent, Err(Error::DestinationIpProhibited)));
        assert_eq!(canary.hits(), 0);
    });
}

#[test]
fn only_so_many_addresses_are_tried() {
    block_on(async {
        let server = Server::new(0).await;
        let most = limits::DIAL_ATTEMPTS.size();
        for (before, reached) in [(most - 1, true), (most, false)] {
            // Nobody listens there.
            let dead = (0..before).map(|last| format!("127.0.1.{}", last + 1));
            let all: Vec<String> = dead.chain([PUBLIC.to_owned()]).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let (names, script) = names(&[&all]);
            let network = Network {
                names,
                ..allowing(&["127.0.0.0/8"])
            };
            let guest = guest(grants("http", "http://*:*"), network);
            let sent = send(
                &guest,
                get(&format!("http://many.example:{}/", server.port)),
            )
            .await;
            match (reached, sent) {
                (true, Ok(_)) | (false, Err(Error::ConnectionRefused)) => {}
                (_, other) => panic!("{before} before: {other:?}"),
            }
            assert_eq!(script.asked(), 1);
        }
    });
}

#[test]
fn a_look_up_tells_only_what_a_socket_could_reach() {
    block_on(async {
        let found = async |grants, answers: &[&str]| {
            let (names, _) = names(&[answers]);
            let network = Network {
                names,
                ..Network::default()
            };
            let found = guest(grants, network).look_up("name.example").await;
            let found = found.unwrap();
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        let any = || operator("tcp", "*:*");
        assert_eq!(found(any(), &["10.0.0.1"]).await, [""; 0]);
        assert_eq!(found(any(), &FORBIDDEN).await, [""; 0]);
        let mixed = ["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"];
        assert_eq!(found(any(), &mixed).await, ["1.1.1.1", "2606:4700::1111"]);
        let named = || operator("udp", "10.0.0.0/8:53");
        assert_eq!(found(named(), &["10.0.0.1"]).await, ["10.0.0.1"]);
        let manifest = || grants("udp", "10.0.0.0/8:53");
        assert_eq!(found(manifest(), &["10.0.0.1"]).await, [""; 0]);
    });
}
