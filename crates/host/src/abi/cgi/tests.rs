use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use hostel_app::limits::{self, Limits};
use hostel_app::route::Route;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime_wasi::p2::OutputStream;

use crate::guest::{Call, Guest, Origin, RequestBody, RequestId};
use crate::{Chain, Fault, Role, testing};

/// A program that prints the text, in one piece.
fn prints(text: &str) -> String {
    let text = text.escape_default().to_string();
    let text = text.replace("\\n", "\\0a").replace("\\r", "\\0d");
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "{text}")
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const {length}))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#,
        length = text.replace("\\0a", "n").replace("\\0d", "r").len()
    )
}

fn loaded(text: &str) -> Guest {
    let component = hostel_app::Component {
        limits: Limits::default(),
        ..testing::component(text.as_bytes())
    };
    let app = testing::runtime(None).app("test");
    app.load(&component, text.as_bytes(), Role::Serve, &|_| {})
        .unwrap()
}

fn call(pattern: &str, entrypoint: Option<&str>) -> Call {
    Call {
        id: RequestId::next(),
        scheme: http::uri::Scheme::HTTP,
        chain: Chain::default(),
        origin: Some(Origin {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            route: Arc::new(Route {
                pattern: pattern.to_owned(),
                host: None,
                methods: Vec::new(),
                component: 0,
                entrypoint: entrypoint.map(str::to_owned),
                line: 0,
            }),
        }),
    }
}

async fn ask(guest: &Guest) -> Result<(u16, String), Fault> {
    let body = Full::new(Bytes::new()).map_err(|never| match never {});
    let request = http::Request::get("/a?b=c&d")
        .header("host", "localhost:3000")
        .body(RequestBody::new(body))
        .unwrap();
    let answer = guest.handle_http(request, call("/...", None)).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test]
async fn what_a_program_prints_is_the_answer() {
    let guest = loaded(&prints("content-type: text/plain\r\n\r\nOh hi\r\n"));
    assert_eq!(ask(&guest).await.unwrap(), (200, "Oh hi\r\n".to_owned()));
    let guest = loaded(&prints("status: 404 Not Found\n\nno"));
    assert_eq!(ask(&guest).await.unwrap(), (404, "no".to_owned()));
    let guest = loaded(&prints("hello"));
    let (status, text) = ask(&guest).await.unwrap();
    assert_eq!(status, 500);
    assert!(text.contains("must be specified"), "{text}");
}

#[tokio::test]
async fn no_client_and_no_route_is_no_obstacle() {
    let guest = loaded(&prints("status: 200\n\nhere"));
    let body = Full::new(Bytes::new()).map_err(|never| match never {});
    let request = http::Request::get("/a")
        .body(RequestBody::new(body))
        .unwrap();
    let call = Call {
        origin: None,
        ..call("/...", None)
    };
    let answer = guest.handle_http(request, call).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn routes_are_asked_for_where_there_are_some() {
    let guest = loaded(&prints("status: 200\n\nhere"));
    assert_eq!(guest.discover_routes().await, Ok(None));
    let guest =
        loaded(&prints("/a _start\n").replace("_start\")", "_routes\") (export \"_start\")"));
    let printed = guest.discover_routes().await.unwrap();
    assert_eq!(printed.as_deref(), Some("/a _start\n"));
}

#[test]
fn a_head_ends_at_the_same_place_however_it_comes() {
    use super::head;

    let output = b"\r\ncontent-type: a/b\r\nx: \r1\n\r\nbody\n\n";
    let mut whole = Vec::new();
    let end = head::take(&mut whole, output).unwrap();
    assert_eq!(&output[end..], b"body\n\n");
    for first in 0..end {
        let mut pieces = Vec::new();
        assert_eq!(head::take(&mut pieces, &output[..first]), None, "{first}");
        let rest = head::take(&mut pieces, &output[first..]);
        assert_eq!(rest, Some(end - first), "{first}");
        assert_eq!(pieces, whole, "{first}");
    }
}

#[test]
fn a_head_that_is_too_long_is_refused_though_it_ends_in_the_same_piece() {
    use super::output::Output;

    for (bytes, fits) in [
        (limits::CGI_HEAD.size(), true),
        (limits::CGI_HEAD.size() + 1, false),
    ] {
        let (answer, mut heard) = oneshot::channel();
        let mut output = Output::new(answer, false);
        // The last line's end is of the head, the empty line is not.
        let filler = "y".repeat(bytes - "status: 200\nx: \n".len());
        let head = format!("status: 200\nx: {filler}\n\n");
        let written = OutputStream::write(&mut output, head.into());
        assert_eq!(written.is_ok(), fits, "{bytes}");
        assert_eq!(heard.try_recv().is_ok(), fits, "{bytes}");
    }
}

#[test]
fn any_bytes_are_a_head_or_are_none() {
    use super::head::{self, Unfit};

    // A generator of its own: the same bytes in every run.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let words: [&[u8]; 14] = [
        b"status",
        b"Content-Type",
        b"location",
        b":",
        b": ",
        b"\n",
        b" ",
        b"200",
        b"99",
        b"\xff",
        b"\0",
        b"content-length",
        b"x",
        b"18446744073709551616",
    ];
    let mut fit = 0;
    for _ in 0..20_000 {
        let length = next() % 12;
        let lines: Vec<u8> = (0..length)
            .flat_map(|_| words[next() % words.len()].to_vec())
            .collect();
        match head::parse(&lines) {
            Ok(head) => {
                fit += 1;
                assert!(head.response.status().as_u16() >= 200);
            }
            Err(Unfit::Insufficient) => {}
            Err(Unfit::Refused(why)) => assert!(!why.is_empty()),
        }
    }
    assert!(fit > 0);
}

#[test]
fn a_client_has_the_address_that_programs_know_it_by() {
    use super::environment;

    for (client, told) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let mut call = call("/...", None);
        call.origin.as_mut().unwrap().client = client.parse().unwrap();
        let (request, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let variables = environment::of(&request, &call, None);
        let addresses = variables.iter().filter(|(name, _)| name == "REMOTE_ADDR");
        let addresses: Vec<_> = addresses.map(|(_, value)| value.as_str()).collect();
        assert_eq!(addresses, [told]);
    }
}

#[test]
fn paths_are_decoded_as_far_as_they_are_escaped() {
    use super::environment::decoded;

    for (path, text) in [
        ("", ""),
        ("/a%20b", "/a b"),
        ("/%C3%A9", "/\u{e9}"),
        ("/%ff", "/\u{fffd}"),
        ("/%", "/%"),
        ("/%4", "/%4"),
        ("/%zz%41", "/%zzA"),
        ("/%00%2e", "/%00."),
        ("/%2541", "/%41"),
        ("/%+1", "/%+1"),
    ] {
        assert_eq!(decoded(path), text, "{path}");
    }
}
