//! [`Schedule`]: a cron expression in a time zone, and the instants at which it fires.
//!
//! The words of an expression are `expression`'s; this file is about time. It has no clock: whoever asks says from when. An
//! instant is a number of whole seconds since 1970, as the system's clock counts them (a leap second is none).
//!
//! What happens when a zone's clocks are set is what cron has done since Vixie's. A schedule is *fixed* when none of its
//! seconds, minutes and hours begins with `*`. A fixed one that names a time in the hour that is skipped fires once, at the
//! first moment after it; one that names a time in the hour that is repeated fires in the first of the two only. All others
//! go by elapsed time: nothing is made up for the skipped hour, and they fire in both of the repeated ones.
//!
//! Every search is bounded: days are looked up in a table, no search goes beyond [`HORIZON_YEARS`], and a zone's clocks are
//! set a few times a year.

mod expression;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use crate::nearest::nearest;
use expression::Expression;

/// How far a search looks. The rarest day that there is, a 29th of February on a given day of the week, comes once in 40 years
/// at the least.
const HORIZON_YEARS: i16 = 50;

/// More than any zone is away from another: two days.
const FAR: SignedDuration = SignedDuration::from_hours(48);

/// When something is to happen. Clones share what was computed.
#[derive(Clone)]
pub struct Schedule {
    expression: Arc<Expression>,
    zone: Zone,
}

/// A named time zone.
#[derive(Clone)]
struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

/// Why something is no schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError {
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub help: String,
    /// Whether it is the time zone, not the expression.
    pub of_zone: bool,
}

impl Schedule {
    /// Reads an expression of 5 fields, or of 6 with the seconds first, or one of the names (`@daily`), for a zone by its name
    /// in the time zone database.
    ///
    /// # Errors
    /// It is no expression, it names no day that ever comes, or there is no such zone.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        Ok(Self {
            expression: Arc::new(Expression::parse(expression)?),
            zone: Zone::parse(zone)?,
        })
    }

    /// The expression, as it was written.
    pub fn expression(&self) -> &str {
        &self.expression.text
    }

    /// The zone's name.
    pub fn zone(&self) -> &str {
        &self.zone.name
    }

    /// The first instant after this one at which it fires; `None` if there is none within the next decades, or within the
    /// years that calendars know.
    pub fn next_after(&self, after: i64) -> Option<i64> {
        let after = Timestamp::from_second(after).ok()?;
        let next = match self.expression.fixed {
            true => self.next_fixed(after),
            false => self.next_elapsed(after),
        };
        next.map(Timestamp::as_second)
    }

    /// The last instant in `(after, until]` at which it fires.
    pub fn last_in(&self, after: i64, until: i64) -> Option<i64> {
        let fires_in = |from: i64| self.next_after(from).is_some_and(|next| next <= until);
        if !fires_in(after) {
            return None;
        }
        // It fires after `low`, and not after `high`. The way from `until` back is taken in doubled steps.
        let (mut low, mut high, mut step) = (until.saturating_sub(1).max(after), until, 1i64);
        while !fires_in(low) {
            high = low;
            step = step.saturating_mul(2);
            low = until.saturating_sub(step).max(after);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match fires_in(middle) {
                true => low = middle,
                false => high = middle,
            }
        }
        Some(high)
    }

    /// A time on the zone's clocks is a moment: the first of two, or the end of the hour that is skipped.
    fn next_fixed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.rules.to_offset(after).to_datetime(after);
        let horizon = civil.year().saturating_add(HORIZON_YEARS);
        loop {
            // In the second of two equal hours this finds what was in the first, too: those are passed over.
            let next = civil.checked_add(SignedDuration::from_secs(1)).ok()?;
            civil = self.expression.at_or_after(whole(next), horizon)?;
            let moment = self.moment(civil)?;
            if moment > after {
                return Some(moment);
            }
        }
    }

    fn moment(&self, civil: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.rules.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                ambiguous.earlier().ok()
            }
            AmbiguousOffset::Gap { after, .. } => {
                // With the later offset it would have been before the clocks were set, which is when they are.
                let before = after.to_timestamp(civil).ok()?;
                let mut settings = self.zone.rules.following(before);
                settings.next().map(|set| set.timestamp())
            }
        }
    }

    /// Between two settings of the zone's clocks they go evenly.
    fn next_elapsed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after.checked_add(SignedDuration::from_secs(1)).ok()?;
        let begin = self.zone.rules.to_offset(from).to_datetime(from).year();
        let horizon = begin.saturating_add(HORIZON_YEARS);
        loop {
            let offset = self.zone.rules.to_offset(from);
            let civil = whole(offset.to_datetime(from));
            let next = self.expression.at_or_after(civil, horizon)?;
            let next = offset.to_timestamp(next).ok()?;
            let set = self.zone.rules.following(from).next();
            match set.map(|set| set.timestamp()) {
                // What was found may be on clocks that are set before: it is looked for again from there, or, where that is
                // far away, from shortly before it. Clocks that are set soon may repeat what has just gone by.
                Some(set) if next >= set => {
                    let soon = set.duration_since(from) <= FAR;
                    from = match soon {
                        true => set,
                        false => set.max(next.checked_sub(FAR).ok()?),
                    }
                }
                Some(_) | None => return Some(next),
            }
        }
    }
}

/// Without what is smaller than a second; there is nothing of that in what goes in.
fn whole(civil: DateTime) -> DateTime {
    civil.with().subsec_nanosecond(0).build().unwrap_or(civil)
}

/// An instant for people and for guests: `2026-11-20T06:00:00Z`.
pub fn shown(instant: i64) -> String {
    Timestamp::from_second(instant).map_or_else(|_| instant.to_string(), |time| time.to_string())
}

/// The zones are part of the program: what a schedule means does not depend on the machine.
fn zones() -> &'static TimeZoneDatabase {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    ZONES.get_or_init(TimeZoneDatabase::bundled)
}

impl Zone {
    fn parse(name: &str) -> Result<Self, ScheduleError> {
        let found = zones().get(name).ok();
        let found = found.filter(|rules| rules.iana_name().is_some() && !name.is_empty());
        let Some(rules) = found else {
            return Err(ScheduleError {
                what: format!("there is no time zone \"{name}\""),
                help: match similar(name) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => {
                        "write a name of the time zone database: \"Europe/Berlin\", \"UTC\"".into()
                    }
                },
                of_zone: true,
            });
        };
        Ok(Self {
            name: rules.iana_name().unwrap_or(name).into(),
            rules,
        })
    }
}

/// A zone of which only the town was written, or one that is a slip away.
fn similar(name: &str) -> Option<String> {
    let all: Vec<String> = zones()
        .available()
        .map(|zone| zone.as_str().to_owned())
        .collect();
    let town = |zone: &&String| {
        let town = zone.rsplit('/').next();
        town.is_some_and(|town| town.eq_ignore_ascii_case(&name.replace(' ', "_")))
    };
    if let Some(zone) = all.iter().find(town) {
        return Some(zone.clone());
    }
    let (area, length) = (name.get(..3)?.to_ascii_lowercase(), name.len());
    let close = all.iter().map(String::as_str).filter(|zone| {
        let same = zone.get(..3).map(str::to_ascii_lowercase);
        same.as_deref() == Some(area.as_str()) && zone.len().abs_diff(length) <= 2
    });
    nearest(name, close).map(str::to_owned)
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (self.expression(), self.zone()) == (other.expression(), other.zone())
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}", self.expression(), self.zone())
    }
}
