//! Header fields of one request.

use hostel_app::limits::HEADERS_COUNT;

use crate::harness::server::Server;

#[test]
fn more_fields_are_431() {
    let server = Server::of("hello-p2");
    // With `Host` it is one more.
    let head = |fields: usize| {
        let lines: String = (1..fields)
            .map(|number| format!("X-{number}: 1\r\n"))
            .collect();
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
    };
    let mut connection = server.connect();
    assert_eq!(
        connection.ask(head(HEADERS_COUNT.size()).as_bytes()).status,
        200
    );
    assert_eq!(
        connection.offend(head(HEADERS_COUNT.size() + 1)).status,
        431
    );
    connection.is_closed();
}
