//! [`Address`]: what the operator's URL says, for one app.
//!
//! TLS is off or certain, never perhaps: what is neither a loopback address nor marked `sslmode=disable` is reached over TLS
//! with the server's certificate and name checked.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::place::PlaceError;

/// Where a database is and how it is reached.
#[derive(Clone)]
pub(in crate::sql) struct Address {
    /// The operator's URL with the app's name in it; may hold a password.
    pub(in crate::sql) url: Url,
    /// `HOST:PORT/DATABASE`.
    pub(in crate::sql) database: String,
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.database)
    }
}

/// What an option of the URL may be.
const OPTIONS: &str = "sslmode=disable, sslmode=require and sslrootcert=FILE";

impl Address {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE`; `{app}` in it is the app's name.
    pub(in crate::sql) fn read(url: &Url, app: &str) -> Result<Self, PlaceError> {
        // Reading it as a URL has written the braces as percent signs.
        let text = url.as_str().replace("%7Bapp%7D", app).replace("{app}", app);
        let url = Url::parse(&text).map_err(|_| bad("it is no URL once the app is named"))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad("it names no host"))?.to_owned();
        let port = url.port().unwrap_or(5432);
        let user = decoded(url.username())?;
        let name = decoded(url.path().trim_start_matches('/'))?;
        if user.is_empty() || name.is_empty() {
            return Err(bad("it names no user or no database"));
        }
        let tls = Tls::read(&url, &host)?;
        let mut config = Config::new();
        config
            .host(host.trim_matches(['[', ']']))
            .port(port)
            .user(&user)
            .dbname(&name)
            .application_name("hostel")
            .ssl_mode(match tls {
                Tls::Off => SslMode::Disable,
                Tls::Checked(_) => SslMode::Require,
            });
        if let Some(password) = url.password() {
            config.password(decoded(password)?);
        }
        Ok(Self {
            database: format!("{host}:{port}/{name}"),
            config,
            tls: MakeRustlsConnect::new(tls.config()?),
            url,
        })
    }
}

enum Tls {
    Off,
    Checked(RootCertStore),
}

impl Tls {
    fn read(url: &Url, host: &str) -> Result<Self, PlaceError> {
        let (mut mode, mut file) = (None, None);
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => file = Some(value.into_owned()),
                _ => return Err(bad("it has an option that this driver does not know")),
            }
        }
        let here = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        match (mode.as_deref(), file) {
            (Some("disable"), None) => Ok(Self::Off),
            (None, None) if here => Ok(Self::Off),
            (None | Some("require" | "verify-full"), Some(file)) => {
                Ok(Self::Checked(roots_in(&file)?))
            }
            (None | Some("require" | "verify-full"), None) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Ok(Self::Checked(roots))
            }
            _ => Err(bad(
                "its sslmode is none of disable, require and verify-full",
            )),
        }
    }

    fn config(self) -> Result<ClientConfig, PlaceError> {
        let roots = match self {
            Self::Off => RootCertStore::empty(),
            Self::Checked(roots) => roots,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| bad(&format!("TLS cannot be used: {cause}")))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// The certificates of a private authority.
fn roots_in(file: &str) -> Result<RootCertStore, PlaceError> {
    let unreadable = |cause: &dyn fmt::Display| PlaceError {
        what: format!("the sslrootcert {file} cannot be read: {cause}"),
        help: "name a file with the authority's certificates in PEM".to_owned(),
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|cause| unreadable(&cause))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|cause| unreadable(&cause))?;
        roots.add(certificate).map_err(|cause| unreadable(&cause))?;
    }
    match roots.is_empty() {
        true => Err(unreadable(&"there is no certificate in it")),
        false => Ok(roots),
    }
}

fn decoded(part: &str) -> Result<String, PlaceError> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                let value = value.and_then(|value| u8::try_from(value).ok());
                value.ok_or_else(|| bad("it has a percent sign without two digits"))?
            }
            plain => plain,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| bad("a part of it is no UTF-8"))
}

/// Never with a part of the URL: that may be secret.
fn bad(what: &str) -> PlaceError {
    PlaceError {
        what: format!("the url of this database cannot be used: {what}"),
        help: format!(
            "write postgres://USER:PASSWORD@HOST:5432/DATABASE, after ? perhaps {OPTIONS}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, PlaceError> {
        Address::read(&Url::parse(text).unwrap(), "shop")
    }

    #[test]
    fn a_url_names_the_app_and_says_whether_tls_is_used() {
        for (text, database, mode) in [
            (
                "postgres://{app}:p@localhost/{app}",
                "localhost:5432/shop",
                SslMode::Disable,
            ),
            ("postgres://u:p@[::1]:99/d", "[::1]:99/d", SslMode::Disable),
            (
                "postgres://u:p@127.0.0.1/d?sslmode=require",
                "127.0.0.1:5432/d",
                SslMode::Require,
            ),
            (
                "postgres://u:p@db.example/d",
                "db.example:5432/d",
                SslMode::Require,
            ),
            (
                "postgres://u:p@db.example/d?sslmode=disable",
                "db.example:5432/d",
                SslMode::Disable,
            ),
        ] {
            let address = read(text).unwrap();
            assert_eq!(address.database, database, "{text}");
            assert_eq!(address.config.get_ssl_mode(), mode, "{text}");
        }
        let address = read("postgres://{app}:a%40b%2fc@localhost/x").unwrap();
        assert_eq!(address.config.get_user(), Some("shop"));
        assert_eq!(address.config.get_password(), Some(&b"a@b/c"[..]));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_password() {
        for (text, what) in [
            ("postgres://u:hunter2@localhost", "no database"),
            ("postgres://localhost/d", "no user"),
            ("postgres:///d", "no host"),
            ("postgres://u:hunter2@h/d?sslmode=prefer", "sslmode"),
            ("postgres://u:hunter2@h/d?options=hunter2", "option"),
            ("postgres://u:hunter2%2@h/d?sslmode=disable", "percent"),
            (
                "postgres://u:hunter2@h/d?sslrootcert=none.pem",
                "none.pem cannot be read",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.what.contains(what), "{text}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let address = read("postgres://u:hunter2@localhost/d").unwrap();
        assert!(!format!("{address:?} {:?}", address.config).contains("hunter2"));
    }
}
