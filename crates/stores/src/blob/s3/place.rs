//! `s3://[ACCESS_KEY:SECRET@]BUCKET[/PREFIX]?endpoint=URL&region=REGION&path-style=true`, read into what the library wants.

use std::fmt;

use object_store::aws::AmazonS3Builder;
use url::Url;
use url::form_urlencoded;

use crate::place::PlaceError;

/// Where the buckets of a server without regions are said to be.
const REGION: &str = "us-east-1";

/// An S3 place, understood.
pub(super) struct Settings {
    pub(super) builder: AmazonS3Builder,
    /// What every key begins with; empty, or ends in `/`.
    pub(super) prefix: String,
    /// Whether the endpoint speaks TLS.
    pub(super) tls: bool,
    /// The bucket, as errors name it.
    pub(super) bucket: String,
}

/// Without its credentials.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// Reads the URL. `env` looks up what it leaves to the environment.
pub(super) fn read(
    url: &Url,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Settings, PlaceError> {
    let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
    let bucket = bucket.ok_or_else(|| error("the s3 url names no bucket".to_owned()))?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(REGION);
    let (mut tls, mut path_style, mut endpoint) = (true, None, false);
    for (option, value) in url.query_pairs() {
        match (&*option, &*value) {
            ("endpoint", value) => {
                tls = is_tls(value)?;
                endpoint = true;
                builder = builder
                    .with_endpoint(value.trim_end_matches('/'))
                    .with_allow_http(!tls);
            }
            ("region", value) if !value.is_empty() => builder = builder.with_region(value),
            ("path-style", "true") => path_style = Some(true),
            ("path-style", "false") => path_style = Some(false),
            (option, _) => {
                return Err(error(format!(
                    "`{option}` is no option of an s3 url, or has no such value"
                )));
            }
        }
    }
    // A server of one's own rarely has a name for each bucket.
    let path_style = path_style.unwrap_or(endpoint);
    let (key, secret, token) = credentials(url, env)?;
    if let Some(token) = token {
        builder = builder.with_token(token);
    }
    Ok(Settings {
        builder: builder
            .with_virtual_hosted_style_request(!path_style)
            // TLS protects what is sent; without it the signature does.
            .with_unsigned_payload(tls)
            .with_access_key_id(key)
            .with_secret_access_key(secret),
        prefix: prefix(url)?,
        tls,
        bucket: bucket.to_owned(),
    })
}

fn is_tls(endpoint: &str) -> Result<bool, PlaceError> {
    let parsed = Url::parse(endpoint).ok().filter(Url::has_host);
    match parsed.as_ref().map(Url::scheme) {
        Some("https") => Ok(true),
        Some("http") => Ok(false),
        _ => Err(error(
            "the endpoint of the s3 url is no http:// or https:// URL".to_owned(),
        )),
    }
}

type Credentials = (String, String, Option<String>);

fn credentials(url: &Url, env: impl Fn(&str) -> Option<String>) -> Result<Credentials, PlaceError> {
    if let (key @ ("" | _), Some(secret)) = (url.username(), url.password()) {
        return Ok((decoded(key), decoded(secret), None));
    }
    let named = |name: &str| env(name).filter(|value| !value.is_empty());
    match (named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY")) {
        (Some(key), Some(secret)) if url.username().is_empty() => Ok((key, secret, named("AWS_SESSION_TOKEN"))),
        _ => Err(PlaceError {
            what: "the s3 url has no access key and secret, and the environment has none".to_owned(),
            help: "write s3://ACCESS_KEY:SECRET@BUCKET, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
        }),
    }
}

fn prefix(url: &Url) -> Result<String, PlaceError> {
    let path = decoded(url.path().trim_matches('/'));
    let plain = |part: &str| {
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!=".contains(&byte);
        !matches!(part, "" | "." | "..") && part.bytes().all(harmless)
    };
    match path.as_str() {
        "" => Ok(String::new()),
        path if path.len() <= 256 && path.split('/').all(plain) => Ok(format!("{path}/")),
        _ => Err(error(
            "the prefix in the s3 url has other characters than letters, digits and -_.!="
                .to_owned(),
        )),
    }
}

/// Percent-encoded text of a URL; its `+`, `&` and `=` mean themselves.
fn decoded(text: &str) -> String {
    let text = text
        .replace('+', "%2B")
        .replace('&', "%26")
        .replace('=', "%3D");
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    pairs
        .next()
        .map(|(text, _)| text.into_owned())
        .unwrap_or_default()
}

fn error(what: String) -> PlaceError {
    PlaceError {
        what,
        help: "write s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION&path-style=true; all but the bucket may be left out"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Settings, PlaceError> {
        read(&Url::parse(text).unwrap(), |_| None)
    }

    #[test]
    fn an_s3_url_is_read_and_shows_no_secret() {
        let settings = read_text(
            "s3://key:se%2Fcret+@bucket/some/where/?endpoint=http://127.0.0.1:9000&region=eu",
        )
        .unwrap();
        assert_eq!(format!("{settings:?}"), "s3://bucket/some/where/");
        assert!(!settings.tls);
        assert_eq!(decoded("se%2Fcret+"), "se/cret+");
        let env = |name: &str| Some(name.to_lowercase());
        let settings = read(&Url::parse("s3://bucket").unwrap(), env).unwrap();
        assert!(settings.tls && settings.prefix.is_empty());
    }

    #[test]
    fn what_is_wrong_with_an_s3_url_is_said() {
        for (text, what) in [
            ("s3://bucket", "no access key"),
            ("s3://key@bucket", "no access key"),
            ("s3://k:s@bucket?endpoint=ftp://x", "no http:// or https://"),
            ("s3://k:s@bucket?colour=red", "`colour` is no option"),
            (
                "s3://k:s@bucket?path-style=maybe",
                "`path-style` is no option",
            ),
            ("s3://k:s@bucket/a/../b//c", "prefix"),
            ("s3:///prefix", "names no bucket"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.what.contains(what), "{text}: {error}");
            assert!(!error.help.is_empty());
        }
    }
}
