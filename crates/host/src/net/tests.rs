//! What the tests of outgoing traffic share: templates, a resolver that is told what to say, and servers of their own.

mod hygiene;
mod rebinding;
mod reuse;
mod times;
mod tls;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hostel_app::Grants;
use hostel_app::limits::Limits;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::resolve::{Names, Resolver};
use super::{AppNetwork, Network, Outgoing, Policy};
use crate::state::{Stdio, Template};

/// One grant of a manifest's.
pub(super) fn grants(kind: &str, value: &str) -> Arc<Grants> {
    let mut grants = Grants::default();
    match kind {
        "http" => grants.http.push(value.parse().unwrap()),
        "tcp" => grants.tcp.push(value.parse().unwrap()),
        "udp" => grants.udp.push(value.parse().unwrap()),
        "listen" => grants.listen.push(value.parse().unwrap()),
        _ => {}
    }
    Arc::new(grants)
}

/// The same of the operator's.
pub(super) fn operator(kind: &str, value: &str) -> Arc<Grants> {
    let mut grants = Grants::clone(&grants(kind, value));
    grants.operator.http = grants.http.clone();
    grants.operator.tcp = grants.tcp.clone();
    grants.operator.udp = grants.udp.clone();
    Arc::new(grants)
}

pub(super) fn template(grants: Arc<Grants>) -> Template {
    Template {
        grants,
        limits: Limits::for_command(),
        stdio: Stdio::Inherit,
        ..crate::testing::template()
    }
}

pub(super) fn outgoing(grants: Arc<Grants>) -> Outgoing {
    Outgoing::new(&Arc::new(template(grants)))
}

/// A guest with these grants in a network of the test's own.
fn guest(grants: Arc<Grants>, network: Network) -> Outgoing {
    let mut template = template(grants);
    template.network = Arc::new(AppNetwork::new(&Arc::new(network)));
    Outgoing::new(&Arc::new(template))
}

/// A network where the operator allows these addresses.
fn allowing(allow: &[&str]) -> Network {
    let allow: Vec<String> = allow.iter().map(|text| (*text).to_owned()).collect();
    Network {
        policy: Policy::new(&allow).unwrap(),
        ..Network::default()
    }
}

/// A guest that reaches servers on this machine.
fn local() -> Outgoing {
    guest(
        operator("http", "*://localhost:*"),
        allowing(&["127.0.0.1"]),
    )
}

/// Answers in turn, and with the last for ever.
struct Script(Vec<Vec<IpAddr>>, AtomicUsize);

impl Script {
    fn new(answers: Vec<Vec<IpAddr>>) -> Arc<Self> {
        Arc::new(Self(answers, AtomicUsize::new(0)))
    }

    fn asked(&self) -> usize {
        self.1.load(SeqCst)
    }
}

impl Resolver for Script {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.1.fetch_add(1, SeqCst);
        let last = self.0.len() - 1;
        Ok(self.0[asked.min(last)].clone())
    }
}

fn names(answers: &[&[&str]]) -> (Names, Arc<Script>) {
    let parsed = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let script = Script::new(answers.iter().map(parsed).collect());
    (Names::of(script.clone()), script)
}

type Answer = Result<(http::response::Parts, Bytes), Error>;

/// Sends a request and reads its whole answer.
async fn send(guest: &Outgoing, request: http::Request<WasiBody>) -> Answer {
    send_within(guest, request, None).await
}

async fn send_within(
    guest: &Outgoing,
    request: http::Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Answer {
    let finished = Box::new(std::future::ready(Ok(())));
    let sent = guest.clone().send_request(request, options, finished);
    let (response, _io) = Box::into_pin(sent).await?;
    let (parts, body) = response.into_parts();
    Ok((parts, body.collect().await?.to_bytes()))
}

fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn get(uri: &str) -> http::Request<WasiBody> {
    http::Request::get(uri).body(empty()).unwrap()
}

/// A server that says the same to every request, counts its connections and notes what it heard on each.
struct Upstream {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// After so many answers on one connection it closes it, without saying so before.
    async fn new(answer: impl Into<String>, answers: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let (notes, answer) = (heard.clone(), answer.into());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (notes, answer) = (notes.clone(), answer.clone());
                let number = {
                    let mut notes = notes.lock().unwrap();
                    notes.push(String::new());
                    notes.len() - 1
                };
                tokio::spawn(async move {
                    for _ in 0..answers {
                        let Some(request) = request(&mut stream).await else {
                            return;
                        };
                        notes.lock().unwrap()[number] += &request;
                        let _gone = stream.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        Self { address, heard }
    }

    fn url(&self) -> String {
        format!("http://localhost:{}/", self.address.port())
    }

    /// What came over each connection.
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// Reads one request: its head, and a body where one is announced. `None` where the other side is gone before.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut heard = Vec::new();
    let mut byte = [0; 1];
    while !heard.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        heard.push(byte[0]);
    }
    let head = String::from_utf8(heard.clone()).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    if let Some(length) = length {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        heard.extend(body);
    } else if head.contains("transfer-encoding: chunked") {
        while !(heard.ends_with(b"\r\n0\r\n\r\n") || heard.ends_with(b"\r\n\r\n") && tail(&heard)) {
            if stream.read(&mut byte).await.ok()? == 0 {
                return None;
            }
            heard.push(byte[0]);
        }
    }
    Some(String::from_utf8(heard).unwrap())
}

/// Whether the last chunk is there, with trailers behind it.
fn tail(heard: &[u8]) -> bool {
    let text = String::from_utf8_lossy(heard);
    text.rfind("\r\n0\r\n")
        .is_some_and(|at| text[at + 5..].contains("\r\n\r\n"))
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
