//! The head of a program's answer: lines until an empty one.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use wasmtime_wasi_http::WasiBody;

use crate::abi::cgi::output::text;

/// What an answer without any of the three fields is answered with: the words of WAGI.
const INSUFFICIENT: &str = "Exactly one of 'location' or 'content-type' must be specified";

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) declared: Option<u64>,
    /// Lines that are no fields; a sentence for the log.
    pub(super) left_out: Option<String>,
}

/// Why lines are no head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// None of the fields is there of which one must be.
    Insufficient,
    /// A sentence for the log.
    Refused(String),
}

/// Moves bytes to the head, without CR, until the empty line that ends it. Where that is in `bytes`: how many of them belong to
/// the head.
pub(super) fn take(head: &mut Vec<u8>, bytes: &[u8]) -> Option<usize> {
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => {}
            b'\n' if head.last() == Some(&b'\n') => return Some(index + 1),
            byte => head.push(byte),
        }
    }
    None
}

/// Makes an answer of the lines.
pub(super) fn parse(lines: &[u8]) -> Result<Head, Unfit> {
    let mut fields = HeaderMap::new();
    let mut status = None;
    let mut left_out = LeftOut::default();
    for line in lines.split(|byte| *byte == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let Some((name, value)) = field(line) else {
            left_out.note(line);
            continue;
        };
        if name.as_str() == "status" {
            status = Some(parse_status(value.as_bytes())?);
        } else if name == CONTENT_TYPE || name == LOCATION {
            fields.insert(name, value);
        } else if fields.try_append(name, value).is_err() {
            return Err(Unfit::Refused(
                "the head of its answer has too many fields".into(),
            ));
        }
    }
    let located = fields.contains_key(LOCATION);
    if status.is_none() && !located && !fields.contains_key(CONTENT_TYPE) {
        return Err(Unfit::Insufficient);
    }
    let declared = declared(&fields)?;
    let mut response = Response::new(());
    *response.status_mut() = match status {
        Some(status) => status,
        None if located => StatusCode::FOUND,
        None => StatusCode::OK,
    };
    *response.headers_mut() = fields;
    Ok(Head {
        response,
        declared,
        left_out: left_out.told(),
    })
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = HeaderName::from_bytes(name.trim_ascii()).ok()?;
    let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
    Some((name, value))
}

/// The code before the first space.
fn parse_status(value: &[u8]) -> Result<StatusCode, Unfit> {
    let code = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let status = StatusCode::from_bytes(code).ok();
    let last = status.filter(|status| !status.is_informational());
    last.ok_or_else(|| {
        let told = value.escape_ascii().to_string();
        let told: String = told.chars().take(TOLD_CHARS).collect();
        Unfit::Refused(format!("its answer's status \"{told}\" is none"))
    })
}

/// Equal repetitions are one.
fn declared(fields: &HeaderMap) -> Result<Option<u64>, Unfit> {
    let mut declared = None;
    for value in fields.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().unwrap_or_default();
        let length = digits.parse::<u64>().ok();
        let length = length.filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
        if length.is_none() || declared.is_some_and(|earlier| Some(earlier) != length) {
            return Err(Unfit::Refused(
                "its answer's Content-Length is not one number".into(),
            ));
        }
        declared = length;
    }
    Ok(declared)
}

/// The answer in place of one that has none of the fields of which one must be.
pub(super) fn insufficient() -> Response<WasiBody> {
    let mut response = Response::new(text(INSUFFICIENT));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Of a line that is told, so much.
const TOLD_CHARS: usize = 64;

#[derive(Default)]
struct LeftOut {
    lines: usize,
    first: String,
}

impl LeftOut {
    fn note(&mut self, line: &[u8]) {
        if self.lines == 0 {
            let told = line.escape_ascii().to_string();
            self.first = told.chars().take(TOLD_CHARS).collect();
        }
        self.lines += 1;
    }

    fn told(self) -> Option<String> {
        let Self { lines, first } = self;
        (lines > 0).then(|| {
            format!(
                "{lines} line(s) of the head of its answer are no fields and were left out; the first: \"{first}\""
            )
        })
    }
}
