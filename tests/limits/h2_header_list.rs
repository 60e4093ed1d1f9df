//! Header list of one HTTP/2 request.

use hostel_app::limits::H2_HEADER_LIST_BYTES;

use crate::harness::frames::{MAX_HEADER_LIST_SIZE, SETTINGS, Wire};
use crate::harness::http2::{connect, converse, nothing};
use crate::harness::server::Server;

#[test]
fn a_larger_list_is_431_and_the_connection_goes_on() {
    let server = Server::of("hello-p2");
    let mut wire = Wire::open(server.address());
    let settings = wire.find("settings", |frame| {
        frame.kind == SETTINGS && !frame.payload.is_empty()
    });
    assert_eq!(
        settings.setting(MAX_HEADER_LIST_SIZE),
        Some(H2_HEADER_LIST_BYTES.count())
    );
    converse(async {
        let client = connect(server.address()).await;
        let with = |bytes: usize| {
            client
                .request("GET", "/")
                .header("x-big", "x".repeat(bytes))
                .body(nothing())
        };
        assert_eq!(
            client.ask(with(15_000).expect("a request")).await.status,
            200
        );
        assert_eq!(
            client.ask(with(17_000).expect("a request")).await.status,
            431
        );
        assert_eq!(client.get("/").await.status, 200);
    });
}
