//! Services that fail, end, hang, or cannot listen: each is a state that the log names, and the app's other components
//! suffer nothing.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hostel_app::limits;
use rustix::process::Signal;

use crate::functional::services::{app, echoed, ends_well, listening, logs, says};
use crate::harness::PATIENCE;
use crate::harness::app::App;
use crate::harness::eventually;
use crate::harness::server::refused_start;

#[test]
fn a_service_that_keeps_ending_is_started_again_and_then_in_a_crash_loop() {
    for (guest, code) in [("run-service-p1", 3), ("run-service-p2", 1)] {
        let server = app(guest, "args = [\"exit\", \"3\"]\nrestart = \"on-failure\"").up();
        for pause in [100, 200, 400, 800] {
            logs(&server, &format!("it is started again in {pause} ms\n"));
            server.is_alive("/");
        }
        logs(
            &server,
            &format!("service \"job\": crash loop: ended with exit code {code} after "),
        );
        logs(&server, "as it did before; it is started again in 60 s\n");
        server.is_alive("/");
        // A server with a service that does not run ends as any other.
        ends_well(server);
    }
}

#[test]
fn a_service_that_succeeds_is_started_again_unless_it_is_done() {
    let server = app("run-service-p2", "args = [\"exit\", \"0\"]").up();
    logs(&server, "service \"job\": ended with exit code 0 after ");
    logs(&server, "it is started again in 100 ms\n");
    ends_well(server);
    for restart in ["on-failure", "never"] {
        let settings =
            format!("args = [\"say\", \"once\", \"exit\", \"0\"]\nrestart = \"{restart}\"");
        let server = app("run-service-p2", &settings).up();
        logs(
            &server,
            &format!("it is not started again: restart = \"{restart}\"\n"),
        );
        server.is_alive("/");
        assert_eq!(server.stdout().text().matches("once\n").count(), 1);
        ends_well(server);
    }
}

#[test]
fn a_service_that_traps_is_a_fault_and_a_restart() {
    let server = app("run-service-p1", "args = [\"trap\"]\nrestart = \"never\"").up();
    logs(&server, "fault=trap component=job");
    logs(&server, "service \"job\": failed (trap) after ");
    logs(&server, "it is not started again");
    server.is_alive("/");
    ends_well(server);
}

#[test]
fn a_service_runs_again_once_what_it_needs_is_there() {
    let app = app(
        "run-service-p2",
        "args = [\"need\", \"/site/file\", \"say\", \"found it\"]\n[component.job.grants]\nfiles = { \"/site\" = { host = \"site\", write = false } }",
    )
    .with_file("site/other", "");
    let server = app.up();
    logs(&server, "it is started again in 200 ms\n");
    std::fs::write(app.path("site/file"), "").expect("a file");
    says(&server, "found it\n");
    ends_well(server);
}

#[test]
fn a_service_that_does_not_stop_is_cut_off() {
    for (guest, word) in [("run-service-p1", "stubborn"), ("run-service-p2", "spin")] {
        let settings = format!("args = [\"say\", \"up\", \"{word}\"]\nstop_timeout = \"150ms\"");
        let mut server = app(guest, &settings).up();
        says(&server, "up\n");
        server.is_alive("/");
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{word}");
        logs(
            &server,
            "service \"job\": did not stop within 150 ms; it was cut off\n",
        );
    }
}

#[test]
fn a_service_that_computes_for_ever_leaves_the_others_their_threads() {
    let settings = "args = [\"spin\"]\nstop_timeout = \"0ms\"\ninstances = 4";
    let server = app("run-service-p1", settings).up();
    for _ in 0..50 {
        server.is_alive("/");
    }
    ends_well(server);
}

#[test]
fn a_service_uses_no_more_cpu_than_it_may() {
    let settings = "args = [\"say\", \"up\", \"spin\"]\nstop_timeout = \"0ms\"\ncpu_percent = 10";
    let server = app("run-service-p2", settings).up();
    says(&server, "up\n");
    let (begin, before) = (Instant::now(), server.cpu_ticks());
    eventually("two seconds", || {
        (begin.elapsed() >= Duration::from_secs(2)).then_some(())
    });
    // A tick is 10 ms: ten in a hundred are its share, and the rest is the host's and for what it may use ahead.
    let used = server.cpu_ticks() - before;
    assert!(used < 100, "{used} ticks in two seconds");
    ends_well(server);
}

#[test]
fn a_service_that_is_never_ready_holds_the_start_up_for_a_while_only() {
    let begin = Instant::now();
    let server = app(
        "run-service-p2",
        "ready = \"line:never\"\nstop_timeout = \"0ms\"\nargs = [\"say\", \"up\", \"stubborn\"]",
    )
    .up();
    assert!(begin.elapsed() >= limits::SERVICE_READY_MS.duration());
    logs(
        &server,
        "service \"job\": not ready within 5s; the server starts without it\n",
    );
    server.is_alive("/");
    ends_well(server);
}

#[test]
fn a_port_in_use_is_told_before_anything_is_compiled() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("an address");
    for guest in ["run-service-p1", "run-service-p2"] {
        let app = app(guest, &format!("listen = [\"{address}\"]"));
        // What is broken is not even looked at.
        std::fs::write(app.path(&format!("{guest}.wasm")), "broken").expect("a file");
        let told = refused_start(app.folder(), &[]);
        let what = format!("service \"job\": cannot listen on {address}: the port is in use");
        assert!(told.contains(&what), "{told}");
        assert!(
            told.contains("another port in `listen` of its [[service]]"),
            "{told}"
        );
        let told = refused_start(app.folder(), &["--supervise"]);
        assert!(told.contains(&what), "{told}");
    }
}

#[test]
fn a_service_cannot_listen_where_the_server_does() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let app = app("run-service-p1", &format!("listen = [\"{address}\"]"));
    let told = refused_start(app.folder(), &["--listen", &address]);
    assert!(
        told.contains(&format!("cannot listen on {address}"))
            && told.contains("this server's own --listen"),
        "{told}"
    );
}

#[test]
fn a_server_component_is_no_service() {
    let app = App::new(
        "[app]\nname = \"test\"\n[[service]]\ncomponent = \"web\"\n[component.web]\nsource = \"hello-p2.wasm\"\n",
    );
    let told = refused_start(app.folder(), &[]);
    assert!(
        told.contains("component \"web\"") && told.contains("help: "),
        "{told}"
    );
}

#[test]
fn clients_wait_while_a_guest_is_started_again() {
    let settings = "listen = [\"127.0.0.1:0\"]\nargs = [\"accept\", \"3\", \"exit\", \"5\"]";
    let server = app("run-service-p1", settings).up();
    let address = listening(&server, 1)[0];
    // Each guest answers one of them and ends.
    let clients: Vec<_> = (0..4)
        .map(|_| TcpStream::connect_timeout(&address, PATIENCE).expect("never refused"))
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        let text = format!("client {number}");
        assert_eq!(echoed(client, &text), text);
    }
    logs(&server, "ended with exit code 5 after ");
    ends_well(server);
}

#[test]
fn a_service_of_a_worker_that_died_is_started_with_the_next() {
    const ROUNDS: usize = 5;
    let settings = "listen = [\"127.0.0.1:0\"]\nstop_timeout = \"0ms\"\nargs = [\"3\"]";
    let app = app("serve-std-p1", settings);
    let server = app.up_with(&["--supervise"]);
    let address = listening(&server, 1)[0];
    for round in 1..=ROUNDS {
        super::supervisor::end_worker(&server, Signal::KILL);
        let text = format!("round {round}");
        let client = TcpStream::connect_timeout(&address, PATIENCE).expect("never refused");
        assert_eq!(echoed(client, &text), text);
    }
    // It has been the same socket all the time.
    assert_eq!(listening(&server, 1 + ROUNDS), [address; 1 + ROUNDS]);
    ends_well(server);
}
