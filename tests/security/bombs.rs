//! Guests that take as much of one thing as they can get: each is stopped at its own cap, the process stays small, and a
//! neighbour is answered all the while.

use super::{Neighbour, at_once, beside_a_neighbour};
use crate::harness::server::Server;

const MIB: u64 = 1 << 20;

#[test]
fn memory_ends_at_the_cap_of_each_instance() {
    for (guest, what) in [
        ("bomb-p2", "memory"),
        ("bomb-p2", "fill"),
        ("bomb-p3", "memory"),
    ] {
        let server = beside_a_neighbour(guest, "").up();
        let neighbour = Neighbour::of(&server);
        for (status, text) in at_once(&server, &format!("/bad?what={what}"), 10) {
            // Its own program and data are in the 128 MiB as well.
            assert!(
                status == 200 && got_at_most(&text, 128),
                "{guest} {what}: {status} {text}"
            );
        }
        neighbour.was_served();
        // Ten at their caps are 1280 MiB.
        let peak = server.memory_peak();
        assert!(peak < 1400 * MIB, "{guest} {what}: {peak} bytes");
    }
}

#[test]
fn many_at_their_caps_have_a_cap_together() {
    let server = beside_a_neighbour("bomb-p2", "").up_with(&["--memory", "512MiB"]);
    let neighbour = Neighbour::of(&server);
    for what in ["memory", "fill"] {
        for (status, text) in at_once(&server, &format!("/bad?what={what}"), 30) {
            assert!(matches!(status, 200 | 503), "{what}: {status} {text}");
        }
    }
    neighbour.was_served();
    let peak = server.memory_peak();
    assert!(peak < 1024 * MIB, "{peak} bytes");
}

/// Whether `what: N MiB` says no more than this.
fn got_at_most(text: &str, mib: u64) -> bool {
    let number = text
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse::<u64>().ok());
    number.is_some_and(|number| number <= mib)
}

#[test]
fn many_memories_and_many_tables_have_one_cap_together() {
    for (guest, fault) in [
        ("many-memories-p2", "memory: "),
        ("many-tables-p2", "trap: "),
    ] {
        let server = beside_a_neighbour(guest, "").up();
        let neighbour = Neighbour::of(&server);
        for (status, text) in at_once(&server, "/bad", 4) {
            // 502: it got more than the cap.
            assert_eq!(status, 500, "{guest}: {text}");
            assert!(text.starts_with(fault), "{guest}: {text}");
        }
        neighbour.was_served();
    }
}

/// Attacks on what the host itself has to keep, each with the largest number that it asks for.
const HANDLES: &[(&str, &[&str])] = &[
    ("bomb-p2", &["resources", "streams", "pollables", "polls"]),
    (
        "bomb-p3",
        &["resources", "streams", "futures", "waitables", "subtasks"],
    ),
];

const BUFFERS: &[(&str, &[&str])] = &[
    (
        "bomb-p2",
        &[
            "string",
            "string&real=1",
            "list",
            "list&count=1000&bytes=60000",
            "headers",
            "random",
            "random&chunk=65537",
        ],
    ),
    ("bomb-p3", &["string"]),
];

#[test]
fn handles_end_at_the_cap_and_cost_the_host_little() {
    refused_without_growing(HANDLES);
}

#[test]
fn buffers_that_the_host_would_have_to_fill_are_refused() {
    refused_without_growing(BUFFERS);
}

fn refused_without_growing(attacks: &[(&str, &[&str])]) {
    for (guest, kinds) in attacks {
        let server = beside_a_neighbour(guest, "").up();
        let attack = |what: &str, clients| {
            for (status, text) in at_once(&server, &format!("/bad?what={what}"), clients) {
                assert_eq!(status, 500, "{guest} {what}: {text}");
            }
        };
        // The first of each fills caches, slots and arenas that stay.
        kinds.iter().for_each(|what| attack(what, 2));
        let before = server.memory_now();
        let neighbour = Neighbour::of(&server);
        kinds.iter().for_each(|what| attack(what, 8));
        neighbour.was_served();
        let grown = server.memory_now().saturating_sub(before);
        assert!(grown <= 64 * MIB, "{guest}: {grown} bytes more");
    }
}

#[test]
fn random_bytes_without_end_use_up_the_cpu_and_no_memory() {
    let server = beside_a_neighbour("bomb-p2", "limits = { cpu = \"300ms\" }").up();
    server.is_alive("/bad?what=random&bytes=100000&chunk=1000");
    let before = server.memory_now();
    let neighbour = Neighbour::of(&server);
    for (status, text) in at_once(&server, "/bad?what=random&chunk=65536", 4) {
        assert_eq!(status, 504, "{text}");
    }
    neighbour.was_served();
    let grown = server.memory_now().saturating_sub(before);
    assert!(grown <= 64 * MIB, "{grown} bytes more");
}

#[test]
fn a_short_read_is_what_wasi_0_3_answers_to_a_wish_for_too_much() {
    let server = Server::of("bomb-p3");
    assert_eq!(server.page("/?what=random"), "random: 65536 bytes\n");
}

#[test]
fn a_large_body_passes_through_without_being_kept() {
    for guest in ["bomb-p2", "bomb-p3"] {
        let server = beside_a_neighbour(guest, "").up();
        server.is_alive("/bad?what=body&bytes=1000000");
        let before = server.memory_peak();
        let neighbour = Neighbour::of(&server);
        for (status, text) in at_once(&server, "/bad?what=body&bytes=8000000", 8) {
            assert!(status == 200, "{guest}: {status}");
            assert!(
                text.len() == 8_000_000 || text.starts_with("cut: "),
                "{guest}: {}",
                text.len()
            );
        }
        neighbour.was_served();
        let grown = server.memory_peak() - before;
        assert!(grown <= 64 * MIB, "{guest}: {grown} bytes more");
    }
}
