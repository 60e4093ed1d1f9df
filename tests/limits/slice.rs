//! `slice`: the CPU that a call may use among the short ones.

use std::fs;
use std::path::Path;

use crate::harness::server::Server;

/// CPU in clock ticks that the process's threads of this name have used.
fn ticks(pid: u32, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    tasks
        .filter_map(|task| used(&task.ok()?.path(), name))
        .sum()
}

fn used(task: &Path, name: &str) -> Option<u64> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let time = |index: usize| fields.get(index)?.parse::<u64>().ok();
    (head.split_once('(')?.1 == name).then_some(time(11)? + time(12)?)
}

#[test]
fn a_call_that_used_its_slice_goes_on_in_the_slow_lane() {
    let server = Server::with("loop-p2", &["--threads", "1", "--limit", "cpu=1s"]);
    assert_eq!(server.get("/").status, 504);
    let (slow, fast) = (ticks(server.id(), "slow"), ticks(server.id(), "serve"));
    assert!(slow > 50, "of 100 ticks, {slow} were in the slow lane");
    assert!(fast < 50, "{fast} ticks were in the fast lane");
}
