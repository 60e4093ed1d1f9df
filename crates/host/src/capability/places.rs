//! The places that the operator's file names: its URLs, with their variables filled in, as the stores understand them.

use std::collections::BTreeMap;

use hostel_app::{FillError, ServerConfig, StorePlace, Variable, limits};
use hostel_stores::place::{Kind, Place, PlaceError};

use crate::capability::config::Value;
use crate::capability::variables::{NoValue, Variables};

/// One label of the operator's file.
#[derive(Debug, Clone)]
pub struct LabelledPlace {
    /// Which table it is in.
    pub kind: Kind,
    /// Its name there.
    pub label: String,
    /// Its line.
    pub line: usize,
    /// Where its data is; or what is wrong with that, without anything secret.
    pub place: Result<Place, PlaceError>,
}

/// Every label that the file names, whether a manifest does or not. Nothing is reached.
pub fn places(config: &ServerConfig) -> Vec<LabelledPlace> {
    let own = config.own_variables().into_iter().map(|name| {
        let variable = Variable {
            secret: true,
            origins: config.origins(name),
        };
        (name.to_owned(), variable)
    });
    let own: BTreeMap<String, Variable> = own.collect();
    let variables = Variables::new(&own);
    let kinds = [
        (Kind::KeyValue, &config.keyvalue),
        (Kind::Blob, &config.blobstore),
        (Kind::Sql, &config.sql),
        (Kind::Messaging, &config.messaging),
    ];
    let labels = kinds.into_iter().flat_map(|(kind, labels)| {
        labels
            .iter()
            .map(move |(label, written)| (kind, label, written))
    });
    let labelled = |(kind, label, written): (Kind, &String, &StorePlace)| LabelledPlace {
        kind,
        label: label.clone(),
        line: written.line,
        place: place(kind, written, &variables),
    };
    labels.map(labelled).collect()
}

fn place(kind: Kind, written: &StorePlace, variables: &Variables) -> Result<Place, PlaceError> {
    let most = limits::EXPANDED_BYTES_MAX.size();
    let template = written.url.to_string();
    let credentials = credentials(&template);
    let filled = written.url.fill(most, |name| {
        let value = Value::of(variables, name)?;
        let escaped = credentials.contains(&format!("{{{{ {name} }}}}"));
        Ok(match escaped {
            true => escape(value.as_ref()),
            false => value.as_ref().to_owned(),
        })
    });
    let url = filled.map_err(|error: FillError<NoValue>| match error {
        FillError::NoValue(error) => PlaceError {
            what: error.to_string(),
            help: error.help(),
        },
        FillError::TooLong => PlaceError {
            what: "the url is too long".to_owned(),
            help: "use shorter variables".to_owned(),
        },
    })?;
    let mut place = Place::parse(kind, &url).map_err(|error| match written.url.constant() {
        Some(_) => error,
        // The parser's own words may quote a scheme or an option, and thereby a variable.
        None => PlaceError {
            what: format!(
                "with its variables filled in, this is no url of a {}",
                kind.name()
            ),
            help: error.help,
        },
    })?;
    place.timeout = written.timeout.unwrap_or(place.timeout);
    Ok(place)
}

/// The part of a URL that holds user and password, if it has one.
fn credentials(template: &str) -> &str {
    let (_, behind) = template.split_once("://").unwrap_or_default();
    let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
    let (credentials, _) = authority.rsplit_once('@').unwrap_or_default();
    credentials
}

/// A password may hold any character, and means itself.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(text: &str) -> ServerConfig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        ServerConfig::read(&path).unwrap()
    }

    fn only(text: &str) -> Result<Place, PlaceError> {
        let mut all = places(&config(text));
        assert_eq!(all.len(), 1);
        all.remove(0).place
    }

    #[test]
    fn every_label_has_its_place() {
        let text = "[keyvalue.default]\nurl = \"memory:\"\ntimeout = \"50ms\"\n[sql.main]\nurl = \"embedded:\"\n[variables]\np = \"hunter2\"\n[messaging.m]\nurl = \"nats://u:{{ p }}@a\"\n";
        let all = places(&config(text));
        let shown: Vec<String> = all
            .iter()
            .map(|labelled| format!("{} {} {:?}", labelled.label, labelled.line, labelled.place))
            .collect();
        assert_eq!(
            shown,
            [
                "default 1 Ok(keyvalue at memory:)",
                "main 4 Ok(sql at embedded:)",
                "m 8 Ok(messaging at nats://a)"
            ]
        );
        let timeout = all[0].place.as_ref().unwrap().timeout;
        assert_eq!(timeout, Duration::from_millis(50));
    }

    #[test]
    fn a_password_may_hold_any_character_and_the_rest_is_as_it_is_written() {
        let text = "[variables]\np = \"a@b/c?d#e%:f\"\nhost = \"h.example:1\"\nall = \"redis://u:p@a/1\"\n[keyvalue.default]\nurl = \"redis://u:{{ p }}@{{ host }}/2\"\n[keyvalue.whole]\nurl = \"{{ all }}\"\n";
        let all = places(&config(text));
        let urls: Vec<String> = all
            .iter()
            .map(|labelled| match &labelled.place.as_ref().unwrap().backend {
                hostel_stores::place::Backend::Server(url) => url.to_string(),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(
            urls,
            [
                "redis://u:a%40b%2Fc%3Fd%23e%25%3Af@h.example:1/2",
                "redis://u:p@a/1"
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_secret() {
        for (url, what) in [
            ("hunter2", "the url of this keyvalue is no URL"),
            (
                "mysql://u:hunter2@a",
                "there is no keyvalue driver for `mysql:`",
            ),
            (
                "redis://u:hunter2@[bad/",
                "the url of this keyvalue is no URL",
            ),
            ("redis://{{ p }}:{{ q }}", "the variable \"q\" has no value"),
            ("{{ p }}:x", "with its variables filled in, this is no url"),
            (
                "embedded:?{{ p }}",
                "with its variables filled in, this is no url",
            ),
        ] {
            let text =
                format!("[variables]\np = \"hunter2\"\n[keyvalue.default]\nurl = \"{url}\"\n");
            let error = only(&text).unwrap_err();
            assert!(error.what.starts_with(what), "{error}");
            assert!(!error.help.is_empty());
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
