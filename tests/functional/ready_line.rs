//! What a program that starts Hostel can rely on.

use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::server::Server;

#[test]
fn the_first_line_of_standard_error_names_the_real_port() {
    let server = Server::of("hello-p2");
    let first = server.stderr().text().lines().next().map(str::to_owned);
    assert_eq!(
        first,
        Some(format!("listening on http://{}", server.address()))
    );
    assert_ne!(server.address().port(), 0);
    server.is_alive("/");
}

#[test]
fn every_listener_has_its_line_and_answers() {
    let server = Server::with(
        "hello-p2",
        &["--listen", "127.0.0.1:0", "--listen", "[::1]:0"],
    );
    assert_eq!(server.addresses().len(), 2);
    for address in server.addresses() {
        let answer = Connection::open(*address)
            .expect("it accepts")
            .ask(&get("/"));
        assert_eq!(answer.status, 200, "{address}");
    }
}

#[test]
fn every_thread_count_serves() {
    for threads in ["1", "3"] {
        let server = Server::with("hello-p2", &["--threads", threads]);
        for _ in 0..8 {
            server.is_alive("/");
        }
    }
}
