//! TLS with an authority of the tests' own: whom the host trusts, which protocol is agreed on, what it shows.

use std::path::PathBuf;

use hostel_app::NetworkPolicy;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::block_on;

fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tls");
    PathBuf::from(folder).join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(fixture(name)).unwrap()
}

/// What a server offers, and whether it asks for a certificate.
fn server_config(protocols: &[&str], asks: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut clients = RootCertStore::empty();
    clients.add(certificate("authority.pem")).unwrap();
    let builder = match asks {
        false => builder.with_no_client_auth(),
        true => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(clients.into(), provider)
                .build()
                .unwrap(),
        ),
    };
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let mut config = builder
        .with_single_cert(vec![certificate("server.pem")], key)
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Arc::new(config)
}

/// Answers with the version that was spoken, the authority that was asked for and whether a certificate was shown; counts
/// its connections.
async fn serve(config: Arc<ServerConfig>) -> (u16, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::<Mutex<usize>>::default();
    let count = connections.clone();
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            *count.lock().unwrap() += 1;
            let session = stream.get_ref().1;
            let shown = session.peer_certificates().is_some();
            let h2 = session.alpn_protocol() == Some(b"h2");
            let answer = service_fn(
                move |request: http::Request<hyper::body::Incoming>| async move {
                    let host = match request.uri().authority() {
                        Some(authority) => authority.to_string(),
                        None => request.headers()["host"].to_str().unwrap().to_owned(),
                    };
                    let hosts = request.headers().get_all("host").iter().count();
                    let text = format!("{:?} {host} {hosts} {shown}", request.version());
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(
                        text,
                    ))))
                },
            );
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                if h2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(io, answer).await);
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    drop(builder.serve_connection(io, answer).await);
                }
            });
        }
    });
    (port, connections)
}

/// A guest that reaches every server on this machine by TLS, with this policy.
fn trusting(ca: bool, identity: bool) -> Outgoing {
    let policy = NetworkPolicy {
        allow: vec!["127.0.0.1".to_owned()],
        ca_files: ca.then(|| fixture("authority.pem")).into_iter().collect(),
        identity: identity.then(|| (fixture("client.pem"), fixture("client.key"))),
        ..NetworkPolicy::default()
    };
    let (names, _) = names(&[&["127.0.0.1"]]);
    let network = Network {
        names,
        ..Network::new(&policy).unwrap()
    };
    guest(grants("http", "https://*:*"), network)
}

async fn said(guest: &Outgoing, host: &str, port: u16) -> Result<String, Error> {
    let (_, body) = send(guest, get(&format!("https://{host}:{port}/"))).await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn the_best_protocol_that_both_speak_is_agreed_on_and_its_connection_reused() {
    block_on(async {
        for (protocols, version, hosts) in [
            (&["h2", "http/1.1"][..], "HTTP/2.0", 0),
            (&["http/1.1"], "HTTP/1.1", 1),
            (&[], "HTTP/1.1", 1),
        ] {
            let (port, connections) = serve(server_config(protocols, false)).await;
            let guest = trusting(true, false);
            for _ in 0..5 {
                let expected = format!("{version} localhost:{port} {hosts} false");
                assert_eq!(said(&guest, "localhost", port).await.unwrap(), expected);
            }
            assert_eq!(*connections.lock().unwrap(), 1, "{version}");
        }
    });
}

#[test]
fn requests_at_the_same_time_share_a_connection_of_http_2() {
    block_on(async {
        let (port, connections) = serve(server_config(&["h2"], false)).await;
        let guest = trusting(true, false);
        said(&guest, "localhost", port).await.unwrap();
        let all = (0..20).map(|_| said(&guest, "localhost", port));
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(*connections.lock().unwrap(), 1);
    });
}

#[test]
fn a_server_has_to_prove_that_it_is_the_one() {
    block_on(async {
        let (port, connections) = serve(server_config(&["h2"], false)).await;
        let refused = |result| matches!(result, Err(Error::TlsCertificateError));
        let trusting_it = trusting(true, false);
        assert!(
            refused(said(&trusting_it, "other.example", port).await),
            "another name"
        );
        assert!(said(&trusting_it, "127.0.0.1", port).await.is_ok());
        assert!(said(&trusting_it, "LOCALHOST.", port).await.is_ok());
        let before = *connections.lock().unwrap();
        let stranger = trusting(false, false);
        assert!(
            refused(said(&stranger, "localhost", port).await),
            "another authority"
        );
        assert!(*connections.lock().unwrap() <= before + 1);
        // A server that speaks no TLS.
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = plain.local_addr().unwrap().port();
        let greets = async {
            let (mut stream, _) = plain.accept().await.unwrap();
            stream.write_all(b"220 hello\r\n").await.unwrap();
            drop(request(&mut stream).await);
        };
        let (error, ()) = tokio::join!(said(&trusting_it, "localhost", port), greets);
        assert!(matches!(error, Err(Error::TlsProtocolError)), "{error:?}");
    });
}

#[test]
fn a_certificate_is_shown_to_a_server_that_asks() {
    block_on(async {
        for protocol in ["h2", "http/1.1"] {
            let (port, _) = serve(server_config(&[protocol], true)).await;
            let answer = said(&trusting(true, true), "localhost", port)
                .await
                .unwrap();
            assert!(answer.ends_with(" true"), "{answer}");
            let without = said(&trusting(true, false), "localhost", port).await;
            assert!(without.is_err(), "{without:?}");
        }
    });
}

#[test]
fn files_that_cannot_be_used_are_an_error_before_anything_is_served() {
    let wrong = |ca_files: &[&str], identity: Option<(&str, &str)>| {
        let policy = NetworkPolicy {
            ca_files: ca_files.iter().map(|name| fixture(name)).collect(),
            identity: identity.map(|(chain, key)| (fixture(chain), fixture(key))),
            ..NetworkPolicy::default()
        };
        let error = Network::new(&policy).unwrap_err();
        assert!(error.help.contains("[network] of server.toml"));
        error.what
    };
    assert!(wrong(&["missing.pem"], None).contains("missing.pem cannot be read"));
    assert!(wrong(&["server.key"], None).contains("server.key cannot be read"));
    let no_key = wrong(&[], Some(("client.pem", "client.pem")));
    assert!(
        no_key.contains("client.pem cannot be read for a private key"),
        "{no_key}"
    );
    let other_key = wrong(&[], Some(("client.pem", "server.key")));
    assert!(
        other_key.contains("`identity` cannot be used"),
        "{other_key}"
    );
    let allow = NetworkPolicy {
        allow: vec!["everything".to_owned()],
        ..NetworkPolicy::default()
    };
    let error = Network::new(&allow).unwrap_err();
    assert!(error.what.contains("\"everything\""), "{}", error.what);
}
