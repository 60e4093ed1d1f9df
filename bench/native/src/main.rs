//! The control of `cargo xtask bench http`: what plain hyper costs for one small answer.
//!
//! The plan is Hostel's: one thread per core, each with its own current-thread runtime and its own `SO_REUSEPORT` listener.
//! What a request costs here is what no server on hyper and tokio can do without; everything above it is the guest and its host.
//!
//! With a URL behind its address it forwards: for each answer it asks that server, over a connection that it keeps for its
//! thread. That is the control of outgoing requests.
//!
//! It deliberately does less than a server for the open Internet: no head or idle timeouts, no bound on connections, no
//! graceful shutdown (SIGTERM ends it at once). A control that did more would flatter whatever is compared with it.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};

/// As long as the answer of the `hello-*` guests: 25 bytes.
const ANSWER: &[u8] = b"hello from native hyper!\n";

/// Connections the kernel queues for one listener until its thread accepts them.
const BACKLOG: i32 = 1024;

const USAGE: &str =
    "usage: native [ADDRESS:PORT [http://ADDRESS:PORT/]]   (default 127.0.0.1:0; port 0 takes a free one)";

fn main() -> io::Result<()> {
    let first = listen(wanted(std::env::args().nth(1).as_deref())?)?;
    let upstream = std::env::args().nth(2).as_deref().map(asked).transpose()?;
    // With port 0 the kernel chooses once; the other threads join that port.
    let address = first.local_addr()?;
    let threads = thread::available_parallelism()?.get();
    let mut listeners = vec![first];
    while listeners.len() < threads {
        listeners.push(listen(address)?);
    }
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| thread::spawn(move || serve(listener, upstream)))
        .collect();
    eprintln!("listening on http://{address}");
    for thread in threads {
        thread
            .join()
            .map_err(|_| io::Error::other("a server thread panicked"))??;
    }
    Ok(())
}

/// The address of the command line's only argument.
fn wanted(argument: Option<&str>) -> io::Result<SocketAddr> {
    match argument {
        None => Ok(SocketAddr::from(([127, 0, 0, 1], 0))),
        Some(text) => text.parse().map_err(|_| io::Error::other(USAGE)),
    }
}

/// The address in `http://ADDRESS:PORT/`.
fn asked(url: &str) -> io::Result<SocketAddr> {
    let bare = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    bare.and_then(|address| address.parse().ok())
        .ok_or_else(|| io::Error::other(USAGE))
}

/// A listening socket that shares its port with those of the other threads.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves one core's share of the connections. Returns only with the error that ended the accept loop: a control that
/// cannot accept is to fail loudly, since the run it was started for is worthless.
fn serve(listener: std::net::TcpListener, upstream: Option<SocketAddr>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let idle = Idle::default();
        let builder = hyper::server::conn::http1::Builder::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let stream = TokioIo::new(stream);
            // An error of a connection is the client's: it went away or spoke no HTTP. Nobody is left to be told.
            match upstream {
                None => {
                    let service =
                        service_fn(|request| ready(Ok::<_, Infallible>(answer(request.method()))));
                    let connection = builder.serve_connection(stream, service);
                    tokio::spawn(async move { connection.await.ok() });
                }
                Some(upstream) => {
                    let idle = idle.clone();
                    let service = service_fn(move |_| forward(upstream, idle.clone()));
                    let connection = builder.serve_connection(stream, service);
                    tokio::spawn(async move { connection.await.ok() });
                }
            }
        }
    })
}

/// Connections of this thread to the upstream that wait for a request.
type Idle = Arc<Mutex<Vec<SendRequest<Empty<Bytes>>>>>;

/// Asks the upstream and answers with its body.
async fn forward(upstream: SocketAddr, idle: Idle) -> io::Result<Response<Full<Bytes>>> {
    let kept = idle.lock().map_err(|_| poisoned())?.pop();
    let mut sender = match kept.filter(SendRequest::is_ready) {
        Some(sender) => sender,
        None => connect(upstream).await?,
    };
    let request = hyper::Request::get("/")
        .header(HOST, upstream.to_string())
        .body(Empty::new())
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let body = answer.into_body().collect().await.map_err(io::Error::other)?;
    idle.lock().map_err(|_| poisoned())?.push(sender);
    Ok(Response::new(Full::new(body.to_bytes())))
}

async fn connect(upstream: SocketAddr) -> io::Result<SendRequest<Empty<Bytes>>> {
    let stream = tokio::net::TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

fn poisoned() -> io::Error {
    io::Error::other("a task panicked")
}

/// The fixed text for GET, 405 for everything else. hyper sets `content-length` from the body's known size.
fn answer(method: &Method) -> Response<Full<Bytes>> {
    if method != Method::GET {
        let mut refusal = Response::new(Full::new(Bytes::new()));
        *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return refusal;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Body;

    #[test]
    fn get_is_answered_with_a_body_of_known_size_and_nothing_else_is() {
        let page = answer(&Method::GET);
        assert_eq!(page.status(), 200);
        assert_eq!(page.body().size_hint().exact(), Some(25));
        assert_eq!(answer(&Method::POST).status(), 405);
    }

    #[test]
    fn listeners_share_a_port_that_the_kernel_chose() {
        let first = listen(wanted(None).unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let second = listen(address).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
    }

    #[test]
    fn an_address_that_is_none_is_an_error_with_the_usage() {
        let error = wanted(Some("localhost")).unwrap_err().to_string();
        assert!(error.starts_with("usage: native"), "{error}");
    }

    #[test]
    fn an_upstream_is_an_address_in_a_url() {
        let address = "127.0.0.1:80".parse().unwrap();
        assert_eq!(asked("http://127.0.0.1:80/").unwrap(), address);
        assert!(asked("127.0.0.1:80").is_err());
        assert!(asked("http://localhost/").is_err());
    }

    #[test]
    fn what_is_forwarded_is_asked_for_over_one_connection() {
        let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        upstream.set_nonblocking(true).unwrap();
        let address = upstream.local_addr().unwrap();
        thread::spawn(move || serve(upstream, None));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let idle = Idle::default();
            for _ in 0..3 {
                let answer = forward(address, idle.clone()).await.unwrap();
                let body = answer.into_body().collect().await.unwrap();
                assert_eq!(body.to_bytes(), ANSWER);
                tokio::task::yield_now().await;
            }
            assert_eq!(idle.lock().unwrap().len(), 1);
        });
    }

    #[test]
    fn an_address_of_another_machine_is_an_error() {
        assert!(listen("192.0.2.1:0".parse().unwrap()).is_err());
    }
}
