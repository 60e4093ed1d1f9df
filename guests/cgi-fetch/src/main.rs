//! Fetches the page `url` of the query and answers with it; `close=0` keeps the answers of `times` requests open, and
//! `method`, `body` and `name`+`value` (a field) say what is sent. Everything through the client library of the interface.

use std::env;

use bytes::Bytes;
use http::Request;
use wasi_experimental_http::request;

fn main() {
    match fetch() {
        Ok(answer) => print!("{answer}"),
        Err(error) => print!("Status: 502\nContent-Type: text/plain\n\n{error:?}\n"),
    }
}

fn fetch() -> Result<String, Box<dyn std::error::Error>> {
    let query = format!("/?{}", env::var("QUERY_STRING")?);
    let of = |key: &str| query::value(&query, key);
    let times = of("times").map_or(Ok(1), |times| times.parse())?;
    let mut open = Vec::new();
    let mut text = String::new();
    for _ in 0..times {
        let method = of("method").unwrap_or_else(|| "GET".to_owned());
        let mut sent = Request::builder()
            .method(method.as_str())
            .uri(of("url").unwrap_or_default());
        if let (Some(name), Some(value)) = (of("name"), of("value")) {
            sent = sent.header(name, value);
        }
        let mut response = request(sent.body(of("body").map(Bytes::from))?)?;
        let headers = response.headers_get_all()?;
        let body = response.body_read_all()?;
        text = format!(
            "Content-Type: text/plain\n\nstatus {}\ntype {:?}\nabsent {}\nfields {}\n\n{}",
            response.status_code,
            response.header_get("Content-Type".to_owned())?,
            response.header_get("x-absent".to_owned()).is_err(),
            headers.len(),
            String::from_utf8_lossy(&body)
        );
        if of("close").is_some() {
            open.push(response);
        }
    }
    Ok(text)
}
