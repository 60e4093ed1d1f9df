//! The guest book's pages.
//!
//! `GET /` shows the book, `POST /entries` signs it (a form with `name` and `text`), `PUT /pictures/NAME` and
//! `GET /pictures/NAME` are pictures. `book` is what is behind the pages, `pages` what they look like; this file is HTTP.

mod book;
mod pages;

mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../../wit/config",
            "../../../wit/keyvalue",
            "../../../wit/blobstore",
            "../../../wit/messaging",
            "../../../wit/hostel-sql",
            "../wit/web",
        ],
        world: "guestbook:web/web",
        with: {
            "wasi:io/streams@0.2.1": wasip2::io::streams,
        },
        generate_all,
    });
}

use std::io::{Read, Write};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use book::Error;

struct Web;

wasip2::http::proxy::export!(Web);

/// The longest form that is read.
const FORM_BYTES_MAX: u64 = 64 << 10;

impl Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let picture = path
            .strip_prefix("/pictures/")
            .filter(|name| is_plain(name));
        let done = match (request.method(), path.as_str(), picture) {
            (Method::Get, "/", _) => page(),
            (Method::Post, "/entries", _) => sign(&request),
            (Method::Put, _, Some(name)) => upload(&request, name),
            (Method::Get, _, Some(name)) => match book::picture(name) {
                Ok(Some(picture)) => return send(out, picture),
                Ok(None) => Ok(Answer::text(404, "There is no such picture.")),
                Err(error) => Err(error),
            },
            _ => Ok(Answer::text(404, "There is no such page.")),
        };
        respond(out, done.unwrap_or_else(|error| told(&error)));
    }
}

/// A whole answer.
struct Answer {
    status: u16,
    kind: &'static str,
    location: Option<&'static str>,
    body: String,
}

impl Answer {
    fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            location: None,
            body: format!("{text}\n"),
        }
    }
}

fn page() -> Result<Answer, Error> {
    let book = book::open()?;
    Ok(Answer {
        kind: "text/html; charset=utf-8",
        ..Answer::text(200, &pages::book(&book))
    })
}

fn sign(request: &IncomingRequest) -> Result<Answer, Error> {
    let form = pages::form(&form(request));
    let field = |name: &str| {
        form.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.trim())
    };
    let (Some(name), Some(text)) = (field("name"), field("text")) else {
        return Ok(Answer::text(400, "Send a form with a name and a text."));
    };
    if name.is_empty() || text.is_empty() {
        return Ok(Answer::text(
            400,
            "Neither the name nor the text may be empty.",
        ));
    }
    let picture = field("picture").filter(|name| is_plain(name));
    book::sign(name, text, picture)?;
    Ok(Answer {
        location: Some("/"),
        ..Answer::text(303, "Thank you.")
    })
}

fn upload(request: &IncomingRequest, name: &str) -> Result<Answer, Error> {
    let body = request.consume().expect("the first call for the body");
    let mut bytes = body.stream().expect("the first call for the stream");
    book::upload(name, &mut bytes)?;
    Ok(Answer::text(201, "The picture is there."))
}

/// The body of a form, as far as it is read.
fn form(request: &IncomingRequest) -> String {
    let body = request.consume().expect("the first call for the body");
    let stream = body.stream().expect("the first call for the stream");
    let mut bytes = Vec::new();
    // What a client left out shows in the form.
    let _partly = stream.take(FORM_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Names of pictures are plain, so that they can stand in addresses and pages.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

/// What went wrong goes to the log; the visitor is told when to come back.
fn told(error: &Error) -> Answer {
    eprintln!("{error}");
    Answer::text(
        503,
        "The guest book is closed for a moment. Please come back.",
    )
}

fn respond(out: ResponseOutparam, answer: Answer) {
    let body = head(out, &answer);
    let mut stream = body.write().expect("the first call for the stream");
    // A reader who went away in the middle of the page is no fault of ours.
    let _ = stream.write_all(answer.body.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Sends a picture as it comes from the store.
fn send(out: ResponseOutparam, mut picture: wasip2::io::streams::InputStream) {
    let answer = Answer {
        kind: "application/octet-stream",
        ..Answer::text(200, "")
    };
    let body = head(out, &answer);
    let mut stream = body.write().expect("the first call for the stream");
    let whole = std::io::copy(&mut picture, &mut stream);
    drop(stream);
    match whole {
        Ok(_) => drop(OutgoingBody::finish(body, None)),
        // Without its end the client knows that something is missing.
        Err(error) => eprintln!("a picture was cut off: {error}"),
    }
}

fn head(out: ResponseOutparam, answer: &Answer) -> OutgoingBody {
    let headers = Fields::new();
    // A picture is whatever a visitor sent: a browser must not find a page in it.
    let fields = [
        ("content-type", answer.kind),
        ("x-content-type-options", "nosniff"),
        (
            "content-security-policy",
            "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; form-action 'self'",
        ),
    ];
    for (name, value) in fields
        .into_iter()
        .chain(answer.location.map(|to| ("location", to)))
    {
        headers
            .append(name, value.as_bytes())
            .expect("a header that every host allows");
    }
    let response = OutgoingResponse::new(headers);
    response
        .set_status_code(answer.status)
        .expect("a valid status");
    let body = response.body().expect("the first call for the body");
    ResponseOutparam::set(out, Ok(response));
    body
}
