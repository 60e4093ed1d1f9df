//! Does what guests of published advisories did to crash a host of WASI 0.3; `?case=` picks one. It answers 200 with what
//! the host said, unless the host ended it. The advisory stands beside each case.

use std::future::Future;
use std::mem::forget;
use std::task::Poll;

use wasip3::clocks::monotonic_clock::{wait_for, wait_until};
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme, Trailers};
use wasip3::random::random::get_random_bytes;
use wasip3::wit_bindgen::{StreamReader, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Advisory;

wasip3::http::service::export!(Advisory);

const SECOND: u64 = 1_000_000_000;

impl Guest for Advisory {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let case = http_p3::query(&request, "case").unwrap_or_default();
        let told = match case.as_str() {
            "pending-trap" => pending_trap().await, // GHSA-hmwq: a trap while calls are under way
            "cancelled" => cancelled().await,       // GHSA-3r89: calls that are given up half-way
            "zero-length" => zero_length().await,   // GHSA-93g3: nothing, read to behind the memory
            "stream-memory" => stream_memory().await, // GHSA-x84v: a stream that nobody reads
            "drop-ends" => drop_ends().await,       // ends that go in the wrong order
            "own-stream" => own_stream().await,     // both ends of one stream in one guest
            "zero-timer" => timers(0, 0).await,     // GHSA-w4qr
            "late-timer" => late_timers().await,    // GHSA-mr2v
            "random" => format!("{} bytes", get_random_bytes(u64::MAX).len()), // CVE-2026-27204
            "long-path" => send("localhost", &format!("/{}", "x".repeat(70_000))).await, // GHSA-w36r
            "long-authority" => send(&"x".repeat(70_000), "/").await,
            "absolute-form" => send("localhost", "http://127.0.0.1:9/").await, // GHSA-5qpp
            "fields-at-once" => fields(),                                      // CVE-2026-27572
            "length-short" => return Ok(lying("10", b"five!")),                // GHSA-h4wp
            "length-long" => return Ok(lying("2", b"five!")),
            "length-invalid" => return Ok(lying("ten", b"five!")),
            "trailers" => return Ok(trailers()),   // GHSA-jxcf
            "no-body-end" => return Ok(unended()), // a body whose writer is forgotten
            _ => return Ok(http_p3::answer(400, "say case\n")),
        };
        Ok(http_p3::answer(200, format!("{case}: {told}\n")))
    }
}

/// Polls a call of the host's once, which starts it.
async fn start<F: Future>(call: F) -> std::pin::Pin<Box<F>> {
    let mut call = Box::pin(call);
    std::future::poll_fn(|cx| {
        let _ = call.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    call
}

async fn pending_trap() -> String {
    for _ in 0..50 {
        forget(start(wait_for(3600 * SECOND)).await);
        forget(start(wait_for(1)).await);
    }
    let (_writer, reader) = wit_stream::new();
    forget(wasip3::cli::stdout::write_via_stream(reader));
    std::arch::wasm32::unreachable()
}

async fn cancelled() -> String {
    for _ in 0..50 {
        drop(start(wait_for(3600 * SECOND)).await);
        drop(start(wait_for(1)).await);
    }
    let (mut writer, reader) = wit_stream::new();
    drop(start(writer.write(vec![1_u8; 64])).await);
    drop(reader);
    "given up".to_string()
}

/// A buffer without room, which begins where no memory is.
fn nowhere() -> Vec<u8> {
    // SAFETY: a vector without capacity never touches its address.
    unsafe { Vec::from_raw_parts(std::ptr::without_provenance_mut(0xffff_fff0), 0, 0) }
}

async fn zero_length() -> String {
    let (mut writer, mut reader): (StreamWriter<u8>, StreamReader<u8>) = wit_stream::new();
    let reading = start(reader.read(nowhere())).await;
    let writing = start(writer.write(nowhere())).await;
    drop((reading, writing));
    let (mut input, ended) = wasip3::cli::stdin::read_via_stream();
    drop(start(input.read(nowhere())).await);
    drop((input, ended));
    "nothing".to_string()
}

async fn stream_memory() -> String {
    let (mut writer, reader) = wit_stream::new();
    // Given to the host as the body of a request that is never sent.
    let (_, end) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), Some(reader), end, None);
    drop(start(writer.write(vec![1_u8; 64 << 20])).await);
    drop(request);
    "written".to_string()
}

async fn drop_ends() -> String {
    for order in 0..4 {
        let (mut writer, mut reader): (StreamWriter<u8>, StreamReader<u8>) = wit_stream::new();
        let (future, awaited) = wit_future::new::<Result<Option<Trailers>, ErrorCode>>(|| Ok(None));
        match order {
            0 => drop((writer, reader)),
            1 => drop((reader, writer)),
            2 => {
                drop(start(reader.read(vec![0; 8])).await);
                drop(reader);
                let _ = writer.write_all(vec![1; 8]).await;
            }
            _ => {
                drop(start(writer.write(vec![1; 8])).await);
                drop(writer);
                let _ = reader.next().await;
            }
        }
        if order % 2 == 0 {
            drop((future, awaited))
        } else {
            drop((awaited, future))
        }
    }
    "dropped".to_string()
}

async fn own_stream() -> String {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all(b"from itself".to_vec()).await;
    });
    String::from_utf8_lossy(&reader.collect().await).into_owned()
}

async fn timers(duration: u64, mark: u64) -> String {
    wait_for(duration).await;
    wait_until(mark).await;
    "over".to_string()
}

async fn late_timers() -> String {
    drop(start(wait_for(u64::MAX)).await);
    drop(start(wait_until(u64::MAX)).await);
    "given up".to_string()
}

async fn send(authority: &str, path: &str) -> String {
    let (_, end) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, end, None);
    let set = [
        request.set_scheme(Some(&Scheme::Http)),
        request.set_authority(Some(authority)),
        request.set_path_with_query(Some(path)),
    ];
    if set.iter().any(Result::is_err) {
        return format!("invalid {set:?}");
    }
    format!(
        "{:?}",
        client::send(request)
            .await
            .map(|response| response.get_status_code())
    )
}

fn fields() -> String {
    let entries: Vec<_> = (0..33_000)
        .map(|number| (format!("x-{number}"), b"1".to_vec()))
        .collect();
    format!("{:?}", Fields::from_list(&entries).map(|_| "taken"))
}

/// A response whose content-length is not that of its body.
fn lying(length: &str, bytes: &[u8]) -> Response {
    let (response, mut body) = http_p3::head(200, &[("content-length", length)]);
    let bytes = bytes.to_vec();
    spawn_local(async move {
        body.write_all(bytes).await;
    });
    response
}

/// Trailers that would change how the message is read.
fn trailers() -> Response {
    let fields = Fields::new();
    for (name, value) in [
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("host", "x"),
        ("x-fine", "1"),
    ] {
        // What the host does not let a guest make, it need not strip.
        let _ = fields.append(name, value.as_bytes());
    }
    let (mut body, reader) = wit_stream::new();
    let (sender, end) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), end);
    spawn_local(async move {
        body.write_all(b"five!".to_vec()).await;
        drop(body);
        let _ = sender.write(Ok(Some(fields))).await;
    });
    response
}

fn unended() -> Response {
    let (response, body) = http_p3::head(200, &[]);
    forget(body);
    response
}
