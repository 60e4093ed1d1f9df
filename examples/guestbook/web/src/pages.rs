//! What the pages look like, and what a form says.

use crate::book::{Book, Entry};

const PAGE: &str = include_str!("page.html");

/// The page of the book.
pub(crate) fn book(book: &Book) -> String {
    let latest = match &book.latest {
        Some(name) => format!("{} signed last.", escaped(name)),
        None => String::new(),
    };
    let entries: String = book.entries.iter().map(entry).collect();
    // What visitors wrote goes in last, so that it is never looked at for a place to fill.
    let visits = book.visits.to_string();
    let parts = [
        ("{visits}", visits),
        ("{title}", escaped(&book.title)),
        ("{latest}", latest),
    ];
    let page = parts.iter().fold(PAGE.to_owned(), |page, (place, text)| {
        page.replace(place, text)
    });
    page.replace("{entries}", &entries)
}

fn entry(entry: &Entry) -> String {
    let Entry {
        name,
        text,
        picture,
    } = entry;
    let picture = picture
        .as_ref()
        .map(|name| format!("<img src=\"/pictures/{}\" alt=\"\">", escaped(name)));
    format!(
        "<article><p>{}</p>{}<footer>{}</footer></article>\n",
        escaped(text),
        picture.unwrap_or_default(),
        escaped(name)
    )
}

/// The fields of a form as browsers send it.
pub(crate) fn form(body: &str) -> Vec<(String, String)> {
    let fields = body.split('&').filter_map(|field| field.split_once('='));
    fields
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut after = rest.clone();
        let digits =
            [after.next(), after.next()].map(|digit| Some((digit? as char).to_digit(16)? as u8));
        match (byte, digits) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [Some(high), Some(low)]) => {
                bytes.push(high * 16 + low);
                rest = after;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text from outside, safe to stand in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
