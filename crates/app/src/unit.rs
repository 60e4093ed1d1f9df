//! Sizes and lengths of time as people write them: `64MiB`, `10MB`, `500ms`, `2m`.
//!
//! A number without a unit is refused for sizes and times: nobody remembers whether `30` was seconds.

use crate::limits::Unit;

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Longest suffix first where one ends in another (`ms` before `s` and `m`).
const TIMES: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// What is wrong with a size, time or count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitError {
    /// A number, but nobody can tell of what.
    NoUnit,
    /// No digits, unknown unit, sign, fraction or blanks.
    Malformed,
    /// More than 64 bits.
    TooLarge,
}

impl UnitError {
    /// How to write `text` so that it is understood.
    pub(crate) fn help(self, unit: Unit, text: &str) -> String {
        match (self, unit) {
            (Self::NoUnit, Unit::Bytes | Unit::BytesPerSecond) => {
                format!("add a unit, for example \"{text}MiB\" or \"{text}KiB\"")
            }
            (Self::NoUnit, _) => format!("add a unit, for example \"{text}s\" or \"{text}ms\""),
            (_, Unit::Bytes | Unit::BytesPerSecond) => {
                "write a whole number and one of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB: \"64MiB\""
                    .to_owned()
            }
            (_, Unit::Milliseconds) => {
                "write a whole number and one of ms, s, m, h: \"500ms\"".to_owned()
            }
            (_, Unit::Count) => "write a whole number without quotes: 64".to_owned(),
        }
    }
}

/// The value of `text` in `unit`: bytes, milliseconds or pieces.
///
/// # Errors
/// See [`UnitError`].
pub(crate) fn parse(unit: Unit, text: &str) -> Result<u64, UnitError> {
    match unit {
        Unit::Bytes | Unit::BytesPerSecond => with_suffix(text, &SIZES),
        Unit::Milliseconds => with_suffix(text, &TIMES),
        Unit::Count => digits(text),
    }
}

/// `value` in the largest unit that keeps it whole; [`parse`] reads it back.
pub(crate) fn display(unit: Unit, value: u64) -> String {
    let table: &[(&str, u64)] = match unit {
        Unit::Bytes | Unit::BytesPerSecond => &SIZES[..],
        Unit::Milliseconds => &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)],
        Unit::Count => &[("", 1)],
    };
    // Zero is whole in every unit; the smallest one reads best.
    let found = table
        .iter()
        .find(|(_, size)| value != 0 && value.is_multiple_of(*size))
        .or(table.last());
    found.map_or_else(
        || value.to_string(),
        |(name, size)| format!("{}{name}", value / size),
    )
}

fn with_suffix(text: &str, table: &[(&str, u64)]) -> Result<u64, UnitError> {
    for (name, size) in table {
        if let Some(number) = text.strip_suffix(name) {
            return digits(number)?
                .checked_mul(*size)
                .ok_or(UnitError::TooLarge);
        }
    }
    digits(text)?;
    Err(UnitError::NoUnit)
}

fn digits(text: &str) -> Result<u64, UnitError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UnitError::Malformed);
    }
    text.parse().map_err(|_| UnitError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, value) in [
            ("64MiB", 64 << 20),
            ("64KiB", 65_536),
            ("1GiB", 1 << 30),
            ("1TiB", 1 << 40),
            ("10MB", 10_000_000),
            ("3KB", 3_000),
            ("2GB", 2_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("512B", 512),
            ("0B", 0),
        ] {
            assert_eq!(parse(Unit::Bytes, text), Ok(value), "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, value) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(Unit::Milliseconds, text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        use UnitError::{Malformed, NoUnit, TooLarge};
        for (unit, text, error) in [
            (Unit::Bytes, "64", NoUnit),
            (Unit::Bytes, "", Malformed),
            (Unit::Bytes, "MiB", Malformed),
            (Unit::Bytes, "-1MiB", Malformed),
            (Unit::Bytes, "+1MiB", Malformed),
            (Unit::Bytes, "1.5MiB", Malformed),
            (Unit::Bytes, "1 MiB", Malformed),
            (Unit::Bytes, "1mib", Malformed),
            (Unit::Bytes, "99999999999TiB", TooLarge),
            (Unit::Bytes, "99999999999999999999", TooLarge),
            (Unit::Milliseconds, "30", NoUnit),
            (Unit::Milliseconds, "1d", Malformed),
            (Unit::Milliseconds, "1us", Malformed),
            (Unit::Count, "64MiB", Malformed),
            (Unit::Count, "", Malformed),
        ] {
            assert_eq!(parse(unit, text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn display_reads_back() {
        for unit in [Unit::Bytes, Unit::Milliseconds, Unit::Count] {
            for value in [
                0,
                1,
                10,
                999,
                1_000,
                1_024,
                65_536,
                60_000,
                3_600_000,
                3_600_001,
                1 << 40,
                u64::MAX,
            ] {
                let text = display(unit, value);
                assert_eq!(parse(unit, &text), Ok(value), "{text}");
            }
        }
        assert_eq!(display(Unit::Bytes, 64 << 20), "64MiB");
        assert_eq!(display(Unit::Milliseconds, 90_000), "90s");
    }
}
