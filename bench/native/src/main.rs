//! The control of `cargo xtask bench http`: what plain hyper costs for one small answer.
//!
//! The plan is Hostel's: one thread per core, each with its own current-thread runtime and its own `SO_REUSEPORT` listener.
//! What a request costs here is what no server on hyper and tokio can do without; everything above it is the guest and its host.
//!
//! It deliberately does less than a server for the open Internet: no head or idle timeouts, no bound on connections, no
//! graceful shutdown (SIGTERM ends it at once). A control that did more would flatter whatever is compared with it.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};

/// As long as the answer of the `hello-*` guests: 25 bytes.
const ANSWER: &[u8] = b"hello from native hyper!\n";

/// Connections the kernel queues for one listener until its thread accepts them.
const BACKLOG: i32 = 1024;

const USAGE: &str = "usage: native [ADDRESS:PORT]   (default 127.0.0.1:0; port 0 takes a free one)";

fn main() -> io::Result<()> {
    let first = listen(wanted(std::env::args().nth(1).as_deref())?)?;
    // With port 0 the kernel chooses once; the other threads join that port.
    let address = first.local_addr()?;
    let threads = thread::available_parallelism()?.get();
    let mut listeners = vec![first];
    while listeners.len() < threads {
        listeners.push(listen(address)?);
    }
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| thread::spawn(move || serve(listener)))
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
fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service =
                service_fn(|request| ready(Ok::<_, Infallible>(answer(request.method()))));
            tokio::spawn(async move {
                // An error here is the client's: it went away or spoke no HTTP. Nobody is left to be told.
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            });
        }
    })
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
    fn an_address_of_another_machine_is_an_error() {
        assert!(listen("192.0.2.1:0".parse().unwrap()).is_err());
    }
}
