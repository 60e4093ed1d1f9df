//! Connections to the metrics' own listener.

use hostel_app::limits::METRICS_CONNECTIONS;

use crate::harness::http::Connection;
use crate::harness::metrics::{FLAGS, address, ask};
use crate::harness::server::Server;

#[test]
fn one_more_waits_and_the_app_s_clients_do_not() {
    let server = Server::with("hello-p2", &FLAGS);
    let address = address(&server);
    let files = server.open_files();
    let held: Vec<_> = (0..METRICS_CONNECTIONS.size() + 20)
        .map(|_| Connection::open(address).expect("a connection"))
        .collect();
    server.is_alive("/");
    server.comes_to_rest();
    let more = server.open_files() - files;
    assert!(
        more <= METRICS_CONNECTIONS.size() + 2,
        "{more} more open files"
    );
    drop(held);
    // Those that waited find a seat.
    assert_eq!(ask(&server, "/healthz").status, 200);
}
