//! Guests that fail or print as fast as they can, for as long as anybody asks.

use super::{Neighbour, beside_a_neighbour};
use crate::harness::eventually;
use crate::harness::message::get;
use crate::harness::server::Server;

const MIB: u64 = 1 << 20;
/// Requests on their way at once.
const PIPELINED: usize = 100;

/// Asks so often on one connection; every answer must be this status.
fn storm(server: &Server, path: &str, times: usize, status: u16) {
    let mut connection = server.connect();
    for _ in 0..times / PIPELINED {
        connection.send(get(path).repeat(PIPELINED));
        for _ in 0..PIPELINED {
            assert_eq!(connection.answer().status, status, "{path}");
        }
    }
}

/// Lines about faults so far.
fn fault_lines(server: &Server) -> usize {
    server.stderr().text().matches("hostel: fault=").count()
}

/// The sum of the numbers in `hostel: N more faults were not logged`.
fn uncounted(server: &Server) -> usize {
    let number = |line: &str| -> Option<usize> {
        let (number, _) = line.strip_prefix("hostel: ")?.split_once(" more fault")?;
        number.parse().ok()
    };
    server.stderr().text().lines().filter_map(number).sum()
}

#[test]
fn traps_and_stack_overflows_leave_nothing_behind() {
    for (guest, path, times) in [
        ("bomb-p2", "/bad?what=trap", 2000),
        ("bomb-p3", "/bad?what=trap", 1000),
        ("bomb-p2", "/bad?what=stack", 1000),
        ("bomb-p3", "/bad?what=stack", 500),
    ] {
        let server = beside_a_neighbour(guest, "").up();
        storm(&server, path, PIPELINED * 2, 500);
        let before = server.memory_now();
        let neighbour = Neighbour::of(&server);
        storm(&server, path, times, 500);
        neighbour.was_served();
        let grown = server.memory_now().saturating_sub(before);
        assert!(grown <= 32 * MIB, "{guest}{path}: {grown} bytes more");
        // A few lines a second; how many were left out is told with the next one.
        let all = times + PIPELINED * 2;
        eventually("the faults that were not logged are counted", || {
            assert_eq!(server.get(path).status, 500);
            (fault_lines(&server) + uncounted(&server) >= all).then_some(())
        });
        let lines = fault_lines(&server);
        assert!(
            lines < all / 2,
            "{guest}{path}: {lines} of {all} faults have a line of their own"
        );
    }
}

#[test]
fn a_flood_of_lines_holds_up_nobody_even_if_nobody_reads() {
    let server = beside_a_neighbour("bomb-p2", "").up();
    server.stdout().hold();
    server.stderr().hold();
    let neighbour = Neighbour::of(&server);
    // Nobody reads either stream: the pipes are full after the first of these.
    for _ in 0..8 {
        let page = server.page("/bad?what=log&bytes=2000000");
        assert!(page.starts_with("log: 2000"), "{page}");
    }
    neighbour.was_served();
    server.stdout().release();
    server.stderr().release();
    server
        .stderr()
        .wait_for(" log lines of app attacked were lost: ");
}

#[test]
fn a_flood_without_end_ends_at_the_cpu_s() {
    let server =
        beside_a_neighbour("bomb-p2", "limits = { cpu = \"200ms\", deadline = \"2s\" }").up();
    server.stdout().hold();
    let neighbour = Neighbour::of(&server);
    assert_eq!(server.get("/bad?what=log").status, 504);
    neighbour.was_served();
    server.stdout().release();
    server.comes_to_rest();
}
