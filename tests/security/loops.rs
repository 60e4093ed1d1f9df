//! Endless loops, wherever a guest can place one: the client has its 504 at the deadline, and soon after it the process is
//! at rest.

use super::{Neighbour, beside_a_neighbour};
use crate::harness::command::run;
use crate::harness::guest;

/// A server that loops: in its handler, in its start section, in the allocator that the host calls, in the function that
/// the engine calls behind the handler, and across two components.
const SERVERS: &[(&str, &str)] = &[
    ("loop-p2", "/bad"),
    ("loop-p3", "/bad"),
    ("bomb-p2", "/bad?what=loop"),
    ("bomb-p3", "/bad?what=loop"),
    ("loop-in-start-p2", "/bad"),
    ("loop-in-realloc-p2", "/bad"),
    ("loop-in-post-return-p2", "/bad"),
    ("loop-across-p2", "/bad"),
];

#[test]
fn every_loop_ends_at_the_deadline_and_leaves_the_cpu() {
    for (guest, path) in SERVERS {
        let server = beside_a_neighbour(guest, "limits = { deadline = \"200ms\" }").up();
        let neighbour = Neighbour::of(&server);
        for _ in 0..3 {
            let answer = server.get(path);
            assert_eq!(answer.status, 504, "{guest}: {}", answer.text());
            assert!(
                answer.text().starts_with("deadline: "),
                "{guest}: {}",
                answer.text()
            );
        }
        neighbour.was_served();
        server.comes_to_rest();
    }
}

#[test]
fn a_command_that_loops_ends_with_the_code_of_a_timeout() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("loop.wat");
    let program = "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop $again (br $again))))";
    std::fs::write(&plain, program).expect("a file");
    for file in [plain, guest("start-loop")] {
        let outcome = run(&["--limit", "deadline=200ms"], &file, &[], b"");
        assert_eq!(outcome.code, Some(124), "{}", outcome.stderr);
    }
}

#[test]
fn loops_of_many_callers_leave_the_cpu_too() {
    let server = beside_a_neighbour("loop-p2", "limits = { deadline = \"300ms\" }").up();
    let neighbour = Neighbour::of(&server);
    let statuses: Vec<u16> = super::at_once(&server, "/bad", 32)
        .into_iter()
        .map(|answer| answer.0)
        .collect();
    assert_eq!(statuses, [504; 32]);
    neighbour.was_served();
    server.comes_to_rest();
}
