//! What one bound is; all of them are the table in `limits`.

use std::time::Duration;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes; written `64MiB` or `10MB`.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Milliseconds; written `500ms`, `5s`, `2m` or `1h`.
    Milliseconds,
    /// Plain pieces: calls, handles, headers.
    Count,
}

/// One bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Unique name; for the budget of a component its key in the manifest.
    pub name: &'static str,
    /// What the three numbers count.
    pub unit: Unit,
    /// In force when nobody says otherwise.
    pub default: u64,
    /// The smallest value that can be asked for.
    pub floor: u64,
    /// The largest value that can be asked for.
    pub ceiling: u64,
    /// What is bounded and what happens beyond it.
    pub doc: &'static str,
    /// The test that drives the product over this bound.
    pub test: &'static str,
}

impl Limit {
    /// The default as a size; for entries in bytes or pieces.
    pub const fn size(&self) -> usize {
        if self.default > usize::MAX as u64 {
            usize::MAX
        } else {
            self.default as usize
        }
    }

    /// The default as a 32-bit number.
    pub const fn count(&self) -> u32 {
        if self.default > u32::MAX as u64 {
            u32::MAX
        } else {
            self.default as u32
        }
    }

    /// The default as people write it: `64KiB`, `30s`, `100`, `1KiB/s`.
    pub fn shown(&self) -> String {
        let rate = if self.unit == Unit::BytesPerSecond {
            "/s"
        } else {
            ""
        };
        crate::unit::display(self.unit, self.default) + rate
    }

    /// The default as a length of time; for entries in milliseconds.
    pub const fn duration(&self) -> Duration {
        Duration::from_millis(self.default)
    }
}
