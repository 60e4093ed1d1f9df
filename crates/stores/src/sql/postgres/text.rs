//! PostgreSQL's own text notation of types that have no counterpart here, made from their binary form: what `column::text`
//! shows with the server's default settings, times with a zone in UTC.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use tokio_postgres::types::Type;

/// Bytes that are read from the front.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }
}

/// Types that are their own text.
const TEXTS: &[Type] = &[
    Type::TEXT,
    Type::VARCHAR,
    Type::BPCHAR,
    Type::NAME,
    Type::UNKNOWN,
    Type::CHAR,
    Type::JSON,
    Type::XML,
];

/// Types that have a notation.
const NOTED: &[Type] = &[
    Type::JSONB,
    Type::UUID,
    Type::NUMERIC,
    Type::DATE,
    Type::TIME,
    Type::TIMETZ,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::INTERVAL,
    Type::INET,
    Type::CIDR,
    Type::MACADDR,
    Type::BIT,
    Type::VARBIT,
];

pub(super) fn is_known(ty: &Type) -> bool {
    TEXTS.contains(ty) || NOTED.contains(ty)
}

/// The text of a value; `None` where the bytes make no sense.
pub(super) fn shown(ty: &Type, raw: &[u8]) -> Option<String> {
    let mut input = Input(raw);
    match *ty {
        Type::VOID => Some(String::new()),
        Type::JSONB => match input.u8()? {
            1 => text(input.0),
            _ => None,
        },
        Type::UUID => uuid(raw),
        Type::NUMERIC => numeric(&mut input),
        Type::DATE => Some(date(input.i32()?)),
        Type::TIME => Some(time(input.i64()?)),
        Type::TIMETZ => Some(time(input.i64()?) + &zone(input.i32()?)),
        Type::TIMESTAMP => Some(timestamp(input.i64()?, "")),
        Type::TIMESTAMPTZ => Some(timestamp(input.i64()?, "+00")),
        Type::INTERVAL => interval(&mut input),
        Type::INET | Type::CIDR => network(&mut input),
        Type::MACADDR => Some(
            raw.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<Vec<_>>()
                .join(":"),
        ),
        Type::BIT | Type::VARBIT => bits(&mut input),
        _ => text(raw),
    }
}

fn text(raw: &[u8]) -> Option<String> {
    String::from_utf8(raw.to_vec()).ok()
}

pub(super) fn hexadecimal(prefix: &str, raw: &[u8]) -> String {
    raw.iter().fold(prefix.to_owned(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn uuid(raw: &[u8]) -> Option<String> {
    let mut input = Input(raw);
    let mut parts = Vec::new();
    for length in [4, 2, 2, 2, 6] {
        parts.push(hexadecimal("", input.take(length)?));
    }
    Some(parts.join("-"))
}

/// Digits to the base of 10,000; the first stands for that base to the power of `weight`.
fn numeric(input: &mut Input<'_>) -> Option<String> {
    let digits = input.i16()?;
    let weight = i32::from(input.i16()?);
    let sign = u16::from_be_bytes(input.array()?);
    let scale = usize::from(u16::from_be_bytes(input.array()?));
    let mut shown = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digits: Vec<i16> = (0..digits).map(|_| input.i16()).collect::<Option<_>>()?;
    let digit = |power: i32| {
        let index = usize::try_from(weight - power).ok();
        index
            .and_then(|index| digits.get(index))
            .copied()
            .unwrap_or(0)
    };
    let whole: String = (0..=weight.max(0))
        .rev()
        .map(|power| format!("{:04}", digit(power)))
        .collect();
    let whole = whole.trim_start_matches('0');
    shown += if whole.is_empty() { "0" } else { whole };
    if scale > 0 {
        let powers = i32::try_from(scale.div_ceil(4)).ok()?;
        let part: String = (1..=powers)
            .map(|power| format!("{:04}", digit(-power)))
            .collect();
        shown.push('.');
        shown += part.get(..scale)?;
    }
    Some(shown)
}

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's count begins.
const EPOCH_DAYS: i64 = 10_957;
const DAY: i64 = 86_400_000_000;

/// Year, month and day of a day since 1970, in the Gregorian calendar for all times.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years that begin in March have their leap day at the end; 400 of them have 146,097 days.
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

/// A day and what is to stand before the era.
fn day(days: i64, rest: &str) -> String {
    let (year, month, day) = civil(days + EPOCH_DAYS);
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}{rest}"),
        _ => format!("{:04}-{month:02}-{day:02}{rest} BC", 1 - year),
    }
}

fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        days => day(days.into(), ""),
    }
}

fn time(micros: i64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let shown = format!("{hours:02}:{minutes:02}:{seconds:02}");
    match micros {
        0 => shown,
        _ => shown + format!(".{micros:06}").trim_end_matches('0'),
    }
}

/// Seconds west of Greenwich.
fn zone(west: i32) -> String {
    let sign = if west > 0 { '-' } else { '+' };
    let seconds = west.unsigned_abs();
    let mut shown = format!("{sign}{:02}", seconds / 3600);
    if !seconds.is_multiple_of(3600) {
        shown += &format!(":{:02}", seconds / 60 % 60);
    }
    if !seconds.is_multiple_of(60) {
        shown += &format!(":{:02}", seconds % 60);
    }
    shown
}

fn timestamp(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        micros => day(
            micros.div_euclid(DAY),
            &format!(" {}{zone}", time(micros.rem_euclid(DAY))),
        ),
    }
}

fn interval(input: &mut Input<'_>) -> Option<String> {
    let (micros, days, months) = (input.i64()?, input.i32()?, input.i32()?);
    let mut parts = Vec::new();
    // A plus sign is needed after something negative.
    let mut negative = false;
    for (count, one) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let sign = if negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            parts.push(format!("{sign}{count} {one}{plural}"));
            negative = count < 0;
        }
    }
    if micros != 0 || parts.is_empty() {
        let sign = match micros {
            ..0 => "-",
            _ if negative => "+",
            _ => "",
        };
        let size = i64::try_from(micros.unsigned_abs()).ok()?;
        parts.push(format!("{sign}{}", time(size)));
    }
    Some(parts.join(" "))
}

fn network(input: &mut Input<'_>) -> Option<String> {
    let (_family, bits, is_network) = (input.u8()?, input.u8()?, input.u8()?);
    let (address, all) = match input.u8()? {
        4 => (Ipv4Addr::from(input.array::<4>()?).to_string(), 32),
        16 => (Ipv6Addr::from(input.array::<16>()?).to_string(), 128),
        _ => return None,
    };
    Some(match is_network == 0 && bits == all {
        true => address,
        false => format!("{address}/{bits}"),
    })
}

fn bits(input: &mut Input<'_>) -> Option<String> {
    let length = usize::try_from(input.i32()?).ok()?;
    let all: String = input.0.iter().map(|byte| format!("{byte:08b}")).collect();
    all.get(..length).map(str::to_owned)
}
