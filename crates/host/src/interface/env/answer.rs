//! What a module answers: a status line, fields, a body. Of the status and the body the last one counts; fields are added.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::ext::ReasonPhrase;
use wasmtime::{Caller, Linker, Result};
use wasmtime_wasi_http::WasiBody;

use super::{Guest, MODULE, Place, shown};
use crate::state::{Host, Template};

/// What a field costs besides its name and value.
const FIELD_BYTES: usize = 96;

/// What it has said so far.
#[derive(Debug, Default)]
pub(crate) struct Said {
    status: Option<(i32, Vec<u8>)>,
    fields: HeaderMap,
    /// Bytes of names and values.
    field_bytes: usize,
    body: Option<Bytes>,
}

/// A part without which there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unset {
    Status,
    Body,
    /// It is none that an answer can have.
    Invalid(u16),
}

impl std::fmt::Display for Unset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status => f.write_str("it returned without a status: response_set_status_line"),
            Self::Body => f.write_str("it returned without a body: response_set_body"),
            Self::Invalid(status) => {
                write!(
                    f,
                    "it answered with the status {status}, and those of HTTP are 200 to 999"
                )
            }
        }
    }
}

/// Puts its functions into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "response_set_status_line",
        |caller: Caller<'_, Host>, status: i32, at: i32, length: i64| {
            let mut guest = Guest(caller);
            let reason = guest.bytes((at, length))?;
            let before = guest.exchange().said.status.take();
            let before = before.map_or(0, |(_, reason)| reason.len());
            keep(&mut guest, before, reason.len())?;
            guest.exchange().said.status = Some((status, reason));
            Ok(())
        },
    )?;
    linker.func_wrap(
        MODULE,
        "response_set_header",
        |caller: Caller<'_, Host>, name: i32, name_length: i64, value: i32, length: i64| {
            add_field(&mut Guest(caller), (name, name_length), (value, length))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "response_set_body",
        |caller: Caller<'_, Host>, at: i32, length: i64| {
            let mut guest = Guest(caller);
            let body = Bytes::from(guest.bytes((at, length))?);
            let before = guest.exchange().said.body.take();
            keep(&mut guest, before.map_or(0, |body| body.len()), body.len())?;
            guest.exchange().said.body = Some(body);
            Ok(())
        },
    )?;
    Ok(())
}

/// The host keeps something in the place of something else.
fn keep(guest: &mut Guest<'_>, before: usize, now: usize) -> Result<()> {
    let meter = &mut guest.host().meter;
    meter.release(before);
    meter.keep(now)
}

fn add_field(guest: &mut Guest<'_>, name: Place, value: Place) -> Result<()> {
    let (name, value) = (guest.bytes(name)?, guest.bytes(value)?);
    guest
        .host()
        .meter
        .keep(name.len() + value.len() + FIELD_BYTES)?;
    let parsed = HeaderName::from_bytes(&name);
    let trimmed = HeaderValue::from_bytes(value.trim_ascii());
    let (Ok(field), Ok(content)) = (parsed, trimmed) else {
        let name = shown(&name);
        guest.trouble(&format!(
            "a field of its answer is left out, because its name or value is none of HTTP: {name}"
        ));
        return Ok(());
    };
    let most = guest.host().template().limits.header_bytes;
    let said = &mut guest.exchange().said;
    let bytes = said.field_bytes + name.len() + content.len();
    if bytes > most || said.fields.try_append(field, content).is_err() {
        let name = shown(&name);
        guest.trouble(&format!(
            "a field of its answer is left out, because the fields are more than its limit `headers` allows: {name}"
        ));
        return Ok(());
    }
    said.field_bytes = bytes;
    Ok(())
}

impl Said {
    /// The answer to a request with this method.
    pub(crate) fn into_response(
        mut self,
        method: &Method,
        template: &Template,
    ) -> std::result::Result<Response<WasiBody>, Unset> {
        let (status, reason) = self.status.take().ok_or(Unset::Status)?;
        let body = self.body.take().ok_or(Unset::Body)?;
        // As the original did: what does not fit into 16 bits is cut off.
        let number = (status.cast_unsigned() & 0xffff) as u16;
        let status = StatusCode::from_u16(number).ok();
        let status = status.filter(|status| !status.is_informational());
        let status = status.ok_or(Unset::Invalid(number))?;
        self.settle_length(status, method, &body, template);
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = status;
        head.headers = self.fields;
        if !reason.is_empty() && Some(reason.as_slice()) != usual(status) {
            let most = template.limits.header_bytes;
            match ReasonPhrase::try_from(reason) {
                Ok(reason) if reason.as_bytes().len() <= most => {
                    head.extensions.insert(reason);
                }
                _ => template.trouble("the reason of its status is left out, because it is too long or no text of one line"),
            }
        }
        let body = Full::new(body).map_err(|never| match never {});
        Ok(Response::from_parts(head, WasiBody::new(body)))
    }

    /// The length is what the body has, whatever the module says; only an answer to HEAD may speak of a body that it has not.
    fn settle_length(
        &mut self,
        status: StatusCode,
        method: &Method,
        body: &Bytes,
        template: &Template,
    ) {
        let written = self.fields.get(CONTENT_LENGTH).cloned();
        let right = HeaderValue::from(body.len());
        if method == Method::HEAD && body.is_empty() && self.says_one_length() {
            return;
        }
        if let Some(written) = written.filter(|written| *written != right) {
            let (written, length) = (shown(written.as_bytes()), body.len());
            template.trouble(format!(
                "it said that its body has {written} bytes, and it has {length}: the answer says so"
            ));
        }
        match status == StatusCode::NOT_MODIFIED {
            true => drop(self.fields.remove(CONTENT_LENGTH)),
            false => drop(self.fields.insert(CONTENT_LENGTH, right)),
        }
    }

    /// Whether its fields have exactly one length, and that is one.
    fn says_one_length(&self) -> bool {
        let mut lengths = self.fields.get_all(CONTENT_LENGTH).iter();
        let (Some(length), None) = (lengths.next(), lengths.next()) else {
            return false;
        };
        let digits = length.as_bytes().iter().all(u8::is_ascii_digit);
        digits
            && length
                .to_str()
                .is_ok_and(|text| text.parse::<u64>().is_ok())
    }
}

/// What is written without a word of the module's.
fn usual(status: StatusCode) -> Option<&'static [u8]> {
    status.canonical_reason().map(str::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn said(
        status: i32,
        reason: &str,
        fields: &[(&'static str, &str)],
        body: &'static str,
    ) -> Said {
        let mut said = Said {
            status: Some((status, reason.into())),
            body: Some(Bytes::from_static(body.as_bytes())),
            ..Said::default()
        };
        for (name, value) in fields {
            said.fields.append(*name, value.parse().unwrap());
        }
        said
    }

    fn answer(said: Said, method: Method) -> std::result::Result<Response<WasiBody>, Unset> {
        said.into_response(&method, &testing::template())
    }

    #[test]
    fn a_status_is_cut_to_16_bits_and_then_has_to_be_one() {
        for (status, number) in [
            (200, 200),
            (65_536 + 404, 404),
            (-65_336, 200),
            (999, 999),
            (299, 299),
        ] {
            let response = answer(said(status, "", &[], ""), Method::GET).unwrap();
            assert_eq!(response.status().as_u16(), number, "{status}");
        }
        for (status, number) in [
            (0, 0),
            (42, 42),
            (100, 100),
            (199, 199),
            (1000, 1000),
            (-1, 65_535),
        ] {
            let unset = answer(said(status, "", &[], ""), Method::GET).unwrap_err();
            assert_eq!(unset, Unset::Invalid(number));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let only = |status, body| Said {
            status,
            body,
            ..Said::default()
        };
        let told = answer(only(None, Some(Bytes::new())), Method::GET).unwrap_err();
        assert_eq!(told, Unset::Status);
        let told = answer(only(Some((200, vec![])), None), Method::GET).unwrap_err();
        assert_eq!(told, Unset::Body);
    }

    #[test]
    fn a_reason_of_its_own_is_passed_on_if_it_is_one_line() {
        let reason = |text: &str| {
            let response = answer(said(200, text, &[], ""), Method::GET).unwrap();
            let reason = response.extensions().get::<ReasonPhrase>().cloned();
            reason.map(|reason| String::from_utf8(reason.as_bytes().to_vec()).unwrap())
        };
        assert_eq!(reason("Ok").as_deref(), Some("Ok"));
        for none in ["OK", "", "a\r\nb: c", &"a".repeat(1 << 20)] {
            assert_eq!(reason(none), None);
        }
    }

    fn length(
        method: Method,
        status: i32,
        fields: &[(&'static str, &str)],
        body: &'static str,
    ) -> Option<String> {
        let response = answer(said(status, "", fields, body), method).unwrap();
        let value = response.headers().get(CONTENT_LENGTH);
        value.map(|value| value.to_str().unwrap().to_owned())
    }

    fn get(fields: &[(&'static str, &str)], body: &'static str) -> Option<String> {
        length(Method::GET, 200, fields, body)
    }

    #[test]
    fn the_length_is_the_body_s() {
        assert_eq!(get(&[], "abc").as_deref(), Some("3"));
        for wrong in ["2", "4", "x", "+3", "-1"] {
            assert_eq!(
                get(&[("content-length", wrong)], "abc").as_deref(),
                Some("3")
            );
        }
        let twice = [("content-length", "9"), ("content-length", "3")];
        assert_eq!(get(&twice, "abc").as_deref(), Some("3"));
        let nine = [("content-length", "9")];
        assert_eq!(length(Method::HEAD, 200, &nine, "").as_deref(), Some("9"));
        assert_eq!(
            length(Method::HEAD, 200, &nine, "abc").as_deref(),
            Some("3")
        );
        assert_eq!(length(Method::GET, 304, &nine, ""), None);
        for wrong in ["x", "+9", "9, 9", "99999999999999999999"] {
            let fields = [("content-length", wrong)];
            assert_eq!(length(Method::HEAD, 200, &fields, "").as_deref(), Some("0"));
        }
        assert_eq!(length(Method::HEAD, 200, &twice, "").as_deref(), Some("0"));
    }
}
