//! Addresses that a guest may not reach, in every spelling that some parser understands, through everything that dials for
//! a guest. A canary listens on every address of this machine; the same test shows that it is reached once the operator
//! says so.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::harness::app::App;
use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::upstream::Upstream;
use crate::harness::{PATIENCE, eventually};

/// Counts who comes, over TCP and UDP, on all addresses of this machine.
struct Canary {
    port: u16,
    connections: Arc<AtomicUsize>,
    datagrams: Arc<AtomicUsize>,
}

impl Canary {
    fn new() -> Self {
        // IPv4 arrives here too, as IPv4 inside IPv6.
        let (listener, socket) = eventually("a port for both", || {
            let listener = TcpListener::bind("[::]:0").ok()?;
            let socket = UdpSocket::bind(listener.local_addr().ok()?).ok()?;
            Some((listener, socket))
        });
        let canary = Self {
            port: listener.local_addr().expect("an address").port(),
            connections: Arc::default(),
            datagrams: Arc::default(),
        };
        let (connections, datagrams) = (canary.connections.clone(), canary.datagrams.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                connections.fetch_add(1, SeqCst);
                // Whoever says something is answered.
                std::thread::spawn(move || {
                    let said = stream.read(&mut [0; 1024]);
                    if said.is_ok_and(|length| length > 0) {
                        let answer = b"HTTP/1.1 203 Canary\r\ncontent-length: 0\r\n\r\n";
                        let _gone = stream.write_all(answer);
                    }
                });
            }
        });
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                datagrams.fetch_add(1, SeqCst);
                let _gone = socket.send_to(b"heard", from);
            }
        });
        canary
    }

    /// What came since it was last asked. Connections are accepted in turn and datagrams received in turn: once our own
    /// are answered, what came before them was counted.
    fn hits(&self) -> usize {
        let mut bytes = [0; 64];
        let own = TcpStream::connect_timeout(&([127, 0, 0, 1], self.port).into(), PATIENCE);
        let mut own = own.expect("the canary lives");
        own.set_read_timeout(Some(PATIENCE)).expect("a socket");
        own.write_all(b"own").expect("the canary listens");
        assert!(own.read(&mut bytes).expect("the canary answers") > 0);
        let datagram = UdpSocket::bind("127.0.0.1:0").expect("a port");
        datagram.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let sent = datagram.send_to(b"own", ("127.0.0.1", self.port));
        assert_eq!(sent.expect("it is sent"), 3);
        assert_eq!(datagram.recv(&mut bytes).expect("the canary answers"), 5);
        self.connections.swap(0, SeqCst) + self.datagrams.swap(0, SeqCst) - 2
    }
}

/// Addresses that nobody outside may make us call.
const TARGETS: [[u8; 4]; 8] = [
    [127, 0, 0, 1],
    [127, 0, 0, 2],
    [127, 255, 255, 254],
    [0, 0, 0, 0],
    [10, 0, 0, 1],
    [169, 254, 169, 254],
    [192, 168, 0, 1],
    [172, 17, 0, 1],
];

/// One IPv4 address in the spellings that parsers of URLs, `inet_aton`, IDN and tunnels understand.
fn spellings(octets: [u8; 4]) -> Vec<String> {
    let address = Ipv4Addr::from(octets);
    let ([a, b, c, d], number) = (octets, u32::from(address));
    let (high, low) = (number >> 16, number & 0xffff);
    let inverted = !number;
    let wide: String = address
        .to_string()
        .chars()
        .map(|c| match c.to_digit(10) {
            Some(digit) => char::from_u32(0xff10 + digit).expect("a full-width digit"),
            None => c,
        })
        .collect();
    let circled: String = address
        .to_string()
        .chars()
        .map(|c| match c.to_digit(10) {
            Some(0) => '\u{24ea}',
            Some(digit) => char::from_u32(0x2460 + digit - 1).expect("a circled digit"),
            None => c,
        })
        .collect();
    let encoded: String = address
        .to_string()
        .bytes()
        .fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02x}").expect("text");
            text
        });
    vec![
        address.to_string(),
        format!("{address}."),
        format!("{number}"),
        format!("{number}."),
        format!("0x{number:x}"),
        format!("0X{number:08X}"),
        format!("0{number:o}"),
        format!("000{number:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{b}.{low}"),
        format!("{a}.{}", number & 0xff_ffff),
        format!("0x{a:x}.{b}.0{c:o}.{d}"),
        // Zeros in front mean octal to some: only where both read the same address.
        match octets.iter().all(|octet| !(8..100).contains(octet)) {
            true => format!("{a:03}.{b:03}.{c:03}.{d:03}"),
            false => format!("0{a:o}.{b}.{c}.{d}"),
        },
        format!("{a}.{b}.{c}.0x{d:x}"),
        wide,
        circled,
        format!("{a}\u{3002}{b}\u{3002}{c}\u{3002}{d}"),
        encoded,
        format!("{a}%2e{b}%2e{c}%2e{d}"),
        format!("[::ffff:{address}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[::{address}]"),
        format!("[0:0:0:0:0:FFFF:{address}]"),
        format!("[::ffff:0:{address}]"),
        format!("[64:ff9b::{address}]"),
        format!("[64:ff9b:1::{address}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:{high:x}:{low:x}::1]"),
        format!("[2001::f7f7:{:x}:{:x}]", inverted >> 16, inverted & 0xffff),
        format!("[fe80::5efe:{address}]"),
        format!("[2a00::5efe:{address}]"),
    ]
}

/// Every forbidden host.
fn hosts() -> Vec<String> {
    let more = [
        "localhost",
        "LOCALHOST",
        "LocalHost.",
        "localhost.",
        "\u{ff4c}ocalhost",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[0000:0000:0000:0000:0000:0000:0000:0001]",
        "[::0001]",
        "[::1%lo]",
        "[::1%25lo]",
        "[::1%1]",
        "::1",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fe80::1%2]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[ff02::1%25lo]",
        "[100::1]",
        "[2001:db8::1]",
        "127.1",
        "127.0.1",
        "0",
        "0.0",
        "0x0",
        "255.255.255.255",
        "224.0.0.1",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "203.0.113.1",
        "240.0.0.1",
        "168.63.129.16",
        "100.100.100.200",
    ];
    let more = more.into_iter().map(str::to_owned);
    let hosts: Vec<String> = TARGETS
        .into_iter()
        .flat_map(spellings)
        .chain(more)
        .collect();
    assert!(hosts.len() >= 200, "{}", hosts.len());
    hosts
}

/// What else can be written into a URL, where the canary stands behind `{}`.
fn url_games(port: u16) -> Vec<String> {
    let at = format!("127.0.0.1:{port}");
    [
        "http://good.example@{}/",
        "http://good.example:80@{}/",
        "http://{}@good.example/",
        "http://good.example%40{}/",
        "http://{}#@good.example/",
        "http://{}?@good.example/",
        "http://{}\\@good.example/",
        "http://good.example\\@{}/",
        "http://good.example\\{}/",
        "http://good.example /{}/",
        "http://good.example\r\nhost: {}/",
        "http://good.example\thost: {}/",
        "http://{}%2f@good.example/",
        "http://{}%00.good.example/",
        "http://{} .good.example/",
        "http:///{}/",
        "http:////{}/",
        "http://{}:80/",
        "http://[{}]/",
        "HTTP://{}/",
        "hTTp://{}/",
        "https://{}/",
        "ftp://{}/",
        "gopher://{}/",
        "file://{}/",
        "unix://{}/",
        "dict://{}/",
        "ws://{}/",
    ]
    .into_iter()
    .map(|game| game.replace("{}", &at))
    .collect()
}

/// As a value in a query.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut query, byte| {
        write!(query, "%{byte:02X}").expect("text");
        query
    })
}

/// Wildcards of the operator and literal grants of a manifest: neither opens anything.
const MANIFEST: &str = "limits = { outbound_rate = 10000, outbound = 10000 }\n\
    [component.web.grants]\n\
    http = [\"*://*:*\", \"http://127.0.0.1:*\", \"http://localhost:*\", \"http://[::1]:*\"]\n\
    tcp = [\"*:*\", \"127.0.0.0/8:*\", \"[::1]:*\", \"localhost:*\"]\n\
    udp = [\"*:*\", \"127.0.0.0/8:*\", \"[::1]:*\", \"localhost:*\"]\n";

const WILDCARDS: [&str; 10] = [
    "--grant",
    "http=*://*:*",
    "--grant",
    "tcp=*:*",
    "--grant",
    "tcp=0.0.0.0/0:*",
    "--grant",
    "udp=*:*",
    "--grant",
    "udp=[::]/0:*",
];

const OPENED: [&str; 6] = [
    "--grant",
    "http=http://127.0.0.1:*",
    "--grant",
    "tcp=127.0.0.0/8:*",
    "--grant",
    "udp=127.0.0.0/8:*",
];

fn guarded(guest: &str) -> Server {
    App::of(guest, MANIFEST).up_with(&WILDCARDS)
}

/// Asks for each of these paths; what each is answered.
fn ask(server: &Server, paths: impl IntoIterator<Item = String>) -> Vec<(String, u16, String)> {
    let mut connection = server.connect();
    let answers = paths.into_iter().map(|path| {
        let answer = connection.ask(&get(&path));
        (path, answer.status, answer.text())
    });
    answers.collect()
}

#[test]
fn outgoing_http_reaches_none_of_them() {
    let canary = Canary::new();
    let port = canary.port;
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let server = guarded(guest);
        let urls = hosts()
            .into_iter()
            .map(|host| format!("http://{host}:{port}/"));
        let urls = urls.chain(url_games(port));
        let answers = ask(&server, urls.map(|url| format!("/?url={}", encoded(&url))));
        for (path, status, text) in answers {
            assert_eq!(status, 502, "{guest} {path}: {text}");
            let refused = [
                "DestinationIpProhibited",
                "HttpRequestUriInvalid",
                "HttpRequestDenied",
                "HttpProtocolError",
                "DnsError",
            ];
            assert!(
                refused.iter().any(|code| text.contains(code)),
                "{guest} {path}: {text}"
            );
        }
        assert_eq!(canary.hits(), 0, "{guest}");
        let line = format!("denied=network component=web http://127.0.0.1:{port} leads to");
        let flag = format!("`--grant http=http://127.0.0.1:{port}`, or `allow = [\"127.0.0.1\"]`");
        eventually("the log says what would allow it", || {
            let log = server.stderr().text();
            (log.contains(&line) && log.contains(&flag)).then_some(())
        });
        let open = App::of(guest, "").up_with(&OPENED);
        let answer = open.get(&format!("/?url=http://127.0.0.1:{port}/"));
        assert_eq!(answer.status, 203, "{guest}: {}", answer.text());
        assert_eq!(canary.hits(), 1, "{guest}: the canary can be hit");
    }
}

/// Paths that a proxy or a server would read as another address, and fields that name one.
#[test]
fn a_path_or_a_field_does_not_lead_elsewhere() {
    let canary = Canary::new();
    let at = format!("127.0.0.1:{}", canary.port);
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let granted = Upstream::http("granted");
        let own = granted.address();
        let grant = format!("http=http://{own}");
        let server = App::of(guest, "").up_with(&["--grant", &grant]);
        let paths = [
            format!("http://{at}/"),
            format!("HTTP://{at}/"),
            format!("//{at}/"),
            format!("///{at}/"),
            format!("\\\\{at}/"),
            format!("/\\{at}/"),
            format!("/\r\nhost: {at}\r\n\r\n"),
            format!("/ HTTP/1.1\r\nhost: {at}\r\n\r\nGET /"),
            format!("@{at}/"),
            format!(":80@{at}/"),
            format!("*{at}"),
            "*".to_owned(),
            at.to_string(),
        ];
        let paths = paths.map(|path| format!("/?url=http://{own}/&path={}", encoded(&path)));
        for (path, status, text) in ask(&server, paths) {
            assert_eq!(status, 502, "{guest} {path}: {text}");
        }
        for field in [
            "host",
            "Host",
            "connection",
            "proxy-authorization",
            "upgrade",
        ] {
            let answer = server.get(&format!("/?url=http://{own}/&header={field}:{at}"));
            assert_eq!(answer.status, 400, "{guest} {field}: {}", answer.text());
        }
        for field in [
            "x-forwarded-host",
            "forwarded",
            "x-original-url",
            "x-rewrite-url",
        ] {
            let answer = server.get(&format!("/?url=http://{own}/&header={field}:{at}"));
            assert_eq!(answer.text(), "granted", "{guest} {field}");
        }
        assert_eq!(canary.hits(), 0, "{guest}");
        let heard = eventually("the granted server was asked", || {
            let heard = granted.heard();
            (heard.len() == 4).then_some(heard)
        });
        for request in heard {
            let line = format!("\r\nhost: {own}\r\n");
            assert!(request.to_lowercase().contains(&line), "{guest}: {request}");
        }
    }
}

#[test]
fn a_redirect_is_the_guest_s_to_follow_and_checked_like_any_request() {
    let canary = Canary::new();
    for guest in ["outgoing-p2", "outgoing-p3"] {
        for status in [301, 302, 303, 307, 308] {
            let to = format!("http://127.0.0.1:{}/", canary.port);
            let redirect: &'static str = Box::leak(
                format!(
                    "HTTP/1.1 {status} Away\r\nlocation: {to}\r\nrefresh: 0; url={to}\r\nalt-svc: h2=\"127.0.0.1:{}\"\r\n\
                     connection: close\r\ncontent-length: 0\r\n\r\n",
                    canary.port
                )
                .into_boxed_str(),
            );
            let upstream = Upstream::saying(redirect);
            let grant = format!("http=http://{}", upstream.address());
            let server =
                App::of(guest, "").up_with(&["--grant", &grant, WILDCARDS[0], WILDCARDS[1]]);
            let answer = server.get(&format!("/?url=http://{}/", upstream.address()));
            assert_eq!(answer.status, status, "{guest}");
            let again = server.get(&format!("/?url={}", encoded(&to)));
            assert!(
                again.text().contains("DestinationIpProhibited"),
                "{guest}: {}",
                again.text()
            );
        }
        assert_eq!(canary.hits(), 0, "{guest}");
    }
}

/// Where a socket is told a name, the guest looks it up and dials every answer.
#[test]
fn sockets_reach_none_of_them() {
    let canary = Canary::new();
    let port = canary.port;
    for guest in ["sockets-p2", "sockets-p3"] {
        let server = guarded(guest);
        for kind in ["tcp", "udp"] {
            let targets = hosts().into_iter().map(|host| format!("{host}:{port}"));
            let paths = targets.map(|target| format!("/?{kind}={}", encoded(&target)));
            for (path, status, text) in ask(&server, paths) {
                assert_eq!(status, 200, "{guest} {path}: {text}");
                assert!(text.starts_with("error: "), "{guest} {path}: {text}");
            }
            assert_eq!(canary.hits(), 0, "{guest} {kind}");
            let target: SocketAddr = ([127, 0, 0, 1], port).into();
            // On a server of its own: a flood of such lines is cut.
            let server = guarded(guest);
            server.page(&format!("/?{kind}={target}"));
            let line = format!("{kind} {target} leads to 127.0.0.1");
            let flag = format!("`--grant {kind}={target}`");
            eventually("the log says what would allow it", || {
                let log = server.stderr().text();
                (log.contains(&line) && log.contains(&flag)).then_some(())
            });
            let open = App::of(guest, "").up_with(&OPENED);
            let page = open.page(&format!("/?{kind}={target}"));
            assert!(page.starts_with("ok: "), "{guest} {kind}: {page}");
            assert_eq!(canary.hits(), 1, "{guest} {kind}: the canary can be hit");
        }
    }
}

/// What a guest cannot reach it cannot look up either, however it is written.
#[test]
fn look_ups_tell_none_of_them() {
    for guest in ["sockets-p2", "lookup-p3"] {
        let server = guarded(guest);
        let bare = |host: String| host.replace(['[', ']'], "");
        let names = hosts()
            .into_iter()
            .flat_map(|host| [bare(host.clone()), host])
            // The standard library in the one guest reads these itself.
            .filter(|name| guest == "lookup-p3" || name.parse::<IpAddr>().is_err());
        let paths = names.map(|name| format!("/?name={}", encoded(&name)));
        for (path, _, text) in ask(&server, paths) {
            assert!(text.starts_with("error: "), "{guest} {path}: {text}");
        }
        let open = App::of(guest, "").up_with(&OPENED);
        for name in ["127.0.0.1", "0x7f.1", "localhost"] {
            let page = open.page(&format!("/?name={name}"));
            assert!(page.starts_with("ok: "), "{guest} {name}: {page}");
        }
        // Only what was named.
        let page = open.page("/?name=10.1");
        assert!(page.starts_with("error: "), "{guest}: {page}");
    }
}
