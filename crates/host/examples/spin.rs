use hostel_host::*;
use http_body_util::{BodyExt, Empty};
fn main() {
    let file = std::env::args().nth(1).unwrap();
    let n: u32 = std::env::args().nth(2).unwrap().parse().unwrap();
    let reuse: u32 = std::env::args()
        .nth(3)
        .map(|s| s.parse().unwrap())
        .unwrap_or(1);
    let code = std::fs::read(&file).unwrap();
    let rt = Runtime::new(RuntimeOptions {
        cache_dir: Some("/tmp/hostel-cache".into()),
        log: LogSink::tagged(),
    })
    .unwrap();
    let t = std::time::Instant::now();
    let comp = hostel_app::Component {
        name: "web".into(),
        source: hostel_app::Source::InlineWat,
        digest: hostel_app::Digest::of(&code),
        args: vec![],
        env: vec![],
        config: Default::default(),
        grants: Default::default(),
        limits: Default::default(),
        reuse: hostel_app::Reuse {
            requests: reuse,
            concurrent: 1,
        },
    };
    let guest = rt
        .load(&comp, &code, Role::Serve, &|p| eprintln!("{p:?}"))
        .unwrap_or_else(|e| panic!("{e}"));
    eprintln!(
        "loaded in {:?} {:?} {:?}",
        t.elapsed(),
        guest,
        rt.cache_stats()
    );
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async move {
        tokio::spawn(async move {
            let req = || {
                http::Request::builder()
                    .uri("/hello?x=1")
                    .header("host", "localhost:3000")
                    .body(Empty::new().map_err(|e| match e {}).boxed_unsync())
                    .unwrap()
            };
            let r = guest
                .handle_http(
                    req(),
                    Call {
                        id: RequestId::next(),
                        scheme: http::uri::Scheme::HTTP,
                    },
                )
                .await;
            match r {
                Ok(r) => {
                    println!(
                        "{:?} {:?} hint {:?}",
                        r.status(),
                        r.headers(),
                        http_body::Body::size_hint(r.body())
                    );
                    println!(
                        "{:?}",
                        r.into_body()
                            .collect()
                            .await
                            .map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned())
                    );
                }
                Err(f) => println!("fault {f}"),
            }
            let t = std::time::Instant::now();
            for _ in 0..n {
                let r = guest
                    .handle_http(
                        req(),
                        Call {
                            id: RequestId::next(),
                            scheme: http::uri::Scheme::HTTP,
                        },
                    )
                    .await
                    .unwrap();
                let _ = r.into_body().collect().await.unwrap();
            }
            println!(
                "{:.2} us per call",
                t.elapsed().as_secs_f64() * 1e6 / n as f64
            );
        })
        .await
        .unwrap()
    });
}
