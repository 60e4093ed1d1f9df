//! Reading typed values out of a TOML tree that knows where everything stood.
//!
//! The manifest is read by hand rather than by derive: so every error is found, not only the first, and each has its
//! place, its known keys and its "did you mean". Nothing here knows what the keys are for.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::error::{Kind, Report};
use crate::limits::Limit;
use crate::nearest::nearest;

/// A value of the tree.
pub(crate) type Value<'i> = Spanned<DeValue<'i>>;

/// Something with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    /// Bytes of the manifest's text.
    pub(crate) span: Range<usize>,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

/// One table and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'d, 'i> {
    table: &'d DeTable<'i>,
    /// As the author would write it: `[component.web]`.
    name: String,
    span: Range<usize>,
}

impl<'d, 'i> Fields<'d, 'i> {
    /// The whole file, by the name that messages call it.
    pub(crate) fn root(table: &'d DeTable<'i>, name: &str) -> Self {
        Self {
            table,
            name: name.to_owned(),
            span: 0..0,
        }
    }

    /// A table inside; `None`, and an error, for any other value.
    pub(crate) fn new(report: &mut Report<'_>, name: String, value: &'d Value<'i>) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self {
                table,
                name,
                span: value.span(),
            }),
            other => {
                let what = format!("{name} is {}, not a table", described(other));
                report.at(
                    Kind::WrongType,
                    value.span(),
                    what,
                    format!("write it as {name} with keys below it"),
                );
                None
            }
        }
    }

    /// Reports every key that is not among `known`.
    pub(crate) fn only(&self, report: &mut Report<'_>, known: &[&str]) {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("the keys of {} are {}", self.name, known.join(", ")),
            };
            report.at(
                Kind::UnknownKey,
                key.span(),
                format!("unknown key \"{name}\""),
                help,
            );
        }
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'d Value<'i>> {
        self.table.get(key)
    }

    /// Its keys and values in the order of the file.
    pub(crate) fn entries(&self) -> Vec<(At<String>, &'d Value<'i>)> {
        let entry = |(key, value): (&Spanned<_>, &'d Value<'i>)| (key_at(key), value);
        let mut entries: Vec<_> = self.table.iter().map(entry).collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    /// The value of a key that must be there.
    pub(crate) fn required(
        &self,
        report: &mut Report<'_>,
        key: &str,
        example: &str,
    ) -> Option<&'d Value<'i>> {
        let found = self.get(key);
        if found.is_none() {
            let what = format!("{} has no \"{key}\"", self.name);
            report.at(
                Kind::MissingKey,
                self.span(),
                what,
                format!("add {key} = {example}"),
            );
        }
        found
    }

    /// A string, if the key is there.
    pub(crate) fn string(&self, report: &mut Report<'_>, key: &str) -> Option<At<String>> {
        string(report, key, self.get(key)?)
    }

    /// A boolean, if the key is there.
    pub(crate) fn boolean(&self, report: &mut Report<'_>, key: &str) -> Option<At<bool>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(At::new(*flag, value.span())),
            other => {
                wrong_type(report, key, value, other, "true or false");
                None
            }
        }
    }

    /// A list of strings; empty if the key is not there.
    pub(crate) fn strings(&self, report: &mut Report<'_>, key: &str) -> Vec<At<String>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| string(report, key, item))
                .collect(),
            other => {
                wrong_type(report, key, value, other, "a list of strings: [\"...\"]");
                Vec::new()
            }
        }
    }

    /// A table of strings, in the order of the file; empty if the key is not there.
    pub(crate) fn pairs(
        &self,
        report: &mut Report<'_>,
        key: &str,
    ) -> Vec<(At<String>, At<String>)> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Table(table) = value.get_ref() else {
            wrong_type(
                report,
                key,
                value,
                value.get_ref(),
                "a table of strings: { NAME = \"value\" }",
            );
            return Vec::new();
        };
        let fields = Self {
            table,
            name: key.to_owned(),
            span: value.span(),
        };
        let pair = |(name, value): (At<String>, &Value<'_>)| {
            let text = string(report, &name.value, value)?;
            Some((name, text))
        };
        fields.entries().into_iter().filter_map(pair).collect()
    }

    /// A whole number within the bounds of its limit, if the key is there.
    pub(crate) fn count(
        &self,
        report: &mut Report<'_>,
        key: &str,
        limit: &Limit,
    ) -> Option<At<u32>> {
        let value = self.get(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            wrong_type(report, key, value, value.get_ref(), "a whole number");
            return None;
        };
        let fits = |number: &u64| (limit.floor..=limit.ceiling).contains(number);
        match decimal(integer)
            .parse()
            .ok()
            .filter(fits)
            .and_then(|number| u32::try_from(number).ok())
        {
            Some(number) => Some(At::new(number, value.span())),
            None => {
                let what = format!("\"{key}\" cannot be {}", decimal(integer));
                let help = format!(
                    "write a whole number from {} to {}",
                    limit.floor, limit.ceiling
                );
                report.at(Kind::BadValue, value.span(), what, help);
                None
            }
        }
    }

    /// The elements of an array of tables (`[[name]]`); empty if the key is not there.
    pub(crate) fn tables(&self, report: &mut Report<'_>, key: &str) -> Vec<Self> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let name = format!("[[{key}]]");
        match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| Self::new(report, name.clone(), item))
                .collect(),
            other => {
                let what = format!("\"{key}\" is {}, not a list of tables", described(other));
                report.at(
                    Kind::WrongType,
                    value.span(),
                    what,
                    format!("write {name} with two brackets"),
                );
                Vec::new()
            }
        }
    }
}

/// A string without NUL characters, which neither an operating system nor a guest's argument list can carry.
pub(crate) fn string(report: &mut Report<'_>, key: &str, value: &Value<'_>) -> Option<At<String>> {
    match value.get_ref() {
        DeValue::String(text) if text.contains('\0') => {
            let what = format!("\"{key}\" holds a NUL character");
            report.at(Kind::BadValue, value.span(), what, "remove \\u0000 from it");
            None
        }
        DeValue::String(text) => Some(At::new(text.clone().into_owned(), value.span())),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            let what = format!("\"{key}\" is {}, not a string", described(value.get_ref()));
            let written = report.written(value.span()).unwrap_or("...");
            report.at(
                Kind::WrongType,
                value.span(),
                what,
                format!("put it in quotes: \"{written}\""),
            );
            None
        }
        other => {
            wrong_type(report, key, value, other, "a string: \"...\"");
            None
        }
    }
}

/// The number in decimal digits, whatever base it was written in; as written if it needs more than 64 bits.
pub(crate) fn decimal(integer: &DeInteger<'_>) -> String {
    i64::from_str_radix(integer.as_str(), integer.radix())
        .map_or_else(|_| integer.as_str().to_owned(), |number| number.to_string())
}

/// A value's type in words.
pub(crate) fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Reports a value of the wrong type; `right` says what to write instead.
pub(crate) fn wrong_type(
    report: &mut Report<'_>,
    key: &str,
    value: &Value<'_>,
    found: &DeValue<'_>,
    right: &str,
) {
    let what = format!("\"{key}\" cannot be {}", described(found));
    report.at(
        Kind::WrongType,
        value.span(),
        what,
        format!("write {right}"),
    );
}

fn key_at(key: &Spanned<std::borrow::Cow<'_, str>>) -> At<String> {
    At::new(key.get_ref().clone().into_owned(), key.span())
}
