//! The words of a cron expression, and which times of a calendar they name.
//!
//! The library reads them, and knows what `L`, `W` and `#` mean. What it read is kept in a few masks of bits: which day of a
//! month counts depends on the month's length and its first day of the week, and there are 28 kinds of months.

use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Weekday};
use jiff::civil::{Date, DateTime};

use super::ScheduleError;
use crate::limits;

/// An expression, ready to be asked.
pub(super) struct Expression {
    pub(super) text: String,
    /// Whether it names times of day, and no interval.
    pub(super) fixed: bool,
    seconds: u64,
    minutes: u64,
    hours: u32,
    months: u16,
    /// Days, by the month's length and the day of the week that it begins with, Sunday first.
    days: [[u32; 7]; 4],
}

/// The names of the fields, in the order of 6.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31, L or 15W"),
    ("month", "1-12 or JAN-DEC"),
    ("day of the week", "0-7 or SUN-SAT, FRI#2, FRIL"),
];

/// Words for expressions.
const NAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A year and a month of each length, from 28 days on.
const LENGTHS: [(i32, u32); 4] = [(2023, 2), (2024, 2), (2023, 4), (2023, 1)];

const WEEKDAYS: [Weekday; 7] = [
    Weekday::Sunday,
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
];

fn error(what: impl Into<String>, help: impl Into<String>) -> ScheduleError {
    ScheduleError {
        what: what.into(),
        help: help.into(),
        of_zone: false,
    }
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        const HELP: &str = "write 5 fields, minute hour day month weekday (\"0 6 * * MON-FRI\"), or 6 with the second first";
        let most = limits::CRON_EXPRESSION_BYTES_MAX.size();
        if text.len() > most {
            let what = format!("the schedule is longer than {most} bytes");
            return Err(error(what, "split it into several [[cron]]"));
        }
        let full = named(text)?;
        let fields: Vec<&str> = full.split_ascii_whitespace().collect();
        let fields: [&str; 6] = match *fields.as_slice() {
            [a, b, c, d, e] => ["0", a, b, c, d, e],
            [s, a, b, c, d, e] => [s, a, b, c, d, e],
            _ => {
                let what = format!("\"{text}\" has {} fields, not 5 or 6", fields.len());
                return Err(error(what, HELP));
            }
        };
        // The library takes an empty list for no value at all.
        let listed = fields
            .iter()
            .all(|field| !field.split(',').any(str::is_empty));
        let cron = match read(&fields.join(" ")) {
            Ok(cron) if listed && text.is_ascii() => cron,
            refused => {
                let wrong = fields.iter().enumerate();
                let mut wrong = wrong.filter_map(|(number, field)| wrong_field(number, field));
                let what = format!("\"{text}\" is not a cron expression");
                let cause = refused
                    .err()
                    .map_or(String::new(), |cause| format!(": {cause}"));
                return Err(wrong.next().unwrap_or_else(|| error(what + &cause, HELP)));
            }
        };
        let [second, minute, hour, ..] = fields;
        let fixed = [second, minute, hour];
        let expression = Self {
            text: text.to_owned(),
            fixed: !fixed.iter().any(|field| field.starts_with('*')),
            seconds: mask(&cron.pattern.seconds.values()),
            minutes: mask(&cron.pattern.minutes.values()),
            hours: mask(&cron.pattern.hours.values()) as u32,
            months: mask(&cron.pattern.months.values()) as u16,
            days: days(&cron),
        };
        match expression.comes() {
            true => Ok(expression),
            false => {
                let what = format!("\"{text}\" never comes: it names a day that no month has");
                let help = "name a day that its months have; \"L\" is the last one of each";
                Err(error(what, help))
            }
        }
    }

    /// Whether there is a day that it names. Every kind of month comes again and again.
    fn comes(&self) -> bool {
        (1..=12)
            .filter(|month| self.has_month(*month))
            .any(|month| {
                let lengths: &[usize] = match month {
                    2 => &[0, 1],
                    4 | 6 | 9 | 11 => &[2],
                    _ => &[3],
                };
                let mut kinds = lengths.iter().filter_map(|length| self.days.get(*length));
                kinds.any(|kind| kind.iter().any(|days| *days != 0))
            })
    }

    fn has_month(&self, month: i8) -> bool {
        bit(u64::from(self.months), month)
    }

    /// The first time on the calendar that it names, this one or later, in the years before `horizon`.
    pub(super) fn at_or_after(&self, from: DateTime, horizon: i16) -> Option<DateTime> {
        let time = (from.hour(), from.minute(), from.second());
        let (mut first, mut earliest) = (from.date(), self.time(time));
        if earliest.is_none() {
            // Not on this day any more.
            first = first.tomorrow().ok()?;
        }
        let midnight = self.time((0, 0, 0))?;
        if earliest.is_none() || !self.has_day(first) {
            earliest = Some(midnight);
            first = self.day(first, horizon)?;
        }
        let (hour, minute, second) = earliest?;
        Some(first.at(hour, minute, second, 0))
    }

    /// The first day, this one or later.
    fn day(&self, from: Date, horizon: i16) -> Option<Date> {
        let mut day = from.day();
        let mut month = from.first_of_month();
        while month.year() < horizon {
            if let Some(day) = lowest(u64::from(self.days_of(month)), day) {
                return month.with().day(day).build().ok();
            }
            month = month.last_of_month().tomorrow().ok()?;
            day = 1;
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        bit(u64::from(self.days_of(date)), date.day())
    }

    /// The days of the month in which this one is.
    fn days_of(&self, date: Date) -> u32 {
        if !self.has_month(date.month()) {
            return 0;
        }
        let first = date.first_of_month().weekday().to_sunday_zero_offset();
        let length = usize::try_from(date.days_in_month().saturating_sub(28)).ok();
        let days = length.and_then(|length| self.days.get(length));
        let first = usize::try_from(first).ok();
        let days = days.zip(first).and_then(|(days, first)| days.get(first));
        days.copied().unwrap_or(0)
    }

    /// The first time of a day, this one or later.
    fn time(&self, (hour, minute, second): (i8, i8, i8)) -> Option<(i8, i8, i8)> {
        let (first_minute, first_second) = (lowest(self.minutes, 0)?, lowest(self.seconds, 0)?);
        if bit(u64::from(self.hours), hour) {
            if bit(self.minutes, minute)
                && let Some(second) = lowest(self.seconds, second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = lowest(self.minutes, minute + 1) {
                return Some((hour, minute, first_second));
            }
        }
        let hour = lowest(u64::from(self.hours), hour + 1)?;
        Some((hour, first_minute, first_second))
    }
}

/// What a word stands for; everything else stands for itself.
fn named(text: &str) -> Result<&str, ScheduleError> {
    let word = text.trim();
    if !word.starts_with('@') {
        return Ok(text);
    }
    let mut names = NAMES.iter();
    if let Some((_, full)) = names.find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Ok(full);
    }
    let what = format!("\"{text}\" is not a schedule");
    let lower = word.to_ascii_lowercase();
    Err(if lower.starts_with("@every") {
        let help = "a schedule names times of the clock: \"*/5 * * * *\" is every five minutes, \"*/10 * * * * *\" every ten seconds";
        error(what, help)
    } else if lower == "@reboot" {
        let help =
            "what is to run when the app starts is a [[service]], or on_start of the component";
        error(what, help)
    } else {
        let help = "the words are @yearly, @monthly, @weekly, @daily and @hourly";
        error(what, help)
    })
}

/// What is wrong with a field, if anything is, and what may stand there.
fn wrong_field(number: usize, field: &str) -> Option<ScheduleError> {
    let (name, values) = FIELDS.get(number)?;
    let alone: Vec<&str> = (0..FIELDS.len())
        .map(|other| if other == number { field } else { "*" })
        .collect();
    let empty = field.split(',').any(str::is_empty);
    if field.is_ascii() && !empty && read(&alone.join(" ")).is_ok() {
        return None;
    }
    let what = format!("\"{field}\" is not a {name}");
    let help = match field.split_once('/') {
        Some((start, step)) if !start.is_empty() && !start.contains(['*', '-']) => {
            format!("a step needs a range: \"{start}-LAST/{step}\", or \"*/{step}\"")
        }
        _ => format!("write {values}, a list (1,15), a range (1-5), a step (*/2), or *"),
    };
    Some(error(what, help))
}

fn read(fields: &str) -> Result<Cron, String> {
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Disallowed)
        .build();
    parser.parse(fields).map_err(|cause| cause.to_string())
}

fn days(cron: &Cron) -> [[u32; 7]; 4] {
    let mut all = [[0; 7]; 4];
    for (kinds, ((year, month), length)) in all.iter_mut().zip(LENGTHS.iter().zip(28u32..)) {
        for (days, begins) in kinds.iter_mut().zip(0usize..) {
            for (day, weekday) in (1..=length).zip(WEEKDAYS.iter().cycle().skip(begins)) {
                // The weekday that is given is the one that counts, whatever year it is.
                let counts = cron.pattern.day_match(*year, *month, day, *weekday);
                *days |= u32::from(counts.unwrap_or(false)) << day;
            }
        }
    }
    all
}

fn mask(values: &[u16]) -> u64 {
    let bits = values.iter().filter(|value| **value < 64);
    bits.fold(0, |mask, value| mask | 1 << value)
}

fn bit(mask: u64, number: i8) -> bool {
    mask >> number & 1 == 1
}

/// The lowest number in the mask, this one or higher.
fn lowest(mask: u64, from: i8) -> Option<i8> {
    let rest = mask & u64::MAX.checked_shl(u32::try_from(from).ok()?)?;
    (rest != 0).then(|| i8::try_from(rest.trailing_zeros()).ok())?
}
