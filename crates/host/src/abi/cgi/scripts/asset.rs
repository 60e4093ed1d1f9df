//! Files that clients get as they are: style sheets, pictures, and whatever else lies beside scripts.
//!
//! Small on purpose: GET and HEAD, a type by the extension, and an entity tag by which a client finds that nothing has changed. No ranges, no
//! compression, no listings.

use std::convert::Infallible;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use hostel_app::limits;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime_wasi_http::WasiBody;

use super::on_thread;
use crate::guest::BodyError;

/// Types by extension. Text is taken for UTF-8.
const TYPES: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "application/xml"),
];
const ANY_TYPE: &str = "application/octet-stream";

/// The answer with a file that was opened; its name says what it holds. The file has its seat as long as it is open: clients that
/// read slowly keep no more of them open than there are seats.
pub(super) fn answer(
    name: &str,
    (file, about): (File, Metadata),
    head: &Parts,
    seat: OwnedSemaphorePermit,
) -> Response<WasiBody> {
    let tag = tag(&about);
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let why = "this file can be fetched, nothing else\n";
        let mut response = super::refusal(StatusCode::METHOD_NOT_ALLOWED, why);
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let same = tag.as_ref().is_some_and(|tag| is_known(&head.headers, tag));
    let mut response = match same {
        true => Response::new(empty()),
        false => Response::new(content(file, about.len(), seat)),
    };
    let headers = response.headers_mut();
    if let Some(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(about.len()));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(type_of(name)),
    );
    // The type is what the name says: nobody is to guess a script out of an upload.
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn type_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut types = TYPES.iter();
    let known = types.find(|(one, _)| one.eq_ignore_ascii_case(extension));
    known.map_or(ANY_TYPE, |(_, is)| is)
}

/// Names this content: it changes with the file's length or the time of its last change.
fn tag(about: &Metadata) -> Option<HeaderValue> {
    let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let tag = format!("\"{:x}-{:x}\"", changed.as_nanos(), about.len());
    HeaderValue::try_from(tag).ok()
}

/// Whether the client has this content.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|value| value.to_str().ok());
    known.any(|tags| {
        let mut tags = tags.split(',').map(str::trim);
        tags.any(|one| one == "*" || one.trim_start_matches("W/").as_bytes() == tag.as_bytes())
    })
}

/// The first `length` bytes, read piece by piece on a thread where that may wait.
fn content(file: File, length: u64, seat: OwnedSemaphorePermit) -> WasiBody {
    let pieces = stream::try_unfold((file, length, seat), |(file, left, seat)| async move {
        if left == 0 {
            return Ok(None);
        }
        let ((file, piece), seat) = on_thread(seat, move || piece(file, left)).await?;
        let left = left.saturating_sub(piece.len() as u64);
        Ok::<_, io::Error>(Some((Frame::data(piece), (file, left, seat))))
    });
    let failed = |error: io::Error| BodyError::InternalError(Some(error.to_string()));
    StreamBody::new(pieces.map_err(failed)).boxed_unsync()
}

fn piece(mut file: File, left: u64) -> io::Result<(File, Bytes)> {
    let size = usize::try_from(left).unwrap_or(usize::MAX);
    let mut piece = vec![0; size.min(limits::STREAM_CHUNK_BYTES.size())];
    let read = file.read(&mut piece)?;
    if read == 0 {
        // The length was announced.
        return Err(io::Error::other("a file was cut while it was sent"));
    }
    piece.truncate(read);
    Ok((file, piece.into()))
}

fn empty() -> WasiBody {
    let body = Empty::new().map_err(|never: Infallible| match never {});
    body.boxed_unsync()
}
