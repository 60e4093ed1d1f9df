//! Reads (`?read=PATH`), writes (`?write=PATH&text=T`), lists (`?list=PATH`) or removes (`?remove=PATH`)
//! through the standard library. Answers `ok:` with the result, or `error:` with the error's kind and text;
//! the status is 200 either way.

use std::fs;
use std::io::Result;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Files;

wasip2::http::proxy::export!(Files);

impl Guest for Files {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let text = match act(&request) {
            Some(Ok(result)) => format!("ok: {result}\n"),
            Some(Err(error)) => format!("error: {:?}: {error}\n", error.kind()),
            None => return http_p2::answer(out, 400, "say read, write, list or remove\n"),
        };
        http_p2::answer(out, 200, &text);
    }
}

/// Does what the query says; `None` where it says nothing.
fn act(request: &IncomingRequest) -> Option<Result<String>> {
    let query = |key| http_p2::query(request, key);
    if let Some(path) = query("read") {
        return Some(fs::read_to_string(path));
    }
    if let Some(path) = query("write") {
        let text = query("text").unwrap_or_default();
        let written = fs::write(path, &text);
        return Some(written.map(|()| format!("wrote {} bytes", text.len())));
    }
    if let Some(path) = query("list") {
        return Some(list(&path));
    }
    let removed = fs::remove_file(query("remove")?);
    Some(removed.map(|()| "removed".to_string()))
}

/// The names in a folder, sorted, in one line.
fn list(path: &str) -> Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}
