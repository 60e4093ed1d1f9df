//! Guests that run all the time, beside a neighbour that answers requests.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::harness::app::App;
use crate::harness::command::hostel_in;
use crate::harness::server::{Server, refused_start};
use crate::harness::{PATIENCE, data, eventually};

/// An app with one service, `job`, of this guest; `settings` are further lines of its section, then others.
pub(crate) fn app(guest: &str, settings: &str) -> App {
    App::new(&format!(
        "[app]\nname = \"test\"\n\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\n[component.web]\nsource = \
         \"hello-p2.wasm\"\n\n[component.job]\nsource = \"{guest}.wasm\"\n\n[[service]]\ncomponent = \"job\"\n{settings}\n"
    ))
}

/// Waits until standard error says this.
pub(crate) fn logs(server: &Server, text: &str) {
    let stderr = server.stderr();
    eventually(text, || stderr.text().contains(text).then_some(()));
}

/// Waits until a guest's standard output says this.
pub(crate) fn says(server: &Server, text: &str) {
    let stdout = server.stdout();
    eventually(text, || stdout.text().contains(text).then_some(()));
}

/// Asks the server to stop; it must end well.
pub(crate) fn ends_well(mut server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_service_starts_with_the_server_and_is_told_to_stop_at_its_end() {
    for guest in ["run-service-p1", "run-service-p2"] {
        let mut server = app(guest, "args = [\"say\", \"here I am\"]").up();
        says(&server, "here I am\n");
        logs(&server, "service \"job\": ready after ");
        server.is_alive("/");
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{guest}");
        says(&server, "told to stop\n");
        logs(&server, "service \"job\": stopped, with exit code 0\n");
    }
}

#[test]
fn arguments_follow_those_of_the_component_and_may_come_from_variables() {
    let manifest = "args = [\"say\", \"{{ word }}\"]\n[variables]\nword = \"nothing\"";
    let server = app("run-service-p2", manifest).up_with(&["--var", "word=from the command line"]);
    says(&server, "from the command line\n");
    ends_well(server);
}

#[test]
fn the_server_waits_for_the_line_that_a_service_prints() {
    let settings = "ready = \"line:warm\"\nargs = [\"say\", \"cold\", \"sleep\", \"300\", \"say\", \"now warm.\"]";
    let server = app("run-service-p2", settings).up();
    // The harness has checked that the first line is the server's own; the service was ready before it.
    logs(&server, "service \"job\": ready after ");
    says(&server, "now warm.\n");
    let text = server.stderr().text();
    let (_, after) = text.split_once("ready after ").expect("a line");
    let (millis, _) = after.split_once(" ms").expect("a time");
    let millis: u64 = millis.parse().expect("a number");
    assert!(millis >= 300, "{text}");
    ends_well(server);
}

#[test]
fn a_service_has_as_many_guests_as_it_says() {
    let settings = "instances = 3\nargs = [\"say\", \"one more\"]";
    let server = app("run-service-p1", settings).up();
    eventually("three guests", || {
        (server.stdout().text().matches("one more\n").count() == 3).then_some(())
    });
    for number in 1..=3 {
        logs(&server, &format!("service \"job\" ({number} of 3): ready"));
    }
    ends_well(server);
}

#[test]
fn a_component_may_be_a_service_and_answer_requests() {
    let server = App::new(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\nsource = \
         \"hello-p2.wasm\"\n[[service]]\ncomponent = \"job\"\nname = \"first\"\n[component.job]\nsource = \
         \"run-service-p2.wasm\"\nargs = [\"say\", \"of both\"]\n[[service]]\ncomponent = \"other\"\nargs = [\"say\", \"of \
         this one\"]\n[component.other]\nsource = \"run-service-p2.wasm\"\n",
    )
    .up();
    says(&server, "of both\n");
    says(&server, "of this one\n");
    logs(&server, "service \"first\": ready");
    logs(&server, "service \"other\": ready");
    ends_well(server);
}

#[test]
fn the_host_s_sockets_are_named_after_the_ready_line_with_their_real_ports() {
    let settings = "ready = \"start\"\nlisten = [\"127.0.0.1:0\", \"[::1]:0\"]";
    let server = app("run-service-p1", settings).up();
    let addresses = listening(&server, 2);
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
    for address in addresses {
        assert_ne!(address.port(), 0);
        TcpStream::connect_timeout(&address, PATIENCE).expect("a socket that listens");
    }
    ends_well(server);
}

/// Where the service `job` listens, by the lines that say so.
pub(crate) fn listening(server: &Server, count: usize) -> Vec<SocketAddr> {
    eventually("where the service listens", || {
        let text = server.stderr().text();
        let lines = text.lines();
        let lines = lines.filter_map(|line| line.strip_prefix("service job listens on "));
        let addresses: Vec<SocketAddr> = lines
            .map(|line| line.parse().expect("an address"))
            .collect();
        (addresses.len() == count).then_some(addresses)
    })
}

#[test]
fn a_component_has_to_be_told_where_it_listens() {
    let app_at = |listen: &str| app("run-service-p2", &format!("listen = [\"{listen}\"]"));
    let refused = |listen: &str| refused_start(app_at(listen).folder(), &[]);
    let data = data();
    let check = ["check", "--data", data.to_str().expect("a path")];
    let told = hostel_in(app_at("127.0.0.1:0").folder(), &check).failure(1);
    assert!(
        told.contains("component \"job\"") && told.contains("port 0"),
        "{told}"
    );
    let told = refused("127.0.0.1:0");
    assert!(
        told.contains("component \"job\"")
            && told.contains("port 0")
            && told.contains("wasm32-wasip1"),
        "{told}"
    );
    let told = refused("fd:broker");
    assert!(
        told.contains("service \"job\": there is no socket fd:broker")
            && told.contains("LISTEN_FDS"),
        "{told}"
    );
}

fn handed_over() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

#[test]
fn a_service_manager_s_socket_is_where_the_server_listens() {
    let app = app("run-service-p1", "");
    for flags in [
        &[][..],
        &["--listen", "fd:web"],
        &["--listen", "fd:3"],
        &["--supervise"],
    ] {
        let (socket, address) = handed_over();
        let server = Server::activated(app.folder(), flags, socket, "web");
        assert_eq!(server.address(), address, "{flags:?}");
        // All threads accept from the one socket.
        for _ in 0..8 {
            server.is_alive("/");
        }
        ends_well(server);
    }
}

#[test]
fn a_service_manager_s_socket_is_where_a_service_listens() {
    for flags in [
        &["--listen", "127.0.0.1:0"][..],
        &["--listen", "127.0.0.1:0", "--supervise"],
    ] {
        let app = app(
            "run-service-p1",
            "listen = [\"fd:broker\"]\nready = \"start\"",
        );
        let (socket, address) = handed_over();
        let server = Server::activated(app.folder(), flags, socket, "broker");
        assert_eq!(listening(&server, 1), [address]);
        assert_ne!(server.address(), address);
        server.is_alive("/");
        ends_well(server);
    }
}

#[test]
fn variables_of_another_process_are_not_ours() {
    let app = app("run-service-p1", "");
    let variables = [
        ("LISTEN_FDS", "1".to_owned()),
        ("LISTEN_PID", "1".to_owned()),
    ];
    let server = Server::launch_with_env(app.folder(), &data(), &[], &variables);
    server.is_alive("/");
    ends_well(server);
}

#[test]
fn a_service_manager_hears_of_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let hears = |state: &str| {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).expect("a datagram");
        let heard = std::str::from_utf8(&bytes[..length]).expect("text");
        assert_eq!(heard, state);
    };
    let notify = path.to_str().expect("a path").to_owned();
    let app = app("run-service-p1", "");
    for flags in [&[][..], &["--supervise"]] {
        let variables = [("NOTIFY_SOCKET", notify.clone())];
        let server = Server::launch_with_env(app.folder(), &data(), flags, &variables);
        hears("READY=1");
        ends_well(server);
        hears("STOPPING=1");
    }
    let variables = [
        ("NOTIFY_SOCKET", notify),
        ("WATCHDOG_USEC", "20000".to_owned()),
    ];
    let app = self::app(
        "run-service-p1",
        "args = [\"stubborn\"]\nstop_timeout = \"500ms\"",
    );
    let server = Server::launch_with_env(app.folder(), &data(), &[], &variables);
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    server.signal(Signal::TERM);
    let said = || {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).expect("a datagram");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    while said() != "STOPPING=1" {}
    // It goes on to live while it drains.
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
}

/// What comes back for this text; the client has a connection before the guest has.
pub(crate) fn echoed(mut client: TcpStream, text: &str) -> String {
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.write_all(text.as_bytes()).expect("a connection");
    client.shutdown(Shutdown::Write).expect("a connection");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_preview_1_guest_finds_its_socket_open_behind_its_directories() {
    let settings = "listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nstop_timeout = \"0ms\"\nargs = [\"5\"]\n\
                    [component.job.grants]\nfiles = { \"/site\" = { host = \"site\", write = false } }";
    let app = app("serve-std-p1", settings).with_file("site/file", "");
    // The directory is 3, and the sockets are 4 and 5.
    let server = app.up();
    let addresses = listening(&server, 2);
    for text in ["one", "two"] {
        let client =
            TcpStream::connect_timeout(&addresses[1], PATIENCE).expect("a socket that listens");
        assert_eq!(echoed(client, text), text);
    }
    ends_well(server);
}

#[test]
fn a_component_binds_what_its_manifest_names_and_nothing_else() {
    let free = || {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("an address")
    };
    let (address, other) = (free(), free());
    let settings = format!(
        "listen = [\"{{{{ at }}}}\"]\nstop_timeout = \"0ms\"\nargs = [\"{{{{ at }}}}\"]\n[variables]\nat = \"{other}\""
    );
    let first = app("serve-std-p2", &settings);
    let server = first.up_with(&["--var", &format!("at={address}")]);
    assert_eq!(listening(&server, 1), [address]);
    // The server's first line came when the guest listened.
    let client = TcpStream::connect_timeout(&address, PATIENCE).expect("a socket that listens");
    assert_eq!(echoed(client, "from outside"), "from outside");
    ends_well(server);
    let settings = format!("listen = [\"{address}\"]\nrestart = \"never\"\nargs = [\"{other}\"]");
    let server = app("serve-std-p2", &settings).up();
    logs(&server, "service \"job\": ended with exit code 1 after ");
    assert!(TcpStream::connect_timeout(&other, PATIENCE).is_err());
    ends_well(server);
}

#[test]
fn a_new_build_takes_the_place_of_a_service() {
    let app = app("run-service-p1", "args = [\"say\", \"here I am\"]");
    let server = app.up_with(&["--watch"]);
    logs(&server, "service \"job\": ready");
    std::fs::copy(crate::harness::guest("run-service-p2"), app.path("new")).expect("a copy");
    std::fs::rename(app.path("new"), app.path("run-service-p1.wasm")).expect("a file");
    logs(&server, "service \"job\": stopped, with exit code 0\n");
    eventually("a second guest", || {
        (server.stdout().text().matches("here I am\n").count() == 2).then_some(())
    });
    server.is_alive("/");
    ends_well(server);
}
