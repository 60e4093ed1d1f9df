//! Does what guests of published advisories did to crash a host of WASI 0.2, or to get past it; `?case=` picks one. It
//! answers 200 with what the host said, unless the host ended it. The advisory stands beside each case in the code.

mod files;
mod http;

use std::mem::forget;

use wasip2::cli::stdout::get_stdout;
use wasip2::clocks::monotonic_clock::{now, subscribe_duration, subscribe_instant};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};
use wasip2::io::poll::poll;
use wasip2::random::{insecure, random};
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::udp_create_socket::create_udp_socket;

struct Advisory;

wasip2::http::proxy::export!(Advisory);

impl Guest for Advisory {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let case = http_p2::query(&request, "case").unwrap_or_default();
        let Some(out) = http::response(&case, &request, out) else {
            return;
        };
        let told = match case.as_str() {
            "empty-poll" => format!("{:?}", poll(&[])), // GHSA-w4qr: nothing to wait for
            "zero-timer" => timers(0),                  // GHSA-w4qr: a timeout of zero
            "late-timer" => timers(u64::MAX),           // GHSA-mr2v: a time that overflows
            "random" => format!("{} bytes", random::get_random_bytes(u64::MAX).len()), // CVE-2026-27204
            "insecure-random" => {
                format!(
                    "{} bytes",
                    insecure::get_insecure_random_bytes(u64::MAX).len()
                ) // CVE-2026-27204
            }
            "stdout" => stdout(), // GHSA-gqmc: output that is never flushed
            "unchecked-write" => unchecked_write(), // GHSA-c9gc: more than the stream asked for
            "udp-connect" => udp_connect(), // GHSA-hmmr: connecting without the right to send
            "pending" => pending(), // GHSA-hmwq: a trap while the host still works for the guest
            "parent" => parent(), // a pollable that outlives its stream
            _ => match http::request(&case).or_else(|| files::act(&case)) {
                Some(told) => told,
                None => return http_p2::answer(out, 400, "say case\n"),
            },
        };
        http_p2::answer(out, 200, &format!("{case}: {told}\n"));
    }
}

/// Timers of every kind at this time; those that are over are waited for.
fn timers(time: u64) -> String {
    let (duration, instant) = (subscribe_duration(time), subscribe_instant(time));
    let before = now();
    let _ = poll(&[&duration, &instant, &subscribe_duration(0)]);
    format!(
        "ready {} {} {}",
        duration.ready(),
        instant.ready(),
        now() >= before
    )
}

/// As much as the stream takes, for as long as it takes it, and never a flush.
fn stdout() -> String {
    let stream = get_stdout();
    let mut written = 0;
    while written < 4 << 20 {
        match stream.check_write() {
            Ok(0) | Err(_) => break,
            Ok(room) => {
                let piece = vec![b'.'; room.min(65_536) as usize];
                if stream.write(&piece).is_err() {
                    break;
                }
                written += piece.len();
            }
        }
    }
    format!("{}", written > 0)
}

fn unchecked_write() -> String {
    format!(
        "{:?}",
        get_stdout()
            .write(&vec![b'.'; 6 << 20])
            .map_err(|_| "refused")
    )
}

fn udp_connect() -> String {
    let socket = match create_udp_socket(IpAddressFamily::Ipv4) {
        Ok(socket) => socket,
        Err(error) => return format!("no socket: {error:?}"),
    };
    let address = |port, address| IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address });
    let network = wasip2::sockets::instance_network::instance_network();
    let bound = socket
        .start_bind(&network, address(0, (0, 0, 0, 0)))
        .and_then(|()| socket.finish_bind());
    let remote = Some(address(9, (127, 0, 0, 1)));
    let connected = socket.stream(remote).map(|_| ());
    format!("bind {bound:?}, connect {connected:?}")
}

fn pending() -> String {
    for _ in 0..100 {
        forget(subscribe_duration(1_000_000));
    }
    forget(http::send("http", "127.0.0.1:9", "/"));
    std::arch::wasm32::unreachable()
}

fn parent() -> String {
    let stream = get_stdout();
    let pollable = stream.subscribe();
    drop(stream);
    format!("ready {}", pollable.ready())
}
