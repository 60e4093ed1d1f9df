//! Objects in containers over HTTP, through `wasi:blobstore`, in the container `c` (`uploads` where it is not given).
//!
//! `PUT` or `POST ?name=N` stores the body as it comes: `order=before` writes it before the host knows where it goes, `end=drop`
//! drops the value instead of finishing it, `end=leave` returns with the value still open. `GET ?name=N` streams the object
//! back, with `start` and `end` a part of it, with `how=sync` all at once. `DELETE ?name=N` deletes, several `name,name` at
//! once. `GET` with another switch: `list` (with `len` on a page and `skip` before the first), `info=N`, `has=N`,
//! `copy=N` and `move=N` (with `to=N`, and `into=C` for another container), `clear`, `container=create`, `exists`, `info`,
//! `delete`, and `open=N`, which begins N uploads and N downloads of `name` and leaves them all. Answers are a line of text;
//! an error is 500 with its text.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/blobstore",
        world: "wasi:blobstore/imports",
        with: {
            "wasi:io/error@0.2.1": wasip2::io::error,
            "wasi:io/poll@0.2.1": wasip2::io::poll,
            "wasi:io/streams@0.2.1": wasip2::io::streams,
        },
        generate_all,
    });
}

use bindings::wasi::blobstore::blobstore;
use bindings::wasi::blobstore::container::Container;
use bindings::wasi::blobstore::types::{IncomingValue, ObjectId, OutgoingValue};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

struct Blobs;

wasip2::http::proxy::export!(Blobs);

/// Bytes that are asked for at once.
const CHUNK: u64 = 64 << 10;

impl Guest for Blobs {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let name = query(&request, "name");
        let done = match (request.method(), name) {
            (Method::Put | Method::Post, Some(name)) => put(request, &name),
            (Method::Delete, Some(names)) => delete(&request, &names),
            (Method::Get, Some(name)) if query(&request, "open").is_none() => {
                match value(&request, &name) {
                    Ok(value) => return send(value, query(&request, "how"), out),
                    Err(text) => Err(text),
                }
            }
            _ => other(&request),
        };
        match done {
            Ok(text) => http_p2::answer(out, 200, &format!("{text}\n")),
            Err(text) => http_p2::answer(out, 500, &format!("{text}\n")),
        }
    }
}

fn query(request: &IncomingRequest, key: &str) -> Option<String> {
    http_p2::query(request, key)
}

fn container_name(request: &IncomingRequest) -> String {
    query(request, "c").unwrap_or("uploads".to_string())
}

fn open(request: &IncomingRequest) -> Result<Container, String> {
    blobstore::get_container(&container_name(request))
}

/// Stores the request's body.
fn put(request: IncomingRequest, name: &str) -> Result<String, String> {
    let container = open(&request)?;
    let value = OutgoingValue::new_outgoing_value();
    let body = value
        .outgoing_value_write_body()
        .expect("the first call for the body");
    let incoming = request.consume().expect("the first call for the body");
    let from = incoming.stream().expect("the first call for the stream");
    let before = query(&request, "order").as_deref() == Some("before");
    if !before {
        container.write_data(name, &value)?;
    }
    let copied = copy(&from, &body);
    if before && copied.is_ok() {
        container.write_data(name, &value)?;
    }
    drop(body);
    match query(&request, "end").as_deref() {
        Some("drop") => return Ok("dropped".to_string()),
        Some("leave") => {
            // Alive until the instance is gone.
            std::mem::forget(value);
            return Ok("left".to_string());
        }
        _ => {}
    }
    match copied {
        Ok(bytes) => {
            OutgoingValue::finish(value)?;
            Ok(format!("stored {bytes} bytes"))
        }
        // A client that left: a part of its body must not become the object.
        Err(text) if text.starts_with("read") => Err(text),
        Err(text) => match OutgoingValue::finish(value) {
            Ok(()) => Err(text),
            Err(cause) => Err(format!("{text}; finish: {cause}")),
        },
    }
}

/// Copies to the end and returns how much it was.
fn copy(from: &InputStream, to: &OutputStream) -> Result<u64, String> {
    let mut bytes = 0;
    loop {
        match from.blocking_read(CHUNK) {
            Ok(piece) => {
                write(to, &piece).map_err(|error| told("write", error))?;
                bytes += piece.len() as u64;
            }
            Err(StreamError::Closed) => return Ok(bytes),
            Err(error) => return Err(told("read", error)),
        }
    }
}

fn write(to: &OutputStream, mut piece: &[u8]) -> Result<(), StreamError> {
    while !piece.is_empty() {
        let room = to.check_write()? as usize;
        if room == 0 {
            to.subscribe().block();
            continue;
        }
        let (now, rest) = piece.split_at(room.min(piece.len()));
        to.write(now)?;
        piece = rest;
    }
    Ok(())
}

fn told(what: &str, error: StreamError) -> String {
    match error {
        StreamError::Closed => format!("{what}: closed"),
        StreamError::LastOperationFailed(error) => format!("{what}: {}", error.to_debug_string()),
    }
}

fn delete(request: &IncomingRequest, names: &str) -> Result<String, String> {
    let container = open(request)?;
    match names.split(',').map(str::to_string).collect::<Vec<_>>() {
        names if names.len() > 1 => container.delete_objects(&names)?,
        _ => container.delete_object(names)?,
    }
    Ok("deleted".to_string())
}

/// The object, or the part of it that was asked for.
fn value(request: &IncomingRequest, name: &str) -> Result<IncomingValue, String> {
    let start = http_p2::number(request, "start", 0);
    let end = http_p2::number(request, "end", u64::MAX);
    open(request)?.get_data(name, start, end)
}

/// Answers with a value.
fn send(value: IncomingValue, how: Option<String>, out: ResponseOutparam) {
    if how.as_deref() == Some("sync") {
        let size = value.size();
        return match IncomingValue::incoming_value_consume_sync(value) {
            Ok(bytes) => {
                assert_eq!(bytes.len() as u64, size);
                http_p2::answer(out, 200, &String::from_utf8_lossy(&bytes))
            }
            Err(text) => http_p2::answer(out, 500, &format!("{text}\n")),
        };
    }
    let size = value.size().to_string();
    let stream = match IncomingValue::incoming_value_consume_async(value) {
        Ok(stream) => stream,
        Err(text) => return http_p2::answer(out, 500, &format!("{text}\n")),
    };
    let body = http_p2::head(out, 200, &[("content-length", &size)]);
    let to = body.write().expect("the first call for the stream");
    if copy(&stream, &to).is_ok() {
        drop((stream, to));
        http_p2::end(body, None);
    }
}

fn other(request: &IncomingRequest) -> Result<String, String> {
    let text = |key| query(request, key);
    if let Some(what) = text("container") {
        return container(&container_name(request), &what);
    }
    if let Some(name) = text("open") {
        return leave_open(request, name.parse().unwrap_or(1));
    }
    if text("list").is_some() {
        return list(request);
    }
    if text("clear").is_some() {
        return open(request)?.clear().map(|()| "cleared".to_string());
    }
    if let Some(name) = text("has") {
        return open(request)?.has_object(&name).map(|has| has.to_string());
    }
    if let Some(name) = text("info") {
        let info = open(request)?.object_info(&name)?;
        assert!(info.created_at > 1_700_000_000 && info.created_at < 10_000_000_000);
        return Ok(format!(
            "{} in {}: {} bytes",
            info.name, info.container, info.size
        ));
    }
    let id = |container: Option<String>, object: String| ObjectId {
        container: container.unwrap_or_else(|| container_name(request)),
        object,
    };
    let to = id(text("into"), text("to").unwrap_or_default());
    if let Some(name) = text("copy") {
        return blobstore::copy_object(&id(None, name), &to).map(|()| "copied".to_string());
    }
    if let Some(name) = text("move") {
        return blobstore::move_object(&id(None, name), &to).map(|()| "moved".to_string());
    }
    Err("nothing was asked for".to_string())
}

fn container(name: &str, what: &str) -> Result<String, String> {
    match what {
        "create" => blobstore::create_container(name)?.name(),
        "exists" => blobstore::container_exists(name).map(|exists| exists.to_string()),
        "delete" => blobstore::delete_container(name).map(|()| "deleted".to_string()),
        _ => {
            let info = blobstore::get_container(name)?.info()?;
            assert!(info.created_at > 1_700_000_000 && info.created_at < 10_000_000_000);
            Ok(info.name)
        }
    }
}

/// Names, page by page.
fn list(request: &IncomingRequest) -> Result<String, String> {
    let names = open(request)?.list_objects()?;
    let skip = http_p2::number(request, "skip", 0);
    let (skipped, mut end) = names.skip_stream_object_names(skip)?;
    let mut all = Vec::new();
    while !end {
        let (page, last) = names.read_stream_object_names(http_p2::number(request, "len", 100))?;
        all.extend(page);
        end = last;
    }
    let after = names.read_stream_object_names(1)?;
    assert!(after.0.is_empty() && after.1);
    Ok(format!("skipped {skipped}: {}", all.join(" ")))
}

/// Begins much and ends nothing.
fn leave_open(request: &IncomingRequest, count: u64) -> Result<String, String> {
    let container = open(request)?;
    let name = query(request, "name").unwrap_or_default();
    for _ in 0..count {
        let value = OutgoingValue::new_outgoing_value();
        let body = value
            .outgoing_value_write_body()
            .expect("the first call for the body");
        container.write_data(&name, &value)?;
        write(&body, &[b'x'; 1000]).map_err(|error| told("write", error))?;
        let read = container.get_data(&name, 0, u64::MAX)?;
        let read = IncomingValue::incoming_value_consume_async(read)?;
        read.blocking_read(1000)
            .map_err(|error| told("read", error))?;
        std::mem::forget((value, body, read));
    }
    Ok(format!("left {count} open"))
}
