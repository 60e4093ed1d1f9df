//! What a server says at its metrics address, read as strictly as Prometheus' text format is written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::http::Connection;
use super::message::{Answer, get};
use super::server::Server;

/// Flags that make a server have metrics.
pub(crate) const FLAGS: [&str; 2] = ["--metrics", "127.0.0.1:0"];

const READY: &str = "metrics at http://";

/// Where a server with [`FLAGS`] answers.
pub(crate) fn address(server: &Server) -> SocketAddr {
    server.stderr().find("the metrics' address", |text| {
        let complete = text
            .split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'));
        let line = complete
            .filter_map(|line| line.strip_prefix(READY))
            .next()?;
        let address = line
            .strip_suffix("/metrics")
            .expect("an address of metrics");
        Some(address.parse().expect("an address"))
    })
}

/// Asks a path of a server's metrics.
pub(crate) fn ask(server: &Server, path: &str) -> Answer {
    Connection::open(address(server))
        .expect("a connection")
        .ask(&get(path))
}

/// Everything that a server counts.
pub(crate) fn read(server: &Server) -> Metrics {
    let answer = ask(server, "/metrics");
    assert_eq!(answer.status, 200);
    Metrics::parse(&answer.text())
}

/// The samples by name with labels, as written: `name{a="b"}`.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// The sum over all samples of this name whose labels contain these.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let mut found = false;
        let mut sum = 0.0;
        for (key, value) in &self.0 {
            let (of, rest) = key.split_once('{').unwrap_or((key, ""));
            if of == name && wanted.iter().all(|label| rest.contains(label)) {
                found = true;
                sum += value;
            }
        }
        assert!(found, "no sample of {name} {wanted:?}: {self:?}");
        sum
    }

    /// Reads all of it, or fails.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut samples = BTreeMap::new();
        let mut families = BTreeSet::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line
                .strip_prefix("# HELP ")
                .and_then(|rest| rest.split_once(' '))
                .unwrap_or_else(|| panic!("not the begin of a family: {line}"));
            assert!(is_name(name) && !help.is_empty(), "{line}");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            let kind = lines.next().expect("a type");
            let kind = kind
                .strip_prefix(&format!("# TYPE {name} "))
                .unwrap_or_else(|| panic!("not the type of {name}: {kind}"));
            assert!(["counter", "gauge"].contains(&kind), "{name}: {kind}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (key, value) = sample(line, name);
                assert!(samples.insert(key, value).is_none(), "twice: {line}");
            }
        }
        Self(samples)
    }
}

/// One line of a family: its name with its labels, and its value.
fn sample(line: &str, family: &str) -> (String, f64) {
    let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
    assert_eq!(name, family, "{line}");
    let mut rest = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
    while !rest.is_empty() {
        let (label, tail) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label), "{line}");
        rest = after_quoted(tail).unwrap_or_else(|| panic!("{line}"));
        if let Some(tail) = rest.strip_prefix(',') {
            assert!(!tail.is_empty(), "{line}");
            rest = tail;
        } else {
            assert_eq!(rest, "", "{line}");
        }
    }
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(value.is_finite() && value >= 0.0, "{line}");
    (key.to_owned(), value)
}

/// What follows a label's value, whose opening quotation mark has been read.
fn after_quoted(text: &str) -> Option<&str> {
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return text.get(place + 1..),
            '\\' => {
                let (_, escaped) = characters.next()?;
                ['\\', '"', 'n'].contains(&escaped).then_some(())?;
            }
            _ => {}
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|first: char| first.is_ascii_digit())
}
