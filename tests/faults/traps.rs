//! Guests that trap.

use crate::harness::app::App;
use crate::harness::message::get;
use crate::harness::server::Server;

const TRAPS: [&str; 2] = ["trap-p2", "trap-p3"];

#[test]
fn before_the_head_it_is_500_and_the_next_request_is_served() {
    for guest in TRAPS {
        let server = Server::of(guest);
        let mut connection = server.connect();
        for _ in 0..3 {
            let answer = connection.ask(&get("/?when=before"));
            assert_eq!(answer.status, 500, "{guest}");
            assert!(
                answer.text().starts_with("trap: request "),
                "{guest}: {}",
                answer.text()
            );
            // The client's connection is none of the guest's business.
            assert_eq!(
                connection.ask(&get("/?when=never")).text(),
                "a whole answer\n",
                "{guest}"
            );
        }
        server.stderr().wait_for("fault=trap");
    }
}

#[test]
fn after_the_head_the_answer_does_not_end_like_a_whole_one() {
    for guest in TRAPS {
        let server = Server::of(guest);
        for _ in 0..10 {
            let mut connection = server.connect();
            connection.send(get("/?when=after-head"));
            match connection.try_answer() {
                // A host that had not sent the head yet may still answer for the guest.
                Ok(answer) => assert_eq!(answer.status, 500, "{guest}: {}", answer.text()),
                Err(cut) => {
                    let part = cut.part.expect("at least a head");
                    assert_eq!(part.status, 200, "{guest}");
                    assert!(
                        "half an ans".starts_with(&part.text()),
                        "{guest}: {} ({})",
                        part.text(),
                        cut.how
                    );
                }
            }
        }
        server.is_alive("/?when=never");
        server.stderr().wait_for("fault=trap");
    }
}

#[test]
fn after_a_whole_answer_the_client_has_it_and_the_operator_is_told() {
    for guest in TRAPS {
        let server = Server::of(guest);
        assert_eq!(
            server.page("/?when=after-body"),
            "a whole answer\n",
            "{guest}"
        );
        server.stderr().wait_for("fault=trap");
    }
}

#[test]
fn a_warm_instance_that_trapped_is_not_used_again() {
    for guest in TRAPS {
        let server = App::of(guest, "reuse = 100").up_with(&["--threads", "1"]);
        for _ in 0..5 {
            assert_eq!(server.page("/?when=never"), "a whole answer\n", "{guest}");
            assert_eq!(server.get("/?when=before").status, 500, "{guest}");
        }
        server
            .stderr()
            .wait_for("set `reuse = 1` in [component.web]");
    }
}

#[test]
fn a_trapped_instance_starts_counting_afresh() {
    // One component with two behaviours does not exist, so two share the server: each keeps its own instances.
    let app = App::new(
        "[app]\nname = \"two\"\n\
         [component.count]\nsource = \"counter-p2.wasm\"\nreuse = 100\n\
         [component.trap]\nsource = \"trap-p2.wasm\"\nreuse = 100\n\
         [[http]]\nroute = \"/count\"\ncomponent = \"count\"\n\
         [[http]]\nroute = \"/trap\"\ncomponent = \"trap\"\n",
    );
    let server = app.up_with(&["--threads", "1"]);
    assert_eq!(server.page("/count"), "1\n");
    assert_eq!(server.get("/trap").status, 500);
    assert_eq!(
        server.page("/count"),
        "2\n",
        "another component's trap must not cost this one its instance"
    );
}

#[test]
fn a_storm_of_traps_leaves_the_server_alone() {
    let server = Server::of("trap-p2");
    let mut connection = server.connect();
    for _ in 0..500 {
        assert_eq!(connection.ask(&get("/?when=before")).status, 500);
    }
    server.is_alive("/?when=never");
    // A few lines tell the operator, not five hundred.
    let lines = server
        .stderr()
        .text()
        .lines()
        .filter(|line| line.contains("fault=trap"))
        .count();
    assert!((1..=200).contains(&lines), "{lines} lines");
}
