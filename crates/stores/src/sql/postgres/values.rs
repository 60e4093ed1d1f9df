//! Values on their way to and from PostgreSQL.
//!
//! Parameters travel as text, whatever their type: the server reads them as it reads a constant, so a date or a number with
//! many digits is written as a text. Columns come in PostgreSQL's binary form, which is taken apart here; what has no closer
//! type in [`Value`] becomes the text that PostgreSQL itself would show.

use std::error::Error as StdError;

use bytes::{Bytes, BytesMut};
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};

use super::text;
use crate::sql::Value;

type Boxed = Box<dyn StdError + Sync + Send>;

/// A parameter.
#[derive(Debug)]
pub(super) struct Parameter(pub(super) Value);

impl ToSql for Parameter {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        match &self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::Boolean(value) => put(out, if *value { "true" } else { "false" }),
            Value::Integer(value) => put(out, &value.to_string()),
            Value::Float(value) => put(out, &float(*value)),
            Value::Text(value) => put(out, value),
            Value::Bytes(value) if is_bytes(ty) => out.extend_from_slice(value),
            Value::Bytes(_) => return Err(format!("bytes are no {}", ty.name()).into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, ty: &Type) -> Format {
        match &self.0 {
            Value::Bytes(_) if is_bytes(ty) => Format::Binary,
            _ => Format::Text,
        }
    }

    tokio_postgres::types::to_sql_checked!();
}

fn put(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn is_bytes(ty: &Type) -> bool {
    match ty.kind() {
        Kind::Domain(base) => is_bytes(base),
        _ => *ty == Type::BYTEA,
    }
}

/// As PostgreSQL reads it.
fn float(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value if value.is_nan() => "NaN".to_owned(),
        value => value.to_string(),
    }
}

/// A column's value.
pub(super) struct Received(pub(super) Value);

impl<'a> FromSql<'a> for Received {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let value = received(ty, raw);
        let value = value.ok_or_else(|| format!("this is no {}", ty.name()))?;
        Ok(Self(value))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Boxed> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Whether a column of this type can be read here.
pub(super) fn is_readable(ty: &Type) -> bool {
    match ty.kind() {
        Kind::Enum(_) => true,
        Kind::Array(element) => is_readable(element),
        Kind::Domain(base) => is_readable(base),
        Kind::Simple => {
            let plain = [Type::BOOL, Type::BYTEA, Type::FLOAT4, Type::FLOAT8];
            plain.contains(ty)
                || [Type::INT2, Type::INT4, Type::INT8, Type::OID].contains(ty)
                || text::is_known(ty)
        }
        _ => *ty == Type::VOID || *ty == Type::UNKNOWN,
    }
}

fn received(ty: &Type, raw: &[u8]) -> Option<Value> {
    Some(match *ty {
        Type::BOOL => Value::Boolean(*raw.first()? != 0),
        Type::INT2 => Value::Integer(i16::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT4 => Value::Integer(i32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT8 => Value::Integer(i64::from_be_bytes(raw.try_into().ok()?)),
        Type::OID => Value::Integer(u32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::FLOAT4 => Value::Float(f32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::FLOAT8 => Value::Float(f64::from_be_bytes(raw.try_into().ok()?)),
        Type::BYTEA => Value::Bytes(Bytes::copy_from_slice(raw)),
        _ => match ty.kind() {
            Kind::Domain(base) => received(base, raw)?,
            Kind::Array(element) => Value::Text(array(element, raw)?),
            Kind::Enum(_) => Value::Text(String::from_utf8(raw.to_vec()).ok()?),
            _ => Value::Text(text::shown(ty, raw)?),
        },
    })
}

/// `{1,2,NULL}`, with braces for each dimension.
fn array(element: &Type, raw: &[u8]) -> Option<String> {
    let mut input = text::Input(raw);
    let dimensions = usize::try_from(input.i32()?).ok()?;
    let _has_null = input.i32()?;
    let _element = input.i32()?;
    let mut lengths = Vec::new();
    let mut bounds = String::new();
    for _ in 0..dimensions.min(6) {
        let (length, lower) = (input.i32()?, input.i32()?);
        lengths.push(usize::try_from(length).ok()?);
        bounds += &format!("[{lower}:{}]", i64::from(lower) + i64::from(length) - 1);
    }
    let mut shown = String::new();
    // Bounds that begin at one are not shown.
    if bounds
        .split_inclusive(']')
        .any(|bound| !bound.starts_with("[1:"))
    {
        shown = bounds + "=";
    }
    match lengths.is_empty() {
        true => shown.push_str("{}"),
        false => level(element, &lengths, &mut input, &mut shown)?,
    }
    Some(shown)
}

fn level(
    element: &Type,
    lengths: &[usize],
    input: &mut text::Input<'_>,
    out: &mut String,
) -> Option<()> {
    let (length, inner) = lengths.split_first()?;
    out.push('{');
    for index in 0..*length {
        if index > 0 {
            out.push(',');
        }
        if !inner.is_empty() {
            level(element, inner, input, out)?;
            continue;
        }
        match input.i32()? {
            -1 => out.push_str("NULL"),
            length => {
                let raw = input.take(usize::try_from(length).ok()?)?;
                out.push_str(&quoted(&shown(&received(element, raw)?)));
            }
        }
    }
    out.push('}');
    Some(())
}

/// A value inside an array.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Boolean(value) => if *value { "t" } else { "f" }.to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => float(*value),
        Value::Text(value) => value.clone(),
        Value::Bytes(value) => text::hexadecimal("\\x", value),
    }
}

fn quoted(text: &str) -> String {
    let special = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',') || c.is_whitespace();
    if !text.is_empty() && !text.contains(special) && !text.eq_ignore_ascii_case("null") {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
