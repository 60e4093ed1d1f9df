//! How a guest failed, and the one table from that to what a client, a shell, a log and a metric see.
//!
//! A fault says who has to act: the guest's author (`trap`, `bad-guest`), whoever sets its budget (`deadline`, `cpu`,
//! `memory`), nobody (`busy`, `cancelled`) or the operator (`host`). The detail goes to the log; a client sees the
//! fault's name and the request's id, never a backtrace.

use std::fmt;

use http::StatusCode;

/// How one call of a guest failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The guest trapped; the detail is the engine's message and the guest's backtrace, for the log.
    Trap(String),
    /// The call outlived its wall-clock deadline, in milliseconds.
    Deadline(u64),
    /// The call used up its CPU budget, in milliseconds.
    Cpu(u64),
    /// The guest was refused memory and gave up; the number is the limit in bytes.
    Memory(u64),
    /// Every permit was taken and the queue full or the wait over; retry after so many seconds.
    Busy(u32),
    /// The guest broke its ABI: no answer, a second answer, an answer that is not HTTP.
    BadGuest(String),
    /// The client went away.
    Cancelled,
    /// The host failed; the detail is for the operator.
    Host(String),
}

/// How loudly a fault is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Expected under load or by the client's own doing.
    Info,
    /// A guest misbehaved.
    Warn,
    /// The host misbehaved.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        })
    }
}

/// One row of the table: everything that follows from the kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The fault's name in responses, logs and metrics.
    pub name: &'static str,
    /// The status that an HTTP client gets.
    pub status: StatusCode,
    /// The exit code of `hostel run`.
    pub exit_code: u8,
    /// How loudly it is logged.
    pub level: Level,
}

const fn row(name: &'static str, status: StatusCode, exit_code: u8, level: Level) -> Row {
    Row {
        name,
        status,
        exit_code,
        level,
    }
}

impl Fault {
    /// The names of all rows of the table.
    pub const NAMES: [&'static str; 8] = [
        "trap",
        "deadline",
        "cpu",
        "memory",
        "busy",
        "bad-guest",
        "cancelled",
        "host",
    ];

    /// The table. Exit codes: 128 + the signal that a native program would have died of, else those of sysexits.
    pub fn row(&self) -> Row {
        match self {
            Fault::Trap(_) => row("trap", StatusCode::INTERNAL_SERVER_ERROR, 134, Level::Warn),
            Fault::Deadline(_) => row("deadline", StatusCode::GATEWAY_TIMEOUT, 124, Level::Warn),
            Fault::Cpu(_) => row("cpu", StatusCode::GATEWAY_TIMEOUT, 152, Level::Warn),
            Fault::Memory(_) => row(
                "memory",
                StatusCode::INTERNAL_SERVER_ERROR,
                137,
                Level::Warn,
            ),
            Fault::Busy(_) => row("busy", StatusCode::SERVICE_UNAVAILABLE, 75, Level::Info),
            Fault::BadGuest(_) => row("bad-guest", StatusCode::BAD_GATEWAY, 65, Level::Warn),
            Fault::Cancelled => row("cancelled", CLIENT_CLOSED_REQUEST, 130, Level::Info),
            Fault::Host(_) => row("host", StatusCode::INTERNAL_SERVER_ERROR, 70, Level::Error),
        }
    }

    /// Seconds for `Retry-After`, where waiting helps.
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Fault::Busy(seconds) => Some(*seconds),
            _ => None,
        }
    }
}

/// nginx's 499: nobody is left to read it; it exists for logs and metrics.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Trap(detail) => write!(f, "the guest trapped: {detail}"),
            Fault::Deadline(ms) => {
                write!(f, "the guest did not finish within its deadline of {ms} ms")
            }
            Fault::Cpu(ms) => write!(f, "the guest used up its {ms} ms of CPU"),
            Fault::Memory(bytes) => write!(f, "the guest ran out of its {bytes} bytes of memory"),
            Fault::Busy(seconds) => write!(
                f,
                "no instance became free in time; retry after {seconds} s"
            ),
            Fault::BadGuest(detail) => write!(f, "the guest broke its contract: {detail}"),
            Fault::Cancelled => f.write_str("the client went away"),
            Fault::Host(detail) => write!(f, "the host failed: {detail}"),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_name_in_the_list() {
        let all = [
            Fault::Trap(String::new()),
            Fault::Deadline(0),
            Fault::Cpu(0),
            Fault::Memory(0),
            Fault::Busy(0),
            Fault::BadGuest(String::new()),
            Fault::Cancelled,
            Fault::Host(String::new()),
        ];
        assert_eq!(all.map(|fault| fault.row().name), Fault::NAMES);
    }
}
