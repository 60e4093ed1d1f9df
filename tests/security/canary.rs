//! What one instance leaves in the place that the pool gives to another one next: nothing.

use crate::harness::app::App;
use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::server::Server;

/// Two components of the same program, each of which gets a fresh instance for each request.
fn two(guest: &str) -> Server {
    let app = App::new(&format!(
        "[app]\nname = \"two\"\n\
         [component.one]\nsource = \"{guest}.wasm\"\n\
         [component.other]\nsource = \"{guest}.wasm\"\n\
         [[http]]\nroute = \"/one\"\ncomponent = \"one\"\n\
         [[http]]\nroute = \"/other\"\ncomponent = \"other\"\n"
    ));
    app.up_with(&["--threads", "1"])
}

/// A page that must be answered.
fn page(connection: &mut Connection, path: &str) -> String {
    let answer = connection.ask(&get(path));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

#[test]
fn the_canary_sees_what_it_wrote_itself() {
    let server = two("canary-p2");
    let text = page(&mut server.connect(), "/one?write=secret&look=1");
    let numbers: Vec<u64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(numbers.iter().all(|number| *number > 100_000), "{text}");
}

#[test]
fn memory_and_stack_of_another_component_are_never_seen() {
    let server = two("canary-p2");
    let mut connection = server.connect();
    for turn in 0..100 {
        let (writer, reader) = if turn % 2 == 0 {
            ("one", "other")
        } else {
            ("other", "one")
        };
        assert_eq!(
            page(
                &mut connection,
                &format!("/{writer}?write=secret-of-{writer}-{turn}")
            ),
            "written\n"
        );
        let seen = page(&mut connection, &format!("/{reader}?look=1"));
        assert_eq!(seen, "foreign 0 patterns 0\n", "turn {turn}");
    }
}

#[test]
fn references_in_another_component_s_table_are_never_seen() {
    let server = two("canary-table-p2");
    let mut connection = server.connect();
    for turn in 0..200 {
        let path = if turn % 2 == 0 { "/one" } else { "/other" };
        // 502: it found nothing, and returned without an answer. 500: it found something.
        assert_eq!(connection.ask(&get(path)).status, 502, "turn {turn}");
    }
}
