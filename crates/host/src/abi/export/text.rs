//! A component's values as text: WAVE and JSON, read and written by the component's own types; and the types themselves as WIT.
//!
//! JSON: numbers, booleans, strings and lists as such; a record is an object, a tuple an array, flags are an array of names,
//! an enum is its name; a variant is its case's name, or `{"case": payload}`; an option is `null` or the value
//! (`{"some": value}` where the value is an option itself); a result is `{"ok": value}` or `{"err": value}`.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};
use wasmtime::component::{Type, Val};

/// No type is shown longer than this; a type of few bytes can be exponentially long when written out.
const TEXT_BYTES_MAX: usize = 4096;
/// Types of values are not followed further than this, for the same reason.
const NODES_MAX: usize = 10_000;

/// The type as WIT; named types are written out.
pub(crate) fn type_text(ty: &Type) -> String {
    let mut text = String::new();
    write_type(ty, &mut text);
    text
}

fn write_type(ty: &Type, out: &mut String) {
    if out.len() > TEXT_BYTES_MAX {
        if !out.ends_with('…') {
            out.push('…');
        }
        return;
    }
    let simple = match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Own(_) => "own<resource>",
        Type::Borrow(_) => "borrow<resource>",
        Type::Future(_) => "future",
        Type::Stream(_) => "stream",
        Type::Map(_) => "map",
        compound => return write_compound(compound, out),
    };
    out.push_str(simple);
}

fn write_compound(ty: &Type, out: &mut String) {
    match ty {
        Type::List(list) => write_all("list<", [(None, Some(list.ty()))], out),
        Type::FixedLengthList(list) => {
            out.push_str("list<");
            write_type(&list.ty(), out);
            // Writing to a string cannot fail.
            let _written = write!(out, ", {}>", list.len());
        }
        Type::Option(option) => write_all("option<", [(None, Some(option.ty()))], out),
        Type::Tuple(tuple) => write_all("tuple<", tuple.types().map(|ty| (None, Some(ty))), out),
        Type::Result(result) => match (result.ok(), result.err()) {
            (None, None) => out.push_str("result"),
            (Some(ok), None) => write_all("result<", [(None, Some(ok))], out),
            (ok, err) => {
                out.push_str("result<");
                match ok {
                    Some(ok) => write_type(&ok, out),
                    None => out.push('_'),
                }
                out.push_str(", ");
                if let Some(err) = err {
                    write_type(&err, out);
                }
                out.push('>');
            }
        },
        Type::Record(record) => {
            let fields = record
                .fields()
                .map(|field| (Some(field.name), Some(field.ty)));
            write_named("record", ": ", fields, out);
        }
        Type::Variant(variant) => {
            let cases = variant.cases().map(|case| (Some(case.name), case.ty));
            write_named("variant", "(", cases, out);
        }
        Type::Enum(names) => write_named("enum", "", names.names().map(|n| (Some(n), None)), out),
        Type::Flags(names) => write_named("flags", "", names.names().map(|n| (Some(n), None)), out),
        _ => out.push_str("unknown"),
    }
}

type Part<'a> = (Option<&'a str>, Option<Type>);

fn write_all<'a>(open: &str, parts: impl IntoIterator<Item = Part<'a>>, out: &mut String) {
    out.push_str(open);
    for (index, (_, ty)) in parts.into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if let Some(ty) = ty {
            write_type(&ty, out);
        }
    }
    out.push('>');
}

fn write_named<'a>(
    keyword: &str,
    lead: &str,
    parts: impl IntoIterator<Item = Part<'a>>,
    out: &mut String,
) {
    out.push_str(keyword);
    out.push_str(" { ");
    for (index, (name, ty)) in parts.into_iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(name.unwrap_or_default());
        if let Some(ty) = ty {
            out.push_str(lead);
            write_type(&ty, out);
            if lead == "(" {
                out.push(')');
            }
        }
        if out.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    out.push_str(" }");
}

/// Whether values of the type can be written as text: handles, streams and futures cannot.
pub(super) fn has_text(ty: &Type) -> bool {
    let mut open = vec![ty.clone()];
    let mut seen = 0;
    while let Some(ty) = open.pop() {
        seen += 1;
        if seen > NODES_MAX {
            return false;
        }
        match &ty {
            Type::Own(_)
            | Type::Borrow(_)
            | Type::Future(_)
            | Type::Stream(_)
            | Type::Map(_)
            | Type::ErrorContext => return false,
            Type::List(list) => open.push(list.ty()),
            Type::FixedLengthList(list) => open.push(list.ty()),
            Type::Option(option) => open.push(option.ty()),
            Type::Tuple(tuple) => open.extend(tuple.types()),
            Type::Result(result) => open.extend(result.ok().into_iter().chain(result.err())),
            Type::Record(record) => open.extend(record.fields().map(|field| field.ty)),
            Type::Variant(variant) => open.extend(variant.cases().filter_map(|case| case.ty)),
            _ => {}
        }
    }
    true
}

/// A value of the type from its WAVE text. A string need not be quoted if it does not begin with a quote.
pub(crate) fn from_wave(ty: &Type, text: &str) -> Result<Val, String> {
    if matches!(ty, Type::String) && !text.trim_start().starts_with('"') {
        return Ok(Val::String(text.to_owned()));
    }
    Val::from_wave(ty, text).map_err(|error| {
        let text = error.to_string();
        let known = "error converting Wasm value: ";
        text.strip_prefix(known).unwrap_or(&text).to_owned()
    })
}

/// The value as WAVE. Only for values of a type that [`has_text`].
pub(super) fn to_wave(value: &Val) -> String {
    value.to_wave().unwrap_or_default()
}

/// A value of the type from JSON.
pub(super) fn from_json(ty: &Type, json: &Json) -> Result<Val, String> {
    let wrong = || {
        Err(format!(
            "{} is expected, not {}",
            type_text(ty),
            brief(json)
        ))
    };
    let whole = |value: Option<i128>| value.ok_or_else(|| wrong_number(ty, json));
    Ok(match (ty, json) {
        (Type::Bool, Json::Bool(value)) => Val::Bool(*value),
        (Type::S8, _) => Val::S8(narrow(ty, json, whole(integer(json))?)?),
        (Type::U8, _) => Val::U8(narrow(ty, json, whole(integer(json))?)?),
        (Type::S16, _) => Val::S16(narrow(ty, json, whole(integer(json))?)?),
        (Type::U16, _) => Val::U16(narrow(ty, json, whole(integer(json))?)?),
        (Type::S32, _) => Val::S32(narrow(ty, json, whole(integer(json))?)?),
        (Type::U32, _) => Val::U32(narrow(ty, json, whole(integer(json))?)?),
        (Type::S64, _) => Val::S64(narrow(ty, json, whole(integer(json))?)?),
        (Type::U64, _) => Val::U64(narrow(ty, json, whole(integer(json))?)?),
        (Type::Float32, _) => match float(json) {
            // Text has more digits than a value of 32 bits.
            Some(value) => Val::Float32(value as f32),
            None => return wrong(),
        },
        (Type::Float64, _) => match float(json) {
            Some(value) => Val::Float64(value),
            None => return wrong(),
        },
        (Type::Char, Json::String(text)) => {
            let mut letters = text.chars();
            match (letters.next(), letters.next()) {
                (Some(letter), None) => Val::Char(letter),
                _ => return wrong(),
            }
        }
        (Type::String, Json::String(text)) => Val::String(text.clone()),
        _ => return compound_from_json(ty, json),
    })
}

fn compound_from_json(ty: &Type, json: &Json) -> Result<Val, String> {
    let wrong = || {
        Err(format!(
            "{} is expected, not {}",
            type_text(ty),
            brief(json)
        ))
    };
    let all = |ty: &Type, items: &[Json]| {
        let items = items.iter().map(|item| from_json(ty, item));
        items.collect::<Result<Vec<_>, _>>()
    };
    Ok(match (ty, json) {
        (Type::List(list), Json::Array(items)) => Val::List(all(&list.ty(), items)?),
        (Type::FixedLengthList(list), Json::Array(items))
            if usize::try_from(list.len()) == Ok(items.len()) =>
        {
            Val::FixedLengthList(all(&list.ty(), items)?)
        }
        (Type::Tuple(tuple), Json::Array(items)) if tuple.types().len() == items.len() => {
            let items = tuple.types().zip(items);
            let items = items.map(|(ty, item)| from_json(&ty, item));
            Val::Tuple(items.collect::<Result<_, _>>()?)
        }
        (Type::Record(_), Json::Object(fields)) => record_from_json(ty, fields)?,
        (Type::Enum(names), Json::String(name)) if names.names().any(|known| known == name) => {
            Val::Enum(name.clone())
        }
        (Type::Flags(flags), Json::Array(items)) => {
            let names = items.iter().map(|item| item.as_str().map(str::to_owned));
            match names.collect::<Option<Vec<_>>>() {
                Some(names)
                    if names
                        .iter()
                        .all(|name| flags.names().any(|known| known == name)) =>
                {
                    Val::Flags(names)
                }
                _ => return wrong(),
            }
        }
        (Type::Option(_), Json::Null) => Val::Option(None),
        (Type::Option(option), json) => {
            let (inner, json) = match (option.ty(), only_entry(json)) {
                (inner @ Type::Option(_), Some(("some", json))) => (inner, json),
                (inner, _) => (inner, json),
            };
            Val::Option(Some(Box::new(from_json(&inner, json)?)))
        }
        (Type::Result(_) | Type::Variant(_), json) => case_from_json(ty, json)?,
        _ => return wrong(),
    })
}

/// One of several cases, with its payload.
fn case_from_json(ty: &Type, json: &Json) -> Result<Val, String> {
    let wrong = || {
        Err(format!(
            "{} is expected, not {}",
            type_text(ty),
            brief(json)
        ))
    };
    let payload = |ty: Option<Type>, json: &Json| match (ty, json) {
        (None, Json::Null) => Ok(None),
        (None, other) => Err(format!("{} where there is no value", brief(other))),
        (Some(ty), json) => Ok(Some(Box::new(from_json(&ty, json)?))),
    };
    Ok(match (ty, json) {
        (Type::Result(result), json) => match only_entry(json) {
            Some(("ok", json)) => Val::Result(Ok(payload(result.ok(), json)?)),
            Some(("err", json)) => Val::Result(Err(payload(result.err(), json)?)),
            _ => return wrong(),
        },
        (Type::Variant(variant), json) => {
            let (name, json) = match json {
                Json::String(name) => (name.as_str(), &Json::Null),
                json => match only_entry(json) {
                    Some(entry) => entry,
                    None => return wrong(),
                },
            };
            match variant.cases().find(|case| case.name == name) {
                Some(case) => Val::Variant(name.to_owned(), payload(case.ty, json)?),
                None => return wrong(),
            }
        }
        _ => return wrong(),
    })
}

fn record_from_json(ty: &Type, fields: &Map<String, Json>) -> Result<Val, String> {
    let Type::Record(record) = ty else {
        return Err(format!("{} is no record", type_text(ty)));
    };
    if let Some(name) = fields
        .keys()
        .find(|name| record.fields().all(|field| field.name != name.as_str()))
    {
        return Err(format!("{} has no field `{name}`", type_text(ty)));
    }
    let values = record.fields().map(|field| {
        let value = match (fields.get(field.name), &field.ty) {
            (Some(json), ty) => from_json(ty, json)?,
            (None, Type::Option(_)) => Val::Option(None),
            (None, _) => return Err(format!("the field `{}` is missing", field.name)),
        };
        Ok((field.name.to_owned(), value))
    });
    Ok(Val::Record(values.collect::<Result<_, _>>()?))
}

/// The one entry of an object that has one.
fn only_entry(json: &Json) -> Option<(&str, &Json)> {
    let mut entries = json.as_object()?.iter();
    let (name, value) = entries.next()?;
    entries.next().is_none().then_some((name.as_str(), value))
}

fn integer(json: &Json) -> Option<i128> {
    let number = json.as_number()?;
    let unsigned = number.as_u64().map(i128::from);
    unsigned.or_else(|| number.as_i64().map(i128::from))
}

/// Numbers, and by their names those that JSON does not have.
fn float(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("nan") => Some(f64::NAN),
        Some("inf") => Some(f64::INFINITY),
        Some("-inf") => Some(f64::NEG_INFINITY),
        _ => json.as_f64(),
    }
}

fn narrow<T: TryFrom<i128>>(ty: &Type, json: &Json, value: i128) -> Result<T, String> {
    T::try_from(value).map_err(|_| wrong_number(ty, json))
}

fn wrong_number(ty: &Type, json: &Json) -> String {
    format!("{} is expected, not {}", type_text(ty), brief(json))
}

/// The beginning of a value, for a message.
fn brief(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The value as JSON.
pub(super) fn to_json(value: &Val) -> Json {
    let payload = |value: &Option<Box<Val>>| value.as_deref().map_or(Json::Null, to_json);
    match value {
        Val::Bool(value) => json!(value),
        Val::S8(value) => json!(value),
        Val::U8(value) => json!(value),
        Val::S16(value) => json!(value),
        Val::U16(value) => json!(value),
        Val::S32(value) => json!(value),
        Val::U32(value) => json!(value),
        Val::S64(value) => json!(value),
        Val::U64(value) => json!(value),
        Val::Float32(value) => float_to_json(f64::from(*value)),
        Val::Float64(value) => float_to_json(*value),
        Val::Char(value) => json!(value.to_string()),
        Val::String(value) => json!(value),
        Val::List(items) | Val::FixedLengthList(items) | Val::Tuple(items) => {
            Json::Array(items.iter().map(to_json).collect())
        }
        Val::Record(fields) => {
            let fields = fields.iter();
            Json::Object(
                fields
                    .map(|(name, value)| (name.clone(), to_json(value)))
                    .collect(),
            )
        }
        Val::Variant(name, None) | Val::Enum(name) => json!(name),
        Val::Variant(name, value) => json!({ name: payload(value) }),
        Val::Option(None) => Json::Null,
        Val::Option(Some(inner)) => match inner.as_ref() {
            nested @ Val::Option(_) => json!({ "some": to_json(nested) }),
            plain => to_json(plain),
        },
        Val::Result(Ok(value)) => json!({ "ok": payload(value) }),
        Val::Result(Err(value)) => json!({ "err": payload(value) }),
        Val::Flags(names) => json!(names),
        // A type that has no text is refused before the call.
        Val::Map(_) | Val::Resource(_) | Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) => {
            Json::Null
        }
    }
}

pub(super) fn float_to_json(value: f64) -> Json {
    match serde_json::Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => json!("nan"),
        None if value > 0.0 => json!("inf"),
        None => json!("-inf"),
    }
}

/// A string for a parameter that takes one.
pub(crate) fn from_text(ty: &Type, text: &str) -> Result<Val, String> {
    match ty {
        Type::String => Ok(Val::String(text.to_owned())),
        Type::Option(option) => {
            let inner = from_text(&option.ty(), text)?;
            Ok(Val::Option(Some(Box::new(inner))))
        }
        _ => Err("it is a string".to_owned()),
    }
}

/// Bytes for a parameter that takes them, or text if they are that.
pub(super) fn from_bytes(ty: &Type, bytes: &[u8]) -> Result<Val, String> {
    match ty {
        Type::List(list) if matches!(list.ty(), Type::U8) => {
            Ok(Val::List(bytes.iter().copied().map(Val::U8).collect()))
        }
        Type::String => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Val::String(text.to_owned())),
            Err(_) => Err("they are not UTF-8".to_owned()),
        },
        _ => Err("they are bytes".to_owned()),
    }
}
