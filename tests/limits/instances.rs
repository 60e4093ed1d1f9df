//! Instances that exist at once, over all components.

use hostel_app::limits::INSTANCES_MAX;

use crate::harness::app::App;
use crate::harness::frames::{DATA, END_STREAM, Wire, frame, request};
use crate::harness::server::Server;

const STREAMS: u32 = 100;

/// Opens so many calls on a connection of its own; each holds an instance until its body ends.
fn open(server: &Server, calls: u32) -> Wire {
    let mut wire = Wire::open(server.address());
    let requests: Vec<u8> = (0..calls)
        .flat_map(|call| request(2 * call + 1, "POST", "/", &[], 0))
        .collect();
    wire.send(requests);
    for _ in 0..calls {
        let head = wire.find("a head", |frame| {
            frame.kind == crate::harness::frames::HEADERS
        });
        assert!(
            head.is_ok(),
            "call refused although there is room: {head:?}"
        );
    }
    wire
}

#[test]
fn one_more_is_503_and_the_process_serves_on() {
    let server = Server::with("echo-p2", &["--limit", "concurrency=10000"]);
    let mut full: Vec<Wire> = (0..INSTANCES_MAX.count() / STREAMS)
        .map(|_| open(&server, STREAMS))
        .collect();
    let answer = server.get("/");
    assert_eq!(
        (answer.status, answer.field("retry-after")),
        (503, Some("1")),
        "{}",
        answer.text()
    );
    // One call ends; the next one has its place.
    full[0].send(frame(DATA, END_STREAM, 1, b""));
    full[0].find("the end of a call", |frame| {
        frame.stream == 1 && frame.flags & END_STREAM != 0
    });
    crate::harness::eventually("there is room again", || {
        (server.get("/").status == 200).then_some(())
    });
}

/// One component's instances all sit idle; another component's request needs a place.
#[test]
fn idle_instances_make_room() {
    let app = App::new(
        "[app]\nname = \"test\"\n\n\
         [[http]]\nroute = \"/\"\ncomponent = \"warm\"\n\n\
         [[http]]\nroute = \"/other\"\ncomponent = \"other\"\n\n\
         [component.warm]\nsource = \"echo-p2.wasm\"\nreuse = 2\n\
         limits = { concurrency = 10000 }\n\n\
         [component.other]\nsource = \"hello-p2.wasm\"\n",
    );
    let server = app.up();
    let mut full: Vec<Wire> = (0..INSTANCES_MAX.count() / STREAMS)
        .map(|_| open(&server, STREAMS))
        .collect();
    assert_eq!(server.get("/other").status, 503);
    for wire in &mut full {
        let ends: Vec<u8> = (0..STREAMS)
            .flat_map(|call| frame(DATA, END_STREAM, 2 * call + 1, b""))
            .collect();
        wire.send(ends);
        for _ in 0..STREAMS {
            wire.find("the end of a call", |frame| frame.flags & END_STREAM != 0);
        }
    }
    crate::harness::eventually("there is room for the other", || {
        (server.get("/other").status == 200).then_some(())
    });
}
