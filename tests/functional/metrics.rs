//! What an operator's tools see at `--metrics`.

use rustix::process::Signal;

use crate::harness::app::App;
use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::metrics::{FLAGS, Metrics, address, ask, read};
use crate::harness::server::Server;
use crate::harness::upstream::{Held, Upstream};
use crate::harness::{eventually, guest};

const WEB: [(&str, &str); 2] = [("app", "test"), ("component", "web")];

fn with_fault(name: &str) -> [(&str, &str); 3] {
    [WEB[0], WEB[1], ("fault", name)]
}

/// Asks until this name has this value.
fn reaches(server: &Server, name: &str, labels: &[(&str, &str)], value: f64) {
    eventually(&format!("{name} is {value}"), || {
        (read(server).get(name, labels) == value).then_some(())
    });
}

#[test]
fn requests_answers_and_connections_are_counted() {
    let server = App::of("status-p2", "").up_with(&FLAGS);
    let before = read(&server);
    assert_eq!(before.get("hostel_calls_total", &WEB), 0.0);
    assert_eq!(before.get("hostel_connections_accepted_total", &[]), 0.0);
    let mut connection = server.connect();
    for code in [200, 201, 404, 503] {
        let answer = connection.ask(&get(&format!("/?code={code}")));
        assert_eq!(answer.status, code);
    }
    let after = read(&server);
    assert_eq!(after.get("hostel_calls_total", &WEB), 4.0);
    assert_eq!(after.get("hostel_connections", &[]), 1.0);
    assert_eq!(after.get("hostel_connections_accepted_total", &[]), 1.0);
    assert_eq!(after.get("hostel_connections_refused_total", &[]), 0.0);
    for (status, count) in [("2xx", 2.0), ("3xx", 0.0), ("4xx", 1.0), ("5xx", 1.0)] {
        let labels = [("status", status)];
        assert_eq!(after.get("hostel_requests_total", &labels), count);
    }
    // A guest's own 503 is no fault.
    assert_eq!(after.get("hostel_faults_total", &WEB), 0.0);
    drop(connection);
    reaches(&server, "hostel_connections", &[], 0.0);
}

#[test]
fn faults_are_counted_by_name() {
    let server = App::of("trap-p2", "").up_with(&FLAGS);
    for _ in 0..3 {
        assert_eq!(server.get("/?when=before").status, 500);
    }
    let metrics = read(&server);
    for (fault, count) in [("trap", 3.0), ("deadline", 0.0), ("host", 0.0)] {
        let labels = with_fault(fault);
        assert_eq!(
            metrics.get("hostel_faults_total", &labels),
            count,
            "{fault}"
        );
    }
    // After a whole answer there is nobody left to tell but the operator.
    assert_eq!(server.get("/?when=after-body").status, 200);
    reaches(&server, "hostel_faults_total", &with_fault("trap"), 4.0);
}

#[test]
fn cpu_time_is_counted_for_every_kind_of_guest() {
    for (guest, settings) in [
        ("loop-p2", ""),
        ("loop-p3", ""),
        ("loop-p3", "reuse = 4\nconcurrent = 4"),
    ] {
        let flags = ["--limit", "cpu=100ms", FLAGS[0], FLAGS[1]];
        let server = App::of(guest, settings).up_with(&flags);
        assert_eq!(read(&server).get("hostel_cpu_seconds_total", &WEB), 0.0);
        assert_eq!(server.get("/").status, 504);
        let used = read(&server).get("hostel_cpu_seconds_total", &WEB);
        assert!(used >= 0.1, "{guest}: {used}");
    }
    let server = App::of("hello-p2", "").up_with(&FLAGS);
    server.is_alive("/");
    let used = read(&server).get("hostel_cpu_seconds_total", &WEB);
    assert!(used > 0.0, "a short call is free");
}

#[test]
fn a_flood_of_lines_is_counted_whether_written_or_lost() {
    let server = App::of("log-p2", "").up_with(&FLAGS);
    let mut connection = server.connect();
    let requests = 60;
    for _ in 0..requests {
        let answer = connection.ask(&get("/?what=long&bytes=60000"));
        assert_eq!(answer.status, 200);
    }
    let metrics = read(&server);
    let count = |name| metrics.get(name, &WEB);
    let (written, lost) = (
        count("hostel_log_lines_total"),
        count("hostel_log_lines_lost_total"),
    );
    assert_eq!(written + lost, f64::from(2 * requests));
    assert!(written > 0.0, "nothing was written");
    let bytes = count("hostel_log_bytes_total");
    assert!(
        (60_000.0 * written..60_100.0 * written).contains(&bytes),
        "{bytes}"
    );
    assert_eq!(metrics.get("hostel_log_dropped_total", &[]), lost);
}

#[test]
fn outgoing_calls_are_counted_by_what_became_of_them() {
    let upstream = Upstream::http("from upstream");
    let grant = format!("http=http://{}", upstream.address());
    let flags = [
        "--grant",
        &grant,
        "--limit",
        "outbound=2",
        FLAGS[0],
        FLAGS[1],
    ];
    let server = App::of("outgoing-p2", "").up_with(&flags);
    let answer = server.get(&format!("/?url=http://{}/&times=3", upstream.address()));
    assert_eq!(answer.status, 502);
    assert_eq!(server.get("/?url=http://127.0.0.1:1/").status, 502);
    let metrics = read(&server);
    assert_eq!(metrics.get("hostel_outbound_total", &WEB), 2.0);
    assert_eq!(metrics.get("hostel_outbound_refused_total", &WEB), 1.0);
    assert_eq!(metrics.get("hostel_outbound_denied_total", &WEB), 1.0);
}

#[test]
fn the_cache_is_counted() {
    let data = tempfile::tempdir().expect("a folder");
    for (hits, misses) in [(0.0, 1.0), (1.0, 0.0)] {
        let server = Server::launch(&guest("hello-p2-small"), data.path(), &FLAGS);
        let metrics = read(&server);
        assert_eq!(metrics.get("hostel_cache_hits_total", &[]), hits);
        assert_eq!(metrics.get("hostel_cache_misses_total", &[]), misses);
        assert_eq!(metrics.get("hostel_cache_rejected_total", &[]), 0.0);
    }
}

#[test]
fn the_app_s_listener_and_the_metrics_know_nothing_of_each_other() {
    let server = Server::with("headers-p2", &FLAGS);
    // The guest answers every path of its own listener.
    assert!(!server.page("/metrics").contains("# HELP"));
    let answer = ask(&server, "/metrics");
    assert_eq!(
        answer.field("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let _all = Metrics::parse(&answer.text());
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        (
            "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            405,
        ),
        (
            "GET /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
            413,
        ),
        ("GET /metrics HTTP/1.1 or so\r\n\r\n", 400),
    ] {
        let mut connection = Connection::open(address(&server)).expect("a connection");
        assert_eq!(
            connection.ask(request.as_bytes()).status,
            status,
            "{request}"
        );
    }
    let endless = format!("GET /metrics HTTP/1.1\r\nx: {}", "x".repeat(40_000));
    let mut connection = Connection::open(address(&server)).expect("a connection");
    assert_eq!(connection.offend(endless).status, 431);
    let without = Server::of("headers-p2");
    without.is_alive("/");
    assert!(!without.stderr().text().contains("metrics"));
}

#[test]
fn the_health_check_tells_a_drain() {
    let held = Held::new();
    let flags = ["--grant", "http=http://127.0.0.1:*", FLAGS[0], FLAGS[1]];
    let mut server = Server::with("outgoing-p2", &flags);
    assert_eq!(ask(&server, "/healthz").text(), "ok\n");
    let mut connection = server.connect();
    connection.send(get(&held.query()));
    let call = held.accept();
    server.signal(Signal::TERM);
    eventually("the health check says so", || {
        let answer = ask(&server, "/healthz");
        (answer.status == 503).then(|| assert_eq!(answer.text(), "draining\n"))
    });
    call.answer("late");
    assert_eq!(connection.answer().status, 200);
    assert!(server.end().success());
}

#[test]
fn an_address_that_is_in_use_is_told_with_its_own_flag() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("an address").to_string();
    let text = crate::harness::server::refused_start(&guest("hello-p2"), &["--metrics", &address]);
    assert!(
        text.contains(&format!("cannot listen on {address}: the port is in use"))
            && text.contains("`--metrics 127.0.0.1:0`"),
        "{text}"
    );
}
