//! What an operator's own tools ask the server: `GET /metrics` for Prometheus (text format 0.0.4) and `GET /healthz`.
//!
//! They are answered on a listener of their own, by the thread that otherwise only waits for signals, so that they
//! answer however busy the others are; an app's own paths never reach them. Whoever asks is bounded too: few
//! connections at once, one request each, no body, a few seconds for all of it.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use hostel_app::limits;
use hostel_host::metrics::{Family, Kind, Sample, Value};
use hostel_host::{LogSink, Runtime};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::listen::{self, ListenError, Listener};
use crate::serve::ServeError;
use crate::worker::Phase;

/// Where the metrics are served, and whose.
pub struct MetricsOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The host that counts.
    pub runtime: Runtime,
    /// Told the real address once questions are answered.
    pub ready: Box<dyn Fn(SocketAddr)>,
}

/// Whether the metrics could be served at this address now. Nothing stays bound.
///
/// # Errors
///
/// Why not.
pub fn check(address: SocketAddr) -> Result<(), ServeError> {
    listen::check_address(address).map_err(refused)
}

/// The errors of listening speak of the flag for clients.
fn refused(error: ListenError) -> ServeError {
    ServeError::Metrics(error.to_string().replace("--listen", "--metrics"))
}

/// What the server counts of its clients. One relaxed addition each.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    accepted: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    /// Answers by the first digit of their status, from 1 to 5.
    answered: [AtomicU64; 5],
}

impl Traffic {
    /// A connection got a seat.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// A connection gave its seat back.
    pub(crate) fn closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    /// A connection got no seat.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// The head of an answer is about to leave.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.answered.get(class) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn families(&self) -> Vec<Family> {
        // In this order, so that no more are closed than were accepted.
        let closed = self.closed.load(Relaxed);
        let accepted = self.accepted.load(Relaxed);
        let open = accepted.saturating_sub(closed);
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let answered = classes.into_iter().zip(&self.answered);
        vec![
            Family::single(
                "hostel_connections",
                "Open connections of clients.",
                Kind::Gauge,
                open,
            ),
            Family::single(
                "hostel_connections_accepted_total",
                "Connections that were served.",
                Kind::Counter,
                accepted,
            ),
            Family::single(
                "hostel_connections_refused_total",
                "Connections that were turned away because there were too many.",
                Kind::Counter,
                self.refused.load(Relaxed),
            ),
            Family {
                name: "hostel_requests_total",
                help: "Requests that were answered, by the class of the status.",
                kind: Kind::Counter,
                samples: answered
                    .map(|(class, count)| Sample {
                        labels: vec![("status", class.to_owned())],
                        value: Value::Count(count.load(Relaxed)),
                    })
                    .collect(),
            },
        ]
    }
}

/// Who answers.
pub(crate) struct Exporter {
    options: MetricsOptions,
    address: SocketAddr,
    listener: Listener,
    log: LogSink,
}

impl Exporter {
    /// Listens; must be called inside the runtime that will answer.
    pub(crate) fn bind(options: MetricsOptions, log: &LogSink) -> Result<Self, ServeError> {
        let backlog = i32::try_from(limits::BACKLOG.default).unwrap_or(i32::MAX);
        let (address, mut sockets) = listen::bind(options.listen, 1, backlog).map_err(refused)?;
        let socket = sockets.pop().ok_or(ServeError::NoAddress)?;
        Ok(Self {
            options,
            address,
            listener: Listener::new(socket).map_err(ServeError::Start)?,
            log: log.clone(),
        })
    }

    /// Answers until the runtime ends, and says where.
    pub(crate) fn start(self, traffic: Arc<Traffic>, phase: watch::Receiver<Phase>) {
        let MetricsOptions { runtime, ready, .. } = self.options;
        let asked = Arc::new(Asked {
            runtime,
            traffic,
            phase,
        });
        tokio::spawn(welcome(self.listener, asked, self.log));
        ready(self.address);
    }
}

/// Accepts for ever.
async fn welcome(mut listener: Listener, asked: Arc<Asked>, log: LogSink) {
    let seats = Arc::new(Semaphore::new(limits::METRICS_CONNECTIONS.size()));
    // One more than there are seats for waits in the kernel's queue; each seat is free again in a few seconds.
    while let Ok(seat) = seats.clone().acquire_owned().await {
        let (tcp, _) = listener.accept(&log).await;
        let asked = asked.clone();
        tokio::spawn(async move {
            let _seat = seat;
            let time = limits::METRICS_TIMEOUT_MS.duration();
            // Whoever takes longer, or breaks off, has only itself to tell.
            let _served = tokio::time::timeout(time, asked.serve(tcp)).await;
        });
    }
}

/// What can be asked for.
struct Asked {
    runtime: Runtime,
    traffic: Arc<Traffic>,
    phase: watch::Receiver<Phase>,
}

impl Asked {
    async fn serve(&self, tcp: TcpStream) -> hyper::Result<()> {
        let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
            Ok::<_, Infallible>(self.answer(&request))
        });
        http1::Builder::new()
            .half_close(false)
            .keep_alive(false)
            .header_read_timeout(None)
            .max_buf_size(limits::HEAD_BYTES.size())
            .serve_connection(TokioIo::new(tcp), service)
            .await
    }

    fn answer<B: Body>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            let allow = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allow);
            return response;
        }
        if !request.body().is_end_stream() {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "no body is wanted\n");
        }
        match request.uri().path() {
            "/metrics" => {
                let mut families = self.runtime.metrics();
                families.extend(self.traffic.families());
                let mut response = plain(StatusCode::OK, render(&families));
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            "/healthz" if *self.phase.borrow() == Phase::Serving => plain(StatusCode::OK, "ok\n"),
            "/healthz" => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => plain(StatusCode::NOT_FOUND, "there is /metrics and /healthz\n"),
        }
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Prometheus' text format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
fn render(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let (name, help) = (family.name, escaped(family.help, false));
        // Writing to a string cannot fail.
        let _written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for sample in &family.samples {
            text.push_str(name);
            for (place, (label, value)) in sample.labels.iter().enumerate() {
                let before = if place == 0 { '{' } else { ',' };
                let _written = write!(text, "{before}{label}=\"{}\"", escaped(value, true));
            }
            if !sample.labels.is_empty() {
                text.push('}');
            }
            let _written = match sample.value {
                Value::Count(count) => writeln!(text, " {count}"),
                Value::Nanoseconds(nanos) => {
                    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
                    writeln!(text, " {seconds}.{rest:09}")
                }
            };
        }
    }
    text
}

/// Backslashes and line ends, and in a label's value quotation marks, written out.
fn escaped(text: &str, label: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' if label => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let families = [
            Family::single("hostel_x", "Back\\slash\nand \"line\".", Kind::Gauge, 3),
            Family {
                name: "hostel_y_seconds_total",
                help: "Time.",
                kind: Kind::Counter,
                samples: vec![Sample {
                    labels: vec![
                        ("app", "a\"b\\c\nd".to_owned()),
                        ("component", "w".to_owned()),
                    ],
                    value: Value::Nanoseconds(12_000_000_034),
                }],
            },
        ];
        assert_eq!(
            render(&families),
            "# HELP hostel_x Back\\\\slash\\nand \"line\".\n# TYPE hostel_x gauge\nhostel_x 3\n\
             # HELP hostel_y_seconds_total Time.\n# TYPE hostel_y_seconds_total counter\n\
             hostel_y_seconds_total{app=\"a\\\"b\\\\c\\nd\",component=\"w\"} 12.000000034\n"
        );
    }

    #[test]
    fn traffic_is_counted_by_class_and_never_negative() {
        let traffic = Traffic::default();
        traffic.accepted();
        traffic.accepted();
        traffic.closed();
        traffic.refused();
        for status in [200, 204, 404, 503] {
            traffic.answered(StatusCode::from_u16(status).unwrap());
        }
        // A guest may invent one.
        traffic.answered(StatusCode::from_u16(999).unwrap());
        let text = render(&traffic.families());
        for line in [
            "hostel_connections 1\n",
            "hostel_connections_accepted_total 2\n",
            "hostel_connections_refused_total 1\n",
            "hostel_requests_total{status=\"2xx\"} 2\n",
            "hostel_requests_total{status=\"4xx\"} 1\n",
            "hostel_requests_total{status=\"5xx\"} 1\n",
            "hostel_requests_total{status=\"1xx\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
