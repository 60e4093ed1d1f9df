//! `wasi_experimental_http`: outgoing requests of core modules, as of before WASI had HTTP. Answers are buffered whole.
//!
//! Every function returns a code, 0 for success; a guest that hands over what is not in its memory gets one too. Handles are
//! the lowest free numbers from 0; what was read of a body is gone. All that an instance holds counts against `host_bytes`
//! until it is closed. What may be reached is decided in `net`, redirects included: they are the guest's to follow.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use wasmtime::{Caller, Extern, Linker, Memory, Result};
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpHooks};

use super::core_abi::{Guest, MEMORY, size};
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
    /// The guest exports no `memory`.
    MemoryNotFound = 2,
    /// A place outside of it.
    MemoryAccess = 3,
    BufferTooSmall = 4,
    HeaderNotFound = 5,
    Utf8 = 6,
    NotAllowed = 7,
    InvalidMethod = 8,
    InvalidEncoding = 9,
    InvalidUrl = 10,
    Request = 11,
    /// A bound of the host's: requests of a call or an app, or bytes of answers.
    Runtime = 12,
    TooManySessions = 13,
}

/// Why a call came to nothing: a code for the guest, or its end.
enum Failed {
    Code(Code),
    Guest(wasmtime::Error),
}

impl From<Code> for Failed {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl From<wasmtime::Error> for Failed {
    fn from(error: wasmtime::Error) -> Self {
        Self::Guest(error)
    }
}

type Outcome<T> = std::result::Result<T, Failed>;

/// What the guest is told.
fn code(outcome: Outcome<()>) -> Result<u32> {
    match outcome {
        Ok(()) => Ok(Code::Success as u32),
        Err(Failed::Code(code)) => Ok(code as u32),
        Err(Failed::Guest(error)) => Err(error),
    }
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
        let handle = self.next();
        self.0.insert(handle, session);
        handle
    }

    /// The lowest handle that is free.
    fn next(&self) -> u32 {
        let free = (0..).find(|handle| !self.0.contains_key(handle));
        free.unwrap_or(u32::MAX)
    }

    fn get(&self, handle: u32) -> std::result::Result<&Session, Code> {
        self.0.get(&handle).ok_or(Code::InvalidHandle)
    }

    /// Bytes of all of them.
    fn bytes(&self) -> usize {
        let sizes = self.0.values().map(|session| session.bytes);
        sizes.fold(0, usize::saturating_add)
    }
}

/// A place in the guest's memory and a length.
type Place = (i32, i32);

/// What `req` is given.
struct Asked {
    url: Place,
    method: Place,
    headers: Place,
    body: Place,
    status_out: i32,
    handle_out: i32,
}

/// Puts the functions into the linker of core modules.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    type Req = (i32, i32, i32, i32, i32, i32, i32, i32, i32, i32);
    linker.func_wrap_async(MODULE, "req", |caller, parameters: Req| {
        let (url, url_len, method, method_len, headers, headers_len, body, body_len, status, out) =
            parameters;
        let asked = Asked {
            url: (url, url_len),
            method: (method, method_len),
            headers: (headers, headers_len),
            body: (body, body_len),
            status_out: status,
            handle_out: out,
        };
        Box::new(async move { code(req(&mut Guest(caller), &asked).await) })
    })?;
    linker.func_wrap(
        MODULE,
        "close",
        |mut caller: Caller<'_, Host>, handle: u32| {
            let closed = caller.data_mut().http_sessions.0.remove(&handle);
            closed.map_or(Code::InvalidHandle, |_| Code::Success) as u32
        },
    )?;
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
            code(header_get(
                &mut guest,
                handle,
                (name, name_len),
                (at, len),
                out,
            ))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "headers_get_all",
        |caller: Caller<'_, Host>, handle: u32, at: i32, len: i32, out: i32| {
            code(headers_get_all(&mut Guest(caller), handle, (at, len), out))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "body_read",
        |caller: Caller<'_, Host>, handle: u32, at: i32, len: i32, out: i32| {
            code(body_read(&mut Guest(caller), handle, (at, len), out))
        },
    )?;
    Ok(())
}

/// Sends a request and takes in its whole answer. The order of the checks is the original's, so that a guest sees the same
/// code where several would do.
async fn req(guest: &mut Guest<'_>, asked: &Asked) -> Outcome<()> {
    let most = guest.host().template().limits.http_sessions;
    if guest.host().http_sessions.0.len() as u64 >= u64::from(most) {
        return Err(Code::TooManySessions.into());
    }
    let uri: Uri = text(guest, asked.url)?
        .parse()
        .map_err(|_| Code::InvalidUrl)?;
    let granted = guest.host().outgoing().grants(&uri);
    granted.map_err(|error| code_of(&error))?;
    let method = text(guest, asked.method)?;
    let method: Method = method.parse().map_err(|_| Code::InvalidMethod)?;
    let headers = fields(&text(guest, asked.headers)?)?;
    let body = Full::new(Bytes::from(bytes(guest, asked.body)?));
    // Before the request leaves: an answer that nobody learns of is worse than none.
    for (at, length) in [(asked.status_out, 2), (asked.handle_out, 4)] {
        inside(guest, (at, length))?;
    }
    let mut request = Request::new(WasiBody::new(body.map_err(|never| match never {})));
    *request.uri_mut() = uri;
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let (status, session) = send(guest, request).await?;
    write(guest, asked.status_out, &status.to_le_bytes())?;
    let handle = guest.host().http_sessions.next();
    write(guest, asked.handle_out, &handle.to_le_bytes())?;
    guest.host().http_sessions.open(session);
    Ok(())
}

async fn send(guest: &mut Guest<'_>, request: Request<WasiBody>) -> Outcome<(u16, Session)> {
    let mut outgoing = guest.host().outgoing().clone();
    let finished = Box::new(std::future::ready(Ok(())));
    let sent = Box::into_pin(outgoing.send_request(request, None, finished)).await;
    let (response, _io) = sent.map_err(|error| code_of(&error))?;
    let (head, body) = response.into_parts();
    let most = guest.host().template().limits.host_bytes;
    let fields = head.headers.iter();
    let fields: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let held = guest.host().http_sessions.bytes();
    let left = most.saturating_sub(held).saturating_sub(fields);
    match Limited::new(body, left).collect().await {
        // With no room for its fields an answer without a body would pass.
        Ok(body) if held.saturating_add(fields) <= most => {
            let body = body.to_bytes();
            let session = Session {
                headers: head.headers,
                bytes: fields + body.len(),
                body,
            };
            Ok((head.status.as_u16(), session))
        }
        Err(error) if !error.is::<LengthLimitError>() => Err(Code::Request.into()),
        _ => {
            guest.host().template().trouble(format_args!(
                "an answer to a request of its own was not taken: it would hold more than {most} bytes of answers, its \
                 limit `host_bytes`"
            ));
            Err(Code::Runtime.into())
        }
    }
}

/// What an outgoing request's failure is to the guest.
fn code_of(error: &Error) -> Code {
    match error {
        Error::HttpRequestDenied | Error::DestinationIpProhibited => Code::NotAllowed,
        Error::HttpRequestUriInvalid => Code::InvalidUrl,
        Error::HttpRequestMethodInvalid => Code::InvalidMethod,
        Error::ConnectionLimitReached => Code::Runtime,
        _ => Code::Request,
    }
}

/// Header fields as lines of `name:value`.
fn fields(lines: &str) -> std::result::Result<HeaderMap, Code> {
    let mut fields = HeaderMap::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Code::InvalidEncoding)?;
        let name = name.trim().parse::<HeaderName>();
        let value = value.trim().parse::<HeaderValue>();
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Code::InvalidEncoding);
        };
        let fits = fields.try_append(name, value);
        fits.map_err(|_| Code::InvalidEncoding)?;
    }
    Ok(fields)
}

/// The first value of a field, whatever the case of its name.
fn header_get(
    guest: &mut Guest<'_>,
    handle: u32,
    name: Place,
    buffer: Place,
    out: i32,
) -> Outcome<()> {
    guest.host().http_sessions.get(handle)?;
    let name = text(guest, name)?;
    let session = guest.host().http_sessions.get(handle)?;
    let value = session.headers.get(&name).ok_or(Code::HeaderNotFound)?;
    let value = value.as_bytes().to_vec();
    give(guest, &value, buffer, out)
}

/// All of them, as lines.
fn headers_get_all(guest: &mut Guest<'_>, handle: u32, buffer: Place, out: i32) -> Outcome<()> {
    let session = guest.host().http_sessions.get(handle)?;
    let mut lines = Vec::new();
    for (name, value) in &session.headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.push(b':');
        lines.extend_from_slice(value.as_bytes());
        lines.push(b'\n');
    }
    give(guest, &lines, buffer, out)
}

/// As much of the body as the buffer takes, 0 bytes at its end.
fn body_read(guest: &mut Guest<'_>, handle: u32, buffer: Place, out: i32) -> Outcome<()> {
    let session = guest.host().http_sessions.get(handle)?;
    let length = session.body.len().min(size(buffer.1));
    let part = session.body.slice(..length);
    give(guest, &part, buffer, out)?;
    // What could not be written has not been read.
    if let Some(session) = guest.host().http_sessions.0.get_mut(&handle) {
        session.body.advance(length);
    }
    Ok(())
}

/// Bytes for a buffer of the guest's, and how many.
fn give(guest: &mut Guest<'_>, bytes: &[u8], (at, room): Place, out: i32) -> Outcome<()> {
    if bytes.len() > size(room) {
        return Err(Code::BufferTooSmall.into());
    }
    let length = u32::try_from(bytes.len()).map_err(|_| Code::BufferTooSmall)?;
    write(guest, at, bytes)?;
    write(guest, out, &length.to_le_bytes())
}

fn memory(guest: &mut Guest<'_>) -> Outcome<Memory> {
    let memory = guest.0.get_export(MEMORY).and_then(Extern::into_memory);
    Ok(memory.ok_or(Code::MemoryNotFound)?)
}

/// Whether the guest has such a place.
fn inside(guest: &mut Guest<'_>, (at, length): Place) -> Outcome<()> {
    let memory = memory(guest)?;
    let end = size(at).saturating_add(size(length));
    match end <= memory.data_size(&guest.0) {
        true => Ok(()),
        false => Err(Code::MemoryAccess.into()),
    }
}

/// Bytes of the guest's; more than one host call may copy end it.
fn bytes(guest: &mut Guest<'_>, place: Place) -> Outcome<Vec<u8>> {
    inside(guest, place)?;
    Ok(guest.bytes(place.0, place.1)?)
}

fn text(guest: &mut Guest<'_>, place: Place) -> Outcome<String> {
    let text = String::from_utf8(bytes(guest, place)?);
    Ok(text.map_err(|_| Code::Utf8)?)
}

fn write(guest: &mut Guest<'_>, at: i32, bytes: &[u8]) -> Outcome<()> {
    let memory = memory(guest)?;
    let written = memory.write(&mut guest.0, size(at), bytes);
    Ok(written.map_err(|_| Code::MemoryAccess)?)
}
