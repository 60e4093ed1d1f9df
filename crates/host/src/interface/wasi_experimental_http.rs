//! `wasi_experimental_http`: outgoing requests of core modules, as of before WASI had HTTP. Answers are buffered whole.
//!
//! Every function returns a code, 0 for success. Handles are the lowest free numbers; what is read of one is gone.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use wasmtime::{Caller, Linker, Result};
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpHooks};

use super::core_abi::Guest;
use crate::state::Host;

/// The module's name.
pub(crate) const MODULE: &str = "wasi_experimental_http";
/// Its functions.
pub(crate) const FUNCTIONS: &[&str] =
    &["req", "close", "header_get", "headers_get_all", "body_read"];

/// What its functions return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Code {
    Success = 0,
    InvalidHandle = 1,
    BufferTooSmall = 4,
    HeaderNotFound = 5,
    Utf8 = 6,
    NotAllowed = 7,
    InvalidMethod = 8,
    InvalidEncoding = 9,
    InvalidUrl = 10,
    Request = 11,
    TooManySessions = 13,
}

/// Answers that an instance holds.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<u32, Session>);

#[derive(Debug)]
struct Session {
    headers: HeaderMap,
    body: Bytes,
    /// What it came with; parts that were read go with the whole.
    bytes: usize,
}

impl Sessions {
    fn open(&mut self, session: Session) -> u32 {
        let free = (0..).find(|handle| !self.0.contains_key(handle));
        let handle = free.unwrap_or(u32::MAX);
        self.0.insert(handle, session);
        handle
    }

    /// Bytes of all of them.
    fn bytes(&self) -> usize {
        let sizes = self.0.values().map(|session| session.bytes);
        sizes.fold(0, usize::saturating_add)
    }
}

/// Puts the functions into the linker of core modules.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    type Req = (i32, i32, i32, i32, i32, i32, i32, i32, i32, i32);
    linker.func_wrap_async(MODULE, "req", |caller, parameters: Req| {
        let (url, url_len, method, method_len, headers, headers_len, body, body_len, status, out) =
            parameters;
        Box::new(async move {
            let mut guest = Guest(caller);
            let request = read_request(
                &mut guest,
                [(url, url_len), (method, method_len), (headers, headers_len)],
                (body, body_len),
            )?;
            finish(send(&mut guest, request, (status, out)).await)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "close",
        |mut caller: Caller<'_, Host>, handle: u32| {
            let closed = caller.data_mut().http_sessions.0.remove(&handle);
            closed.map_or(Code::InvalidHandle, |_| Code::Success) as u32
        },
    )?;
    add_readers(linker)
}

/// What reads an answer.
fn add_readers(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "header_get",
        |caller: Caller<'_, Host>,
         handle: u32,
         name: i32,
         name_len: i32,
         at: i32,
         len: i32,
         out: i32| {
            let mut guest = Guest(caller);
            let name = guest.text(name, name_len)?;
            let headers = guest
                .host()
                .http_sessions
                .0
                .get(&handle)
                .map(|session| &session.headers);
            let value = headers
                .ok_or(Code::InvalidHandle)
                .and_then(|headers| headers.get(&name).ok_or(Code::HeaderNotFound))
                .map(|value| value.as_bytes().to_vec());
            give(&mut guest, value, (at, len, out))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "headers_get_all",
        |caller: Caller<'_, Host>, handle: u32, at: i32, len: i32, out: i32| {
            let mut guest = Guest(caller);
            let session = guest.host().http_sessions.0.get(&handle);
            let lines = session.ok_or(Code::InvalidHandle).map(|session| {
                let mut lines = Vec::new();
                for (name, value) in &session.headers {
                    lines.extend_from_slice(name.as_str().as_bytes());
                    lines.push(b':');
                    lines.extend_from_slice(value.as_bytes());
                    lines.push(b'\n');
                }
                lines
            });
            give(&mut guest, lines, (at, len, out))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "body_read",
        |caller: Caller<'_, Host>, handle: u32, at: i32, len: i32, out: i32| {
            let mut guest = Guest(caller);
            let room = usize::try_from(len.cast_unsigned()).unwrap_or(0);
            let Some(session) = guest.host().http_sessions.0.get_mut(&handle) else {
                return Ok(Code::InvalidHandle as u32);
            };
            let part = session.body.slice(..room.min(session.body.len()));
            session.body.advance(part.len());
            give(&mut guest, Ok(part.to_vec()), (at, len, out))
        },
    )?;
    Ok(())
}

/// Bytes for a buffer of the guest's, and how many.
fn give(
    guest: &mut Guest<'_>,
    bytes: std::result::Result<Vec<u8>, Code>,
    (at, len, out): (i32, i32, i32),
) -> Result<u32> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(code) => return Ok(code as u32),
    };
    if bytes.len() > usize::try_from(len.cast_unsigned()).unwrap_or(0) {
        return Ok(Code::BufferTooSmall as u32);
    }
    guest.write(at, &bytes)?;
    guest.write(out, &u32::try_from(bytes.len())?.to_le_bytes())?;
    Ok(Code::Success as u32)
}

/// Why a request came to nothing: a code for the guest, or its end.
enum Failed {
    Code(Code),
    Guest(wasmtime::Error),
}

impl From<wasmtime::Error> for Failed {
    fn from(error: wasmtime::Error) -> Self {
        Self::Guest(error)
    }
}

fn finish(outcome: std::result::Result<(), Failed>) -> Result<u32> {
    match outcome {
        Ok(()) => Ok(Code::Success as u32),
        Err(Failed::Code(code)) => Ok(code as u32),
        Err(Failed::Guest(error)) => Err(error),
    }
}

type Readable = std::result::Result<Request<WasiBody>, Code>;

/// The request as the guest describes it; header fields are lines of `name:value`.
fn read_request(
    guest: &mut Guest<'_>,
    texts: [(i32, i32); 3],
    (body, body_len): (i32, i32),
) -> Result<Readable> {
    let most = guest.host().template().limits.http_sessions;
    if guest.host().http_sessions.0.len() as u64 >= u64::from(most) {
        return Ok(Err(Code::TooManySessions));
    }
    let mut read = Vec::with_capacity(texts.len());
    for (at, length) in texts {
        match String::from_utf8(guest.bytes(at, length)?) {
            Ok(text) => read.push(text),
            Err(_) => return Ok(Err(Code::Utf8)),
        }
    }
    let body = Bytes::from(guest.bytes(body, body_len)?);
    let [url, method, headers] = read.as_slice() else {
        return Ok(Err(Code::Request));
    };
    Ok(request((url, method, headers), body))
}

fn request((url, method, headers): (&str, &str, &str), body: Bytes) -> Readable {
    let uri: Uri = url.parse().map_err(|_| Code::InvalidUrl)?;
    let method = method.parse::<Method>().map_err(|_| Code::InvalidMethod)?;
    let body = Full::new(body).map_err(|never| match never {});
    let mut request = Request::new(WasiBody::new(body));
    for line in headers.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Code::InvalidEncoding)?;
        let name = name.trim().parse::<HeaderName>();
        let value = value.trim().parse::<HeaderValue>();
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Code::InvalidEncoding);
        };
        request.headers_mut().append(name, value);
    }
    *request.uri_mut() = uri;
    *request.method_mut() = method;
    Ok(request)
}

async fn send(
    guest: &mut Guest<'_>,
    request: Readable,
    (status_out, handle_out): (i32, i32),
) -> std::result::Result<(), Failed> {
    let request = request.map_err(Failed::Code)?;
    let mut outgoing = guest.host().outgoing().clone();
    let finished = Box::new(std::future::ready(Ok(())));
    let sent = Box::into_pin(outgoing.send_request(request, None, finished)).await;
    let (response, _io) = sent.map_err(|error| {
        Failed::Code(match error {
            Error::HttpRequestDenied | Error::DestinationIpProhibited => Code::NotAllowed,
            Error::HttpRequestUriInvalid => Code::InvalidUrl,
            Error::HttpRequestMethodInvalid => Code::InvalidMethod,
            _ => Code::Request,
        })
    })?;
    let (head, body) = response.into_parts();
    let most = guest.host().template().limits.host_bytes;
    // A service may have as many bytes anew in every period, but never hold more at once.
    let left = most.saturating_sub(guest.host().http_sessions.bytes());
    let body = Limited::new(body, left).collect().await;
    let body = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let error = format!(
                "the answers that it holds have more than {most} bytes, its limit `host_bytes`"
            );
            return Err(Failed::Guest(wasmtime::Error::msg(error)));
        }
        Err(_) => return Err(Failed::Code(Code::Request)),
    };
    let headers = head.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let bytes = body.len() + headers;
    guest.host().meter.keep(bytes)?;
    let session = Session {
        headers: head.headers,
        body,
        bytes,
    };
    let handle = guest.host().http_sessions.open(session);
    guest.write(status_out, &head.status.as_u16().to_le_bytes())?;
    guest.write(handle_out, &handle.to_le_bytes())?;
    Ok(())
}
