//! The budget of one component: the values behind the first part of the limits table, and how text sets them.
//!
//! Floors and ceilings come from the table; an operator's lower ceiling is applied later, by whoever knows it.

use crate::limits::{self, Limit, Unit};
use crate::nearest::nearest;
use crate::unit::{self, UnitError};

/// What one component may use. Every field starts at its default in [`crate::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance in bytes, summed over its memories ([`limits::MEMORY`]).
    pub memory_bytes: u64,
    /// Elements of one instance's tables ([`limits::TABLE_ELEMENTS`]).
    pub table_elements: u32,
    /// Wall clock of one call in milliseconds ([`limits::DEADLINE`]); `None` only for a command in the foreground.
    pub deadline_ms: Option<u64>,
    /// CPU of one call in milliseconds ([`limits::CPU`]); `None` only for a command in the foreground.
    pub cpu_ms: Option<u64>,
    /// Calls in flight at once ([`limits::CONCURRENCY`]).
    pub concurrency: u32,
    /// How long a call waits for its turn, in milliseconds ([`limits::QUEUE_WAIT`]).
    pub queue_wait_ms: u64,
    /// Calls that may wait at once ([`limits::QUEUE_DEPTH`]).
    pub queue_depth: u32,
    /// Bytes that one call into the host may copy ([`limits::HOST_CALL`]).
    pub host_call_bytes: usize,
    /// Component-model handles of one instance ([`limits::HANDLES`]).
    pub handles: usize,
    /// Host objects of one instance ([`limits::RESOURCES`]).
    pub resources: usize,
    /// Bytes of one set of header fields built by the guest ([`limits::HEADERS`]).
    pub header_bytes: usize,
    /// Bytes of header fields and bodies that one call makes the host keep ([`limits::HOST_BYTES`]).
    pub host_bytes: usize,
    /// Bytes of blobs that the host holds for one instance ([`limits::BLOB_BYTES`]).
    pub blob_bytes: usize,
    /// Milliseconds of one statement of a database ([`limits::SQL_TIMEOUT`]).
    pub sql_timeout_ms: u64,
    /// Random bytes of one call ([`limits::RANDOM`]).
    pub random_bytes: u64,
    /// Bytes of one request body ([`limits::REQUEST_BODY`]).
    pub request_body_bytes: u64,
    /// Bytes of one response body ([`limits::RESPONSE_BODY`]).
    pub response_body_bytes: u64,
    /// What one call may start on the network ([`limits::OUTBOUND`]); `None` only for a command in the foreground.
    pub outbound: Option<u32>,
    /// Outgoing HTTP requests and sockets of the app ([`limits::OUTBOUND_OPEN`]); `None` only for a command in the
    /// foreground.
    pub outbound_open: Option<u32>,
    /// Store operations of one call ([`limits::STORE_CALLS`]); `None` only for a command in the foreground.
    pub store_calls: Option<u32>,
    /// Bytes that one call moves to and from stores ([`limits::STORE_BYTES`]); `None` only for a command in the foreground.
    pub store_bytes: Option<u64>,
    /// Bytes of one key ([`limits::STORE_KEY`]).
    pub store_key_bytes: usize,
    /// Bytes of one value that is written ([`limits::STORE_VALUE`]).
    pub store_value_bytes: usize,
    /// Outgoing connections of the app in one second ([`limits::OUTBOUND_RATE`]); `None` only for a command in the
    /// foreground.
    pub outbound_rate: Option<u32>,
    /// Answers of `wasi_experimental_http` that an instance holds ([`limits::HTTP_SESSIONS`]).
    pub http_sessions: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: limits::MEMORY.default,
            table_elements: limits::TABLE_ELEMENTS.count(),
            deadline_ms: Some(limits::DEADLINE.default),
            cpu_ms: Some(limits::CPU.default),
            concurrency: limits::CONCURRENCY.count(),
            queue_wait_ms: limits::QUEUE_WAIT.default,
            queue_depth: limits::QUEUE_DEPTH.count(),
            host_call_bytes: limits::HOST_CALL.size(),
            handles: limits::HANDLES.size(),
            resources: limits::RESOURCES.size(),
            header_bytes: limits::HEADERS.size(),
            host_bytes: limits::HOST_BYTES.size(),
            blob_bytes: limits::BLOB_BYTES.size(),
            sql_timeout_ms: limits::SQL_TIMEOUT.default,
            random_bytes: limits::RANDOM.default,
            request_body_bytes: limits::REQUEST_BODY.default,
            response_body_bytes: limits::RESPONSE_BODY.default,
            outbound: Some(limits::OUTBOUND.count()),
            outbound_open: Some(limits::OUTBOUND_OPEN.count()),
            store_calls: Some(limits::STORE_CALLS.count()),
            store_bytes: Some(limits::STORE_BYTES.default),
            store_key_bytes: limits::STORE_KEY.size(),
            store_value_bytes: limits::STORE_VALUE.size(),
            outbound_rate: Some(limits::OUTBOUND_RATE.count()),
            http_sessions: limits::HTTP_SESSIONS.count(),
        }
    }
}

/// The entries that a manifest or the command line can set.
const BUDGET: [&Limit; 25] = [
    &limits::MEMORY,
    &limits::TABLE_ELEMENTS,
    &limits::DEADLINE,
    &limits::CPU,
    &limits::CONCURRENCY,
    &limits::QUEUE_WAIT,
    &limits::QUEUE_DEPTH,
    &limits::HOST_CALL,
    &limits::HANDLES,
    &limits::RESOURCES,
    &limits::HEADERS,
    &limits::HOST_BYTES,
    &limits::BLOB_BYTES,
    &limits::SQL_TIMEOUT,
    &limits::RANDOM,
    &limits::REQUEST_BODY,
    &limits::RESPONSE_BODY,
    &limits::OUTBOUND,
    &limits::OUTBOUND_OPEN,
    &limits::STORE_CALLS,
    &limits::STORE_BYTES,
    &limits::STORE_KEY,
    &limits::STORE_VALUE,
    &limits::OUTBOUND_RATE,
    &limits::HTTP_SESSIONS,
];

impl Limits {
    /// The budget of one program that the operator runs in the foreground: no deadline, no CPU cap, memory at its
    /// ceiling, any number of outgoing calls and store operations.
    pub fn for_command() -> Self {
        Self {
            memory_bytes: limits::MEMORY.ceiling,
            deadline_ms: None,
            cpu_ms: None,
            outbound: None,
            outbound_open: None,
            store_calls: None,
            store_bytes: None,
            outbound_rate: None,
            ..Self::default()
        }
    }

    /// Sets the limit `name` (its key in the manifest) from text such as `64MiB`, `5s` or `100`.
    ///
    /// # Errors
    /// The name is unknown, the text is no such value, or the value is below the floor or above the ceiling.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), LimitError> {
        let Some(limit) = BUDGET.into_iter().find(|limit| limit.name == name) else {
            let near = nearest(name, BUDGET.iter().map(|limit| limit.name)).map(str::to_owned);
            return Err(LimitError::Unknown {
                name: name.to_owned(),
                near,
            });
        };
        let value = limit.value(text)?;
        self.store(name, value);
        Ok(())
    }

    /// The value of the limit `name`; `None` where there is no bound, or no such limit.
    pub fn get(&self, name: &str) -> Option<u64> {
        Some(match name {
            "memory" => self.memory_bytes,
            "table_elements" => self.table_elements.into(),
            "deadline" => self.deadline_ms?,
            "cpu" => self.cpu_ms?,
            "concurrency" => self.concurrency.into(),
            "queue_wait" => self.queue_wait_ms,
            "queue_depth" => self.queue_depth.into(),
            "host_call" => self.host_call_bytes as u64,
            "handles" => self.handles as u64,
            "resources" => self.resources as u64,
            "headers" => self.header_bytes as u64,
            "host_bytes" => self.host_bytes as u64,
            "blob_bytes" => self.blob_bytes as u64,
            "sql_timeout" => self.sql_timeout_ms,
            "random" => self.random_bytes,
            "request_body" => self.request_body_bytes,
            "response_body" => self.response_body_bytes,
            "outbound" => self.outbound?.into(),
            "outbound_open" => self.outbound_open?.into(),
            "store_calls" => self.store_calls?.into(),
            "store_bytes" => self.store_bytes?,
            "store_key" => self.store_key_bytes as u64,
            "store_value" => self.store_value_bytes as u64,
            "outbound_rate" => self.outbound_rate?.into(),
            "http_sessions" => self.http_sessions.into(),
            _ => return None,
        })
    }

    /// Lowers the limit `name` to `most`, if it is above that or has no bound.
    pub(crate) fn lower(&mut self, name: &str, most: u64) {
        if self.get(name).is_none_or(|value| value > most) {
            self.store(name, most);
        }
    }

    /// Every key that [`Limits::set`] knows, with its entry in the table.
    pub fn keys() -> impl Iterator<Item = &'static Limit> {
        BUDGET.into_iter()
    }

    /// Keeps a value that is within the bounds of its entry; no ceiling of the 32-bit fields exceeds 32 bits.
    fn store(&mut self, name: &str, value: u64) {
        let count = u32::try_from(value).unwrap_or(u32::MAX);
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match name {
            "memory" => self.memory_bytes = value,
            "table_elements" => self.table_elements = count,
            "deadline" => self.deadline_ms = Some(value),
            "cpu" => self.cpu_ms = Some(value),
            "concurrency" => self.concurrency = count,
            "queue_wait" => self.queue_wait_ms = value,
            "queue_depth" => self.queue_depth = count,
            "host_call" => self.host_call_bytes = size,
            "handles" => self.handles = size,
            "resources" => self.resources = size,
            "headers" => self.header_bytes = size,
            "host_bytes" => self.host_bytes = size,
            "blob_bytes" => self.blob_bytes = size,
            "sql_timeout" => self.sql_timeout_ms = value,
            "random" => self.random_bytes = value,
            "request_body" => self.request_body_bytes = value,
            "response_body" => self.response_body_bytes = value,
            "outbound" => self.outbound = Some(count),
            "outbound_open" => self.outbound_open = Some(count),
            "store_calls" => self.store_calls = Some(count),
            "store_bytes" => self.store_bytes = Some(value),
            "store_key" => self.store_key_bytes = size,
            "store_value" => self.store_value_bytes = size,
            "outbound_rate" => self.outbound_rate = Some(count),
            "http_sessions" => self.http_sessions = count,
            _ => {}
        }
    }
}

impl Limit {
    /// A value of this entry from text such as `64MiB`, `5s` or `100`.
    ///
    /// # Errors
    /// The text is no such value, or the value is below the floor or above the ceiling.
    pub fn value(&'static self, text: &str) -> Result<u64, LimitError> {
        let limit = self;
        let value = unit::parse(limit.unit, text).map_err(|reason| LimitError::Malformed {
            limit,
            text: text.to_owned(),
            reason,
        })?;
        let text = text.to_owned();
        if value < limit.floor {
            return Err(LimitError::BelowFloor { limit, text });
        }
        if value > limit.ceiling {
            return Err(LimitError::AboveCeiling { limit, text });
        }
        Ok(value)
    }
}

/// Why a limit was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// No limit has this name; perhaps `near` was meant.
    Unknown {
        /// As written.
        name: String,
        /// The closest name that exists.
        near: Option<String>,
    },
    /// The text is not a value of the limit's unit.
    Malformed {
        /// The entry that was to be set.
        limit: &'static Limit,
        /// As written.
        text: String,
        /// What is wrong with it.
        reason: UnitError,
    },
    /// Less than the entry's floor.
    BelowFloor {
        /// The entry that was to be set.
        limit: &'static Limit,
        /// As written.
        text: String,
    },
    /// More than the entry's ceiling.
    AboveCeiling {
        /// The entry that was to be set.
        limit: &'static Limit,
        /// As written.
        text: String,
    },
}

impl LimitError {
    /// How to mend it.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown {
                near: Some(near), ..
            } => format!("did you mean \"{near}\"?"),
            Self::Unknown { near: None, .. } => {
                let names: Vec<&str> = BUDGET.iter().map(|limit| limit.name).collect();
                format!("the limits are {}", names.join(", "))
            }
            Self::Malformed {
                limit,
                text,
                reason,
            } => reason.help(limit.unit, text),
            Self::BelowFloor { limit, .. } => {
                format!(
                    "the smallest value is {}",
                    unit::display(limit.unit, limit.floor)
                )
            }
            Self::AboveCeiling { limit, .. } => {
                format!(
                    "the largest value is {}",
                    unit::display(limit.unit, limit.ceiling)
                )
            }
        }
    }
}

impl std::fmt::Display for LimitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown { name, .. } => write!(f, "unknown limit \"{name}\""),
            Self::Malformed { limit, text, .. } => {
                let kind = match limit.unit {
                    Unit::Bytes | Unit::BytesPerSecond => "a size",
                    Unit::Milliseconds => "a length of time",
                    Unit::Count => "a whole number",
                };
                write!(f, "limit \"{}\": \"{text}\" is not {kind}", limit.name)
            }
            Self::BelowFloor { limit, text } => {
                write!(f, "limit \"{}\": {text} is below its floor", limit.name)
            }
            Self::AboveCeiling { limit, text } => {
                write!(f, "limit \"{}\": {text} is above its ceiling", limit.name)
            }
        }
    }
}

impl std::error::Error for LimitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_sets_exactly_its_own_field() {
        let mut seen = Vec::new();
        for limit in Limits::keys() {
            let mut budget = Limits::default();
            budget
                .set(limit.name, &unit::display(limit.unit, limit.floor))
                .expect(limit.name);
            assert_ne!(budget, Limits::default(), "{}: nothing changed", limit.name);
            assert_eq!(budget.get(limit.name), Some(limit.floor), "{}", limit.name);
            assert!(
                !seen.contains(&budget),
                "{}: same field as another key",
                limit.name
            );
            seen.push(budget);
        }
    }

    #[test]
    fn floor_and_ceiling_are_included_and_nothing_beyond() {
        for limit in Limits::keys() {
            let mut budget = Limits::default();
            for value in [limit.floor, limit.default, limit.ceiling] {
                budget
                    .set(limit.name, &unit::display(limit.unit, value))
                    .expect(limit.name);
            }
            let before = budget.clone();
            let over = budget.set(limit.name, &unit::display(limit.unit, limit.ceiling + 1));
            assert!(
                matches!(over, Err(LimitError::AboveCeiling { .. })),
                "{}: {over:?}",
                limit.name
            );
            if limit.floor > 0 {
                let under = budget.set(limit.name, &unit::display(limit.unit, limit.floor - 1));
                assert!(
                    matches!(under, Err(LimitError::BelowFloor { .. })),
                    "{}: {under:?}",
                    limit.name
                );
            }
            assert_eq!(budget, before, "{}: a refused value was kept", limit.name);
        }
    }

    #[test]
    fn no_ceiling_is_cut_by_its_field() {
        let mut budget = Limits::default();
        for limit in Limits::keys() {
            budget
                .set(limit.name, &unit::display(limit.unit, limit.ceiling))
                .expect(limit.name);
        }
        assert_eq!(
            u64::from(budget.table_elements),
            limits::TABLE_ELEMENTS.ceiling
        );
        assert_eq!(u64::from(budget.concurrency), limits::CONCURRENCY.ceiling);
        assert_eq!(u64::from(budget.queue_depth), limits::QUEUE_DEPTH.ceiling);
        assert_eq!(budget.host_call_bytes as u64, limits::HOST_CALL.ceiling);
        assert_eq!(budget.header_bytes as u64, limits::HEADERS.ceiling);
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        let error = Limits::default()
            .set("memroy", "64MiB")
            .expect_err("no such limit");
        assert_eq!(error.to_string(), "unknown limit \"memroy\"");
        assert_eq!(error.help(), "did you mean \"memory\"?");
        let error = Limits::default()
            .set("zzzzzzzz", "1")
            .expect_err("no such limit");
        assert!(
            error.help().starts_with("the limits are memory, "),
            "{}",
            error.help()
        );
    }

    #[test]
    fn a_command_runs_without_clock_and_at_the_memory_ceiling() {
        let budget = Limits::for_command();
        assert_eq!((budget.deadline_ms, budget.cpu_ms), (None, None));
        assert_eq!((budget.outbound, budget.outbound_open), (None, None));
        assert_eq!(budget.memory_bytes, 1 << 30);
        assert_eq!(budget.handles, Limits::default().handles);
    }
}
