use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;
use crate::limits;

fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::parse(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error:?}"))
}

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

/// The times from this instant on, on the zone's own clocks with their offset.
fn fires(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = schedule(expression, zone);
    let rules = TimeZone::get(zone).unwrap();
    let mut now = at(from) - 1;
    let mut all = Vec::new();
    for _ in 0..count {
        now = schedule.next_after(now).unwrap();
        let zoned = Timestamp::from_second(now).unwrap().to_zoned(rules.clone());
        all.push(zoned.strftime("%m-%d %H:%M:%S%:z").to_string());
    }
    all
}

/// An expression, from when, and the next three times on the clocks of UTC.
const MEANINGS: &[(&str, &str, [&str; 3])] = &[
    (
        "*/20 * * * *",
        "2026-01-01T00:00:00Z",
        ["01-01 00:00:00", "01-01 00:20:00", "01-01 00:40:00"],
    ),
    (
        "*/20 * * * * *",
        "2026-01-01T00:00:01Z",
        ["01-01 00:00:20", "01-01 00:00:40", "01-01 00:01:00"],
    ),
    (
        "30 6 * * MON-FRI",
        "2026-01-02T07:00:00Z",
        ["01-05 06:30:00", "01-06 06:30:00", "01-07 06:30:00"],
    ),
    (
        "0 0 1 * *",
        "2026-01-31T00:00:00Z",
        ["02-01 00:00:00", "03-01 00:00:00", "04-01 00:00:00"],
    ),
    (
        "0 0 L * *",
        "2027-12-31T12:00:00Z",
        ["01-31 00:00:00", "02-29 00:00:00", "03-31 00:00:00"],
    ),
    (
        "0 0 * * FRI#2",
        "2026-01-01T00:00:00Z",
        ["01-09 00:00:00", "02-13 00:00:00", "03-13 00:00:00"],
    ),
    (
        "0 0 * * 5L",
        "2026-01-01T00:00:00Z",
        ["01-30 00:00:00", "02-27 00:00:00", "03-27 00:00:00"],
    ),
    // A Saturday: the Friday before.
    (
        "0 0 15W AUG *",
        "2026-01-01T00:00:00Z",
        ["08-14 00:00:00", "08-16 00:00:00", "08-15 00:00:00"],
    ),
    // Either of the two, where both are given; each, with a plus.
    (
        "0 0 13 * FRI",
        "2026-11-10T00:00:00Z",
        ["11-13 00:00:00", "11-20 00:00:00", "11-27 00:00:00"],
    ),
    (
        "0 0 13 * +FRI",
        "2026-01-01T00:00:00Z",
        ["02-13 00:00:00", "03-13 00:00:00", "11-13 00:00:00"],
    ),
    (
        "0 0 * * 7",
        "2026-01-01T00:00:00Z",
        ["01-04 00:00:00", "01-11 00:00:00", "01-18 00:00:00"],
    ),
    (
        "59 59 23 31 12 *",
        "2026-01-01T00:00:00Z",
        ["12-31 23:59:59", "12-31 23:59:59", "12-31 23:59:59"],
    ),
    (
        "@hourly",
        "2026-01-01T00:00:00Z",
        ["01-01 00:00:00", "01-01 01:00:00", "01-01 02:00:00"],
    ),
    (
        "@Daily",
        "2026-01-01T00:00:01Z",
        ["01-02 00:00:00", "01-03 00:00:00", "01-04 00:00:00"],
    ),
    (
        "@weekly",
        "2026-01-01T00:00:00Z",
        ["01-04 00:00:00", "01-11 00:00:00", "01-18 00:00:00"],
    ),
    (
        "@monthly",
        "2026-01-01T00:00:01Z",
        ["02-01 00:00:00", "03-01 00:00:00", "04-01 00:00:00"],
    ),
    (
        "@yearly",
        "2026-01-01T00:00:01Z",
        ["01-01 00:00:00", "01-01 00:00:00", "01-01 00:00:00"],
    ),
];

#[test]
fn expressions_mean_what_cron_says() {
    for (expression, from, expected) in MEANINGS {
        let expected = expected.map(|time| format!("{time}+00:00"));
        assert_eq!(fires(expression, "UTC", from, 3), expected, "{expression}");
    }
}

#[test]
fn the_rarest_day_comes() {
    let rare = schedule("0 0 29 2 +MON", "UTC");
    assert_eq!(
        rare.next_after(at("2000-01-01T00:00:00Z")),
        Some(at("2016-02-29T00:00:00Z"))
    );
    // Past a year that ends in 00 and has no such day.
    assert_eq!(
        rare.next_after(at("2072-03-01T00:00:00Z")),
        Some(at("2112-02-29T00:00:00Z"))
    );
}

/// What is in the table: zone, expression, from when, and the times on the zone's clocks.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const CLOCKS: &[Row] = &[
    // Berlin skips from 02:00 to 03:00, and repeats 02:00 to 03:00.
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-28T00:00:00Z",
        &[
            "03-28 02:30:00+01:00",
            "03-29 03:00:00+02:00",
            "03-30 02:30:00+02:00",
        ],
    ),
    (
        "Europe/Berlin",
        "10,40 2 * * *",
        "2026-03-29T00:00:00Z",
        &["03-29 03:00:00+02:00", "03-30 02:10:00+02:00"],
    ),
    (
        "Europe/Berlin",
        "0 1-4 * * *",
        "2026-03-29T00:00:00Z",
        &[
            "03-29 01:00:00+01:00",
            "03-29 03:00:00+02:00",
            "03-29 04:00:00+02:00",
        ],
    ),
    (
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-03-29T00:30:00Z",
        &[
            "03-29 01:30:00+01:00",
            "03-29 03:00:00+02:00",
            "03-29 03:30:00+02:00",
        ],
    ),
    (
        "Europe/Berlin",
        "*/30 2 * * *",
        "2026-03-29T00:00:00Z",
        &["03-30 02:00:00+02:00", "03-30 02:30:00+02:00"],
    ),
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-25T00:00:00Z",
        &["10-25 02:30:00+02:00", "10-26 02:30:00+01:00"],
    ),
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-25T01:00:00Z",
        &["10-26 02:30:00+01:00"],
    ),
    (
        "Europe/Berlin",
        "30 * * * *",
        "2026-10-25T00:00:00Z",
        &[
            "10-25 02:30:00+02:00",
            "10-25 02:30:00+01:00",
            "10-25 03:30:00+01:00",
        ],
    ),
    (
        "Europe/Berlin",
        "@daily",
        "2026-10-24T22:00:00Z",
        &["10-25 00:00:00+02:00", "10-26 00:00:00+01:00"],
    ),
    // New York skips from 02:00 to 03:00, and repeats 01:00 to 02:00.
    (
        "America/New_York",
        "15 2 * * *",
        "2026-03-08T05:00:00Z",
        &["03-08 03:00:00-04:00", "03-09 02:15:00-04:00"],
    ),
    (
        "America/New_York",
        "15 1 * * *",
        "2026-11-01T04:00:00Z",
        &["11-01 01:15:00-04:00", "11-02 01:15:00-05:00"],
    ),
    (
        "America/New_York",
        "*/45 1 * * *",
        "2026-11-01T04:00:00Z",
        &[
            "11-01 01:00:00-04:00",
            "11-01 01:45:00-04:00",
            "11-01 01:00:00-05:00",
            "11-01 01:45:00-05:00",
        ],
    ),
    // The hour is repeated, too, where the next day that is named is far away.
    (
        "America/New_York",
        "*/45 1 * * SUN",
        "2026-11-01T04:00:00Z",
        &[
            "11-01 01:00:00-04:00",
            "11-01 01:45:00-04:00",
            "11-01 01:00:00-05:00",
            "11-01 01:45:00-05:00",
            "11-08 01:00:00-05:00",
        ],
    ),
    // Lord Howe skips half an hour from 02:00 on, and repeats the one before 02:00.
    (
        "Australia/Lord_Howe",
        "15 2 * * *",
        "2026-10-03T13:30:00Z",
        &["10-04 02:30:00+11:00", "10-05 02:15:00+11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "30 2 * * *",
        "2026-10-03T13:30:00Z",
        &["10-04 02:30:00+11:00", "10-05 02:30:00+11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-04T13:00:00Z",
        &["04-05 01:45:00+11:00", "04-06 01:45:00+10:30"],
    ),
    (
        "Australia/Lord_Howe",
        "*/15 * * * *",
        "2026-04-04T14:30:00Z",
        &[
            "04-05 01:30:00+11:00",
            "04-05 01:45:00+11:00",
            "04-05 01:30:00+10:30",
            "04-05 01:45:00+10:30",
            "04-05 02:00:00+10:30",
        ],
    ),
    // Kolkata never sets its clocks; it is half an hour beside the others.
    (
        "Asia/Kolkata",
        "30 2 * * *",
        "2026-03-28T00:00:00Z",
        &["03-29 02:30:00+05:30", "03-30 02:30:00+05:30"],
    ),
    (
        "Asia/Kolkata",
        "0 * * * *",
        "2026-03-28T00:00:00Z",
        &["03-28 06:00:00+05:30", "03-28 07:00:00+05:30"],
    ),
    // Apia went over the date line and had no 30th of December.
    (
        "Pacific/Apia",
        "0 12 * * *",
        "2011-12-29T12:00:00Z",
        &[
            "12-29 12:00:00-10:00",
            "12-31 00:00:00+14:00",
            "12-31 12:00:00+14:00",
        ],
    ),
    (
        "Pacific/Apia",
        "0 */12 * * *",
        "2011-12-29T22:00:00Z",
        &[
            "12-29 12:00:00-10:00",
            "12-31 00:00:00+14:00",
            "12-31 12:00:00+14:00",
        ],
    ),
];

#[test]
fn clocks_that_are_set_are_treated_as_cron_treats_them() {
    for (zone, expression, from, expected) in CLOCKS {
        let fired = fires(expression, zone, from, expected.len());
        assert_eq!(fired, *expected, "{expression} in {zone}");
    }
}

#[test]
fn what_always_falls_into_the_hour_that_is_skipped_ends() {
    let never = schedule("*/5 2 25-31 3 +SUN", "Europe/Berlin");
    let begin = Instant::now();
    assert_eq!(never.next_after(at("2026-01-01T00:00:00Z")), None);
    assert!(begin.elapsed() < Duration::from_secs(1));
    let always = schedule("5 2 25-31 3 +SUN", "Europe/Berlin");
    assert_eq!(
        always.next_after(at("2026-01-01T00:00:00Z")),
        Some(at("2026-03-29T01:00:00Z"))
    );
}

#[test]
fn instants_beyond_every_calendar_have_no_next_one() {
    let often = schedule("* * * * * *", "Europe/Berlin");
    for instant in [i64::MIN, i64::MAX, 253_402_207_200 - 1, -400_000_000_000] {
        assert_eq!(
            often.next_after(instant).filter(|next| *next <= instant),
            None
        );
        assert_eq!(often.last_in(instant, instant), None);
    }
    assert_eq!(often.next_after(i64::MAX), None);
    assert_eq!(often.last_in(i64::MIN, 0), None);
    assert_eq!(often.next_after(-62_000_000_000), Some(-61_999_999_999));
}

/// An expression, a zone, what is said of them, and of the way out.
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("", "UTC", "\"\" has 0 fields, not 5 or 6", "write 5 fields"),
    ("* * * *", "UTC", "4 fields", "write 5 fields"),
    (
        "* * * * * * 2026",
        "UTC",
        "7 fields",
        "6 with the second first",
    ),
    ("61 * * * *", "UTC", "\"61\" is not a minute", "write 0-59"),
    ("* 24 * * *", "UTC", "\"24\" is not a hour", "write 0-23"),
    (
        "* * 0 * *",
        "UTC",
        "\"0\" is not a day of the month",
        "write 1-31",
    ),
    ("* * * FOO *", "UTC", "\"FOO\" is not a month", "JAN-DEC"),
    (
        "* * * * 8",
        "UTC",
        "\"8\" is not a day of the week",
        "SUN-SAT",
    ),
    (
        "61 * * * * *",
        "UTC",
        "\"61\" is not a second",
        "write 0-59",
    ),
    (
        "5-1 * * * *",
        "UTC",
        "\"5-1\" is not a minute",
        "a range (1-5)",
    ),
    (
        "*/0 * * * *",
        "UTC",
        "\"*/0\" is not a minute",
        "a step (*/2)",
    ),
    (
        "5/10 * * * *",
        "UTC",
        "\"5/10\" is not a minute",
        "\"5-LAST/10\", or \"*/10\"",
    ),
    (", * * * *", "UTC", "\",\" is not a minute", "a list (1,15)"),
    (
        "1,,2 * * * *",
        "UTC",
        "\"1,,2\" is not a minute",
        "a list (1,15)",
    ),
    (
        "* * * * FRI#6",
        "UTC",
        "\"FRI#6\" is not a day of the week",
        "FRI#2",
    ),
    ("\u{e9} * * * *", "UTC", "is not a minute", "write 0-59"),
    ("0 0 30 2 *", "UTC", "never comes", "\"L\" is the last one"),
    ("0 0 31 4,6,9,11 *", "UTC", "never comes", "\"L\""),
    ("@every 5m", "UTC", "is not a schedule", "\"*/5 * * * *\""),
    ("@reboot", "UTC", "is not a schedule", "[[service]]"),
    ("@often", "UTC", "is not a schedule", "@daily"),
    (
        "@daily",
        "Berlin",
        "no time zone \"Berlin\"",
        "did you mean \"Europe/Berlin\"?",
    ),
    (
        "@daily",
        "Europe/Berln",
        "no time zone",
        "did you mean \"Europe/Berlin\"?",
    ),
    (
        "@daily",
        "New York",
        "no time zone",
        "did you mean \"America/New_York\"?",
    ),
    ("@daily", "+02:00", "no time zone", "\"UTC\""),
    ("@daily", "", "no time zone", "\"UTC\""),
];

#[test]
fn what_is_wrong_is_named_with_the_way_out() {
    for (expression, zone, what, help) in WRONG {
        let error = Schedule::parse(expression, zone).unwrap_err();
        assert!(error.what.contains(what), "{expression} {zone}: {error:?}");
        assert!(error.help.contains(help), "{expression} {zone}: {error:?}");
        assert_eq!(error.of_zone, what.contains("time zone"));
    }
    assert_eq!(schedule("@daily", "europe/berlin").zone(), "Europe/Berlin");
}

#[test]
fn expressions_are_bounded() {
    let most = limits::CRON_EXPRESSION_BYTES_MAX.size();
    let text = |bytes: usize| format!("{:<bytes$}", "* * * * *");
    assert!(Schedule::parse(&text(most), "UTC").is_ok());
    let error = Schedule::parse(&text(most + 1), "UTC").unwrap_err();
    assert!(error.what.contains("longer than 256 bytes"), "{error:?}");
}

#[test]
fn instants_are_shown_as_dates() {
    assert_eq!(shown(at("2026-11-20T06:00:00Z")), "2026-11-20T06:00:00Z");
    assert_eq!(shown(i64::MAX), i64::MAX.to_string());
}

/// One field: its text and the numbers that it means.
fn field(low: u8, high: u8) -> impl Strategy<Value = (String, Vec<u8>)> {
    let range = (low..=high, low..=high).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let item = prop_oneof![
        (low..=high).prop_map(|one| (one.to_string(), vec![one])),
        range
            .clone()
            .prop_map(|(from, to)| (format!("{from}-{to}"), (from..=to).collect())),
        (range, 1..=high).prop_map(|((from, to), step)| (
            format!("{from}-{to}/{step}"),
            (from..=to).step_by(step.into()).collect()
        )),
    ];
    prop_oneof![
        2 => Just(("*".to_owned(), (low..=high).collect())),
        1 => (1..=high).prop_map(move |step| (
            format!("*/{step}"),
            (low..=high).step_by(step.into()).collect()
        )),
        3 => proptest::collection::vec(item, 1..3).prop_map(|items| {
            let (texts, values): (Vec<String>, Vec<Vec<u8>>) = items.into_iter().unzip();
            (texts.join(","), values.concat())
        }),
    ]
}

/// Minute, hour, day, month, day of the week.
type Meaning = [(String, Vec<u8>); 5];

fn expression() -> impl Strategy<Value = Meaning> {
    let days = prop_oneof![2 => Just(("*".to_owned(), (1..=31).collect())), 1 => field(1, 31)];
    let months = Just(("*".to_owned(), (1..=12).collect::<Vec<u8>>()));
    let week = prop_oneof![2 => Just(("*".to_owned(), (0..=6).collect())), 1 => field(0, 6)];
    (field(0, 59), field(0, 23), days, months, week)
        .prop_map(|(minute, hour, day, month, week)| [minute, hour, day, month, week])
}

/// Whether a time on a calendar is named, by the words of the manual.
fn named(meaning: &Meaning, time: DateTime) -> bool {
    let [minute, hour, day, month, week] = meaning;
    let has = |field: &(String, Vec<u8>), value: i8| field.1.contains(&value.unsigned_abs());
    let by_day = has(day, time.day());
    let by_week = has(week, time.weekday().to_sunday_zero_offset());
    let dated = match (day.0 == "*", week.0 == "*") {
        (false, false) => by_day || by_week,
        _ => by_day && by_week,
    };
    has(minute, time.minute()) && has(hour, time.hour()) && has(month, time.month()) && dated
}

/// Every minute that goes by is looked at.
fn by_looking_at_each_minute(meaning: &Meaning, zone: &TimeZone, from: i64, to: i64) -> Vec<i64> {
    let fixed = !meaning[..2].iter().any(|(text, _)| text.starts_with('*'));
    let civil = |instant: i64| zone.to_datetime(Timestamp::from_second(instant).unwrap());
    let mut all = Vec::new();
    for instant in ((from + 60) / 60 * 60..=to).step_by(60) {
        let (now, before) = (civil(instant), civil(instant - 60));
        if !fixed {
            all.extend(named(meaning, now).then_some(instant));
            continue;
        }
        // Everything that was skipped since a minute ago, and this minute, unless it has been before.
        let mut skipped = Vec::new();
        let mut time = before.checked_add(1.minute()).unwrap();
        while time < now {
            skipped.push(time);
            time = time.checked_add(1.minute()).unwrap();
        }
        let repeated = || (1..=180).any(|ago| civil(instant - ago * 60) >= now);
        let fires = skipped.into_iter().any(|time| named(meaning, time))
            || (named(meaning, now) && !repeated());
        all.extend(fires.then_some(instant));
    }
    all
}

/// Shortly before a day on which some zone sets its clocks, or any other day.
fn begin() -> impl Strategy<Value = i64> {
    const DAYS: &[&str] = &[
        "2026-03-28T20:00:00Z",
        "2026-10-24T20:00:00Z",
        "2026-03-07T20:00:00Z",
        "2026-10-31T20:00:00Z",
        "2026-04-04T08:00:00Z",
        "2026-10-03T08:00:00Z",
        "2028-02-28T10:00:00Z",
    ];
    (proptest::sample::select(DAYS), 0..3600i64).prop_map(|(day, more)| at(day) + more)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn it_fires_at_the_minutes_that_the_manual_names(
        meaning in expression(),
        zone in proptest::sample::select(&["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"][..]),
        from in begin(),
    ) {
        let text: Vec<&str> = meaning.iter().map(|(text, _)| text.as_str()).collect();
        let schedule = schedule(&text.join(" "), zone);
        let until = from + 2 * 86_400;
        let expected = by_looking_at_each_minute(&meaning, &TimeZone::get(zone).unwrap(), from, until);
        let mut found = Vec::new();
        let mut now = from;
        while let Some(next) = schedule.next_after(now).filter(|next| *next <= until) {
            prop_assert!(next > now);
            found.push(next);
            now = next;
        }
        let differ = found.iter().zip(&expected).find(|(one, other)| one != other);
        prop_assert_eq!(differ, None, "{}", text.join(" "));
        prop_assert_eq!(found.len(), expected.len(), "{}", text.join(" "));
        prop_assert_eq!(schedule.last_in(from, until), expected.last().copied());
    }

    #[test]
    fn no_text_is_too_much(text in "\\PC{0,40}", zone in "\\PC{0,20}") {
        if let Ok(schedule) = Schedule::parse(&text, &zone) {
            schedule.next_after(0);
        }
    }

    #[test]
    fn no_text_of_its_own_letters_is_too_much(text in "[-0-9*/,LW#?+@A-Z]{0,6}( [-0-9*/,LW#?+FRIJAN]{1,6}){4,5}", from in any::<i32>()) {
        if let Ok(schedule) = Schedule::parse(&text, "Europe/Berlin")
            && let Some(next) = schedule.next_after(from.into())
        {
            prop_assert!(next > from.into());
            prop_assert_eq!(schedule.last_in(from.into(), next), Some(next));
        }
    }
}

#[test]
fn as_many_expressions_as_a_manifest_may_have_are_read_in_bounded_time() {
    let begin = Instant::now();
    for number in 0..limits::CRONS_MAX.default {
        let (minute, hour) = (number % 60, number / 60 % 24);
        let text = format!(
            "{minute} {hour} 30 2 {}",
            ["*", "?"][usize::from(number % 7 == 0)]
        );
        assert!(Schedule::parse(&text, "Europe/Berlin").is_err());
    }
    // Each took a small part of a millisecond: the bound is for a machine under load, without optimisation.
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_search_through_years_is_a_moment() {
    let rare = schedule("0 0 29 2 *", "Europe/Berlin");
    let begin = Instant::now();
    let (from, until) = (at("1990-01-01T00:00:00Z"), at("2090-01-01T00:00:00Z"));
    for _ in 0..100 {
        assert_eq!(rare.last_in(from, until), Some(at("2088-02-28T23:00:00Z")));
    }
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
}
