//! The rows: what is attacked, and what must hold. Each attack is a function of its own file.

use anyhow::Result;

use super::judge::Verdict;
use super::site::Site;
use super::{attack_files, attack_h2, attack_heads, attack_http, attack_memory, attack_time};

/// One attack.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// What must hold, for people.
    pub(super) goal: &'static str,
    /// Attacks and judges.
    pub(super) run: fn(&Site) -> Result<Verdict>,
}

/// Every row, in the order in which they run.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "loop",
        goal: "endless loops of every shape and ABI: 504 within deadline + 20 ms; CPU idle 100 ms later",
        run: attack_time::endless,
    },
    Row {
        name: "spin",
        goal: "256 spinning calls of A for 30 s: B holds",
        run: attack_time::spin,
    },
    Row {
        name: "memory",
        goal: "100 memory bombs at once, --memory 640MiB: each stopped at its cap, process RSS <= 1 GiB, B holds",
        run: attack_memory::memory,
    },
    Row {
        name: "stack",
        goal: "100,000 stack overflows: alive, RSS drift <= 8 MiB, log summarised",
        run: attack_memory::stack,
    },
    Row {
        name: "trap",
        goal: "200,000 traps at full rate: alive, RSS drift <= 8 MiB, log summarised",
        run: attack_memory::trap,
    },
    Row {
        name: "handles",
        goal: "resources, streams, futures, subtasks, pollables x 1,000,000: stopped at the limit, RSS + <= 64 MiB",
        run: attack_memory::handles,
    },
    Row {
        name: "buffers",
        goal: "1 GiB string, 33,000 headers, 4 GiB random, 4 GiB body: stopped at the limit, RSS + <= 64 MiB",
        run: attack_memory::buffers,
    },
    Row {
        name: "overload",
        goal: "10,000 slow requests against 1,000 slots: wait <= queue_wait, then 503; good answer <= 100 ms after",
        run: attack_time::overload,
    },
    Row {
        name: "disconnect",
        goal: "1,000 clients leave mid-call: guests cancelled <= 100 ms, no panic, no permit leaked",
        run: attack_time::disconnect,
    },
    Row {
        name: "slowloris",
        goal: "5,000 connections with endless heads, 60 s: B holds, >= 99.9 % closed <= 11 s, <= 64 KiB each",
        run: attack_http::slowloris,
    },
    Row {
        name: "slow-body",
        goal: "2,000 endless bodies: B holds, >= 99.9 % closed <= 11 s, <= 64 KiB each",
        run: attack_http::slow_body,
    },
    Row {
        name: "slow-reader",
        goal: "2,000 slow readers of 100 MiB: B holds, >= 99.9 % closed <= 11 s, <= 64 KiB each",
        run: attack_http::slow_reader,
    },
    Row {
        name: "descriptors",
        goal: "ulimit -n 256, 1,000 connections, 10 cycles: alive, serving <= 2 s after release",
        run: attack_http::descriptors,
    },
    Row {
        name: "heads",
        goal: "header, URL, chunk and trailer bombs x 100: 4xx and close, or one answer; RSS + <= 32 MiB",
        run: attack_heads::heads,
    },
    Row {
        name: "smuggling",
        goal: "at least 60 requests with two readings: refused and closed, or one request = one response",
        run: attack_heads::smuggling,
    },
    Row {
        name: "h2-reset",
        goal: "100,000 streams taken back at once: GOAWAY, RSS + <= 32 MiB, B holds",
        run: attack_h2::reset,
    },
    Row {
        name: "h2-continuation",
        goal: "100,000 CONTINUATION frames: GOAWAY, RSS + <= 32 MiB, B holds",
        run: attack_h2::continuation,
    },
    Row {
        name: "h2-ping",
        goal: "100,000 PING frames: GOAWAY, RSS + <= 32 MiB, B holds",
        run: attack_h2::ping,
    },
    Row {
        name: "h2-settings",
        goal: "100,000 SETTINGS frames: GOAWAY, RSS + <= 32 MiB, B holds",
        run: attack_h2::settings,
    },
    Row {
        name: "h2-empty-data",
        goal: "100,000 empty DATA frames: GOAWAY, RSS + <= 32 MiB, B holds",
        run: attack_h2::empty_data,
    },
    Row {
        name: "cache",
        goal: "10,000 corrupted entries of compiled code: 0 loaded, 0 panics",
        run: attack_files::cache,
    },
    Row {
        name: "mutants",
        goal: "2,000 mutated modules and components: 0 panics",
        run: attack_files::mutants,
    },
    Row {
        name: "canary",
        goal: "two apps in the same slots, 20,000 alternations: 0 foreign bytes",
        run: attack_memory::canary,
    },
    Row {
        name: "log",
        goal: "log flood while nobody reads stderr: B holds, lost_logs > 0",
        run: attack_memory::log,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_specification_has_every_row_with_its_goal() {
        let text = std::fs::read_to_string(crate::shell::root().join("SPECIFICATION.md")).unwrap();
        for row in ROWS {
            let line = format!("| `{}` | {} |", row.name, row.goal);
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn every_row_has_its_own_name_and_a_goal() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
        for row in ROWS {
            assert!(row.goal.contains(": "), "{}: {}", row.name, row.goal);
        }
    }
}
