//! TLS of outgoing connections: whom the host trusts, what it shows to servers that ask, and which protocol is agreed on.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use hostel_app::NetworkPolicy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use super::NetworkError;
use super::resolve::Host;

/// What servers are offered, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Trust and identity, as the system and the operator's file say.
#[derive(Debug, Default)]
pub(super) struct Tls {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    /// Made with the first connection: reading the system's authorities takes a while.
    config: OnceCell<Arc<ClientConfig>>,
}

#[derive(Debug)]
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// Reads the operator's files.
    pub(super) fn new(policy: &NetworkPolicy) -> Result<Self, NetworkError> {
        let mut authorities = Vec::new();
        for file in &policy.ca_files {
            authorities.extend(certificates(file)?);
        }
        let identity = match &policy.identity {
            None => None,
            Some((chain, key)) => {
                let (file, chain) = (key, certificates(chain)?);
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|cause| unusable(file, "a private key", &cause))?;
                Some(Identity { chain, key })
            }
        };
        let tls = Self {
            authorities,
            identity,
            config: OnceCell::new(),
        };
        let mut trusted = RootCertStore::empty();
        for authority in &tls.authorities {
            let added = trusted.add(authority.clone());
            added.map_err(|cause| NetworkError {
                what: format!("a certificate of `ca_files` cannot be used: {cause}"),
                help: "name PEM files of certificate authorities in [network] of server.toml"
                    .into(),
            })?;
        }
        tls.build(trusted).map_err(|cause| NetworkError {
            what: format!("the certificate and key of `identity` cannot be used: {cause}"),
            help:
                "name the PEM files of a certificate and of its own key in [network] of server.toml"
                    .into(),
        })?;
        Ok(tls)
    }

    fn build(&self, trusted: RootCertStore) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trusted);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key())?
            }
        };
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let make = async || {
            // Those that cannot be read are not trusted; without any, every server is refused.
            let system = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
            let system = system.await.map_err(|_| Error::ConfigurationError)?;
            let mut trusted = RootCertStore::empty();
            trusted.add_parsable_certificates(system.certs);
            trusted.add_parsable_certificates(self.authorities.iter().cloned());
            let config = self.build(trusted);
            config.map(Arc::new).map_err(|_| Error::ConfigurationError)
        };
        self.config.get_or_try_init(make).await.cloned()
    }

    /// Shakes hands with a server that has to prove that it is `host`.
    pub(super) async fn wrap(
        &self,
        stream: TcpStream,
        host: &Host,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let name = match host {
            Host::Address(address) => ServerName::IpAddress(IpAddr::to_canonical(address).into()),
            Host::Name(_) => {
                ServerName::try_from(host.bare()).map_err(|_| Error::HttpRequestUriInvalid)?
            }
        };
        let connector = TlsConnector::from(self.config().await?);
        connector
            .connect(name, stream)
            .await
            .map_err(|error| failed(&error))
    }
}

/// Whether the server chose HTTP/2.
pub(super) fn is_h2(stream: &TlsStream<TcpStream>) -> bool {
    let (_, session) = stream.get_ref();
    session.alpn_protocol() == PROTOCOLS.first().copied()
}

/// Tells apart what is wrong with the server's certificate, what the server did not like, and the rest.
fn failed(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        _ => Error::TlsProtocolError,
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, NetworkError> {
    let failed = |cause: &dyn std::fmt::Display| unusable(file, "certificates", cause);
    let all = CertificateDer::pem_file_iter(file).map_err(|cause| failed(&cause))?;
    let all: Vec<_> = all
        .collect::<Result<_, _>>()
        .map_err(|cause| failed(&cause))?;
    match all.is_empty() {
        true => Err(failed(&"there is none in it")),
        false => Ok(all),
    }
}

fn unusable(file: &Path, what: &str, cause: &dyn std::fmt::Display) -> NetworkError {
    NetworkError {
        what: format!("{} cannot be read for {what}: {cause}", file.display()),
        help: "name PEM files under `ca_files` and `identity` in [network] of server.toml".into(),
    }
}
