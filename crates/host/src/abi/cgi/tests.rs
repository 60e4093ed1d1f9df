use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use hostel_app::limits::Limits;
use hostel_app::route::Route;
use http_body_util::{BodyExt, Full};

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
