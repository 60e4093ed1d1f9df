//! Answers with what a guest sees of its request: method, path with query, scheme and authority, then
//! every header as `name: value`, a line each, in the host's order.

use std::fmt::Write;

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Method, Request, Response, Scheme};

struct Headers;

wasip3::http::service::export!(Headers);

impl Guest for Headers {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let mut text = format!(
            "method: {}\npath: {}\nscheme: {}\nauthority: {}\n\n",
            method(request.get_method()),
            request.get_path_with_query().unwrap_or("none".to_string()),
            request.get_scheme().map_or("none".to_string(), scheme),
            request.get_authority().unwrap_or("none".to_string()),
        );
        for (name, value) in request.get_headers().copy_all() {
            let value = String::from_utf8_lossy(&value);
            writeln!(text, "{name}: {value}").expect("a string takes every line");
        }
        Ok(http_p3::answer(200, text))
    }
}

/// A method as it stands in the request line.
fn method(method: Method) -> String {
    match method {
        Method::Get => "GET".to_string(),
        Method::Head => "HEAD".to_string(),
        Method::Post => "POST".to_string(),
        Method::Put => "PUT".to_string(),
        Method::Delete => "DELETE".to_string(),
        Method::Connect => "CONNECT".to_string(),
        Method::Options => "OPTIONS".to_string(),
        Method::Trace => "TRACE".to_string(),
        Method::Patch => "PATCH".to_string(),
        Method::Other(other) => other,
    }
}

/// A scheme as it stands in a URI.
fn scheme(scheme: Scheme) -> String {
    match scheme {
        Scheme::Http => "http".to_string(),
        Scheme::Https => "https".to_string(),
        Scheme::Other(other) => other,
    }
}
