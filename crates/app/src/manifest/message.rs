//! `[[message]]` as written: which messages a component gets.

use std::ops::Range;

use crate::app::OrderedBy;
use crate::error::{Kind, Report};
use crate::fields::{At, Fields};
use crate::grant;
use crate::limits;

/// One `[[message]]`.
#[derive(Debug)]
pub(crate) struct MessageText {
    pub(crate) span: Range<usize>,
    pub(crate) topic: String,
    pub(crate) component: At<String>,
    pub(crate) group: Option<String>,
    pub(crate) client: String,
    pub(crate) concurrency: u32,
    pub(crate) deliveries: u32,
    pub(crate) dead_letter: Option<String>,
    pub(crate) ordered_by: Option<OrderedBy>,
    pub(crate) export: Option<String>,
}

/// Reads one; `None`, and an error, where it could not be subscribed.
pub(super) fn read(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<MessageText> {
    let known = [
        "topic",
        "component",
        "group",
        "client",
        "concurrency",
        "deliveries",
        "dead_letter",
        "ordered_by",
        "export",
    ];
    fields.only(report, &known);
    let topic = fields
        .required(report, "topic", "\"orders.*\"")
        .and_then(|_| named(report, fields, "topic", grant::topics));
    let component = fields
        .required(report, "component", "\"NAME\"")
        .and_then(|_| fields.string(report, "component"));
    let group = optional(report, fields, "group", grant::group);
    let client = optional(report, fields, "client", grant::label);
    let letter = optional(report, fields, "dead_letter", grant::topic);
    let mut count = |key, limit: &limits::Limit| {
        let written = fields.count(report, key, limit);
        written.map_or(limit.count(), |written| written.value)
    };
    let concurrency = count("concurrency", &limits::MESSAGE_CONCURRENCY);
    let deliveries = count("deliveries", &limits::MESSAGE_DELIVERIES);
    let ordered_by = ordered_by(report, fields);
    let export = export(report, fields);
    let topic = topic?;
    let dead_letter = letter?;
    if let Some(letter) = dead_letter.as_ref()
        && grant::stands_for(&topic.value, &letter.value)
    {
        let what = format!(
            "dead letters of \"{}\" would come back as its messages",
            topic.value
        );
        let help = "name a topic that \"topic\" does not stand for";
        report.at(Kind::BadValue, letter.span.clone(), what, help);
    }
    Some(MessageText {
        span: fields.span(),
        topic: topic.value,
        component: component?,
        group: group?.map(|group| group.value),
        client: client?.map_or_else(|| "default".to_owned(), |client| client.value),
        concurrency,
        deliveries,
        dead_letter: dead_letter.map(|letter| letter.value),
        ordered_by,
        export,
    })
}

/// `None` where the key is not there, and, with an error, where its value makes no sense.
fn ordered_by(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<OrderedBy> {
    fields.get("ordered_by")?;
    let text = fields.string(report, "ordered_by")?;
    match text.value.split_once(':') {
        None if text.value == "topic" => return Some(OrderedBy::Topic),
        Some(("metadata", name)) if !name.is_empty() => {
            return Some(OrderedBy::Metadata(name.to_owned()));
        }
        _ => {}
    }
    let what = format!("messages cannot be ordered by {:?}", text.value);
    let help = "write \"topic\", or \"metadata:NAME\" for a value that the messages carry";
    report.at(Kind::BadValue, text.span, what, help);
    None
}

/// The same for the export.
fn export(report: &mut Report<'_>, fields: &Fields<'_, '_>) -> Option<String> {
    fields.get("export")?;
    let text = fields.string(report, "export")?;
    let (interface, function) = match text.value.split_once('#') {
        Some((interface, function)) => (Some(interface), function),
        None => (None, text.value.as_str()),
    };
    if !function.is_empty() && interface.is_none_or(|interface| !interface.is_empty()) {
        return Some(text.value);
    }
    let what = format!("{:?} is not the name of an export", text.value);
    let help = "write \"FUNCTION\", or \"PACKAGE:NAME/INTERFACE@VERSION#FUNCTION\" for one of an exported interface";
    report.at(Kind::BadValue, text.span, what, help);
    None
}

type Parse = fn(&str) -> Result<String, grant::GrantError>;

/// `Some(None)` where the key is not there; `None`, and an error, where its value makes no sense.
#[expect(clippy::option_option, reason = "absent and wrong are different")]
fn optional(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
    parse: Parse,
) -> Option<Option<At<String>>> {
    match fields.get(key) {
        None => Some(None),
        Some(_) => named(report, fields, key, parse).map(Some),
    }
}

fn named(
    report: &mut Report<'_>,
    fields: &Fields<'_, '_>,
    key: &str,
    parse: Parse,
) -> Option<At<String>> {
    let text = fields.string(report, key)?;
    match parse(&text.value) {
        Ok(value) => Some(At::new(value, text.span)),
        Err(error) => {
            report.at(Kind::BadValue, text.span, error.what, error.help);
            None
        }
    }
}
