//! What a guest does not get, and what is said of it. For something that its grants do not name, the interface tells the
//! guest, and the log says once which line of the manifest would allow it. For a backend in trouble, the guest is told in
//! plain words that hold nothing of the backend's own, and the log has those, as often as it has faults.
//!
//! A label that the grants do not name is *denied*, whether other components have it or not: a guest learns nothing about
//! them. What is no label at all, and a label that was granted to a process that keeps no stores, is *unknown*.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;
use std::sync::Mutex;

use hostel_app::grant::NEIGHBOURS;
use hostel_app::limits;
use hostel_stores::Failure;

use super::escape::escape_into;
use crate::lock::lock;
use crate::state::{Stdio, Template};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    KeyValue,
    Blob,
    Sql,
    /// A broker.
    Messaging,
    /// A topic to publish to.
    Publish,
    /// A topic to send a request to.
    Request,
    /// A topic to read.
    Subscribe,
    Secret,
    /// A component of the own app, to be called over HTTP.
    Neighbour,
    /// An address to connect to.
    Tcp,
    /// A directory of the host's.
    Files,
}

/// Why there is nothing by that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Its grants do not name it.
    Denied,
    /// There cannot be such a thing.
    Unknown,
}

/// What the log was told about one component. Lives as long as the component is loaded.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<BTreeSet<(Wanted, String)>>);

impl Told {
    /// Whether it was not told yet, and there is room to remember that it is now.
    fn is_new(&self, wanted: Wanted, name: &str) -> bool {
        let mut told = lock(&self.0);
        told.len() < limits::DENIED_LINES.size() && told.insert((wanted, name.to_owned()))
    }
}

impl Wanted {
    fn noun(self) -> &'static str {
        match self {
            Self::KeyValue => "key-value store",
            Self::Blob => "blob container",
            Self::Sql => "database",
            Self::Messaging => "message broker",
            Self::Publish => "publishing to topic",
            Self::Request => "sending requests to topic",
            Self::Subscribe => "reading topic",
            Self::Secret => "secret",
            Self::Neighbour => "calling the component",
            Self::Tcp => "connecting to",
            Self::Files => "the directory",
        }
    }

    /// The line of the manifest that grants it, and the flag of the command line.
    fn mend(self, name: &str) -> (String, String) {
        let list = |key: &str| {
            (
                format!("{key} = [\"{name}\"]"),
                format!("--grant {key}={name}"),
            )
        };
        let within = |key: &str, flag: &str| {
            (
                format!("messaging = {{ {key} = [\"{name}\"] }}"),
                format!("--grant {flag}={name}"),
            )
        };
        match self {
            Self::KeyValue => list("keyvalue"),
            Self::Blob => list("blobstore"),
            Self::Sql => list("sql"),
            Self::Secret => list("secrets"),
            Self::Tcp => list("tcp"),
            Self::Files => (
                format!("files = {{ \"{name}\" = {{ host = \"DIR\" }} }}"),
                format!("--dir DIR::{name}:ro"),
            ),
            Self::Messaging => within("clients", "messaging"),
            Self::Publish => within("publish", "publish"),
            Self::Request => within("request", "request"),
            Self::Subscribe => within("subscribe", "subscribe"),
            Self::Neighbour => {
                let url = format!("http://{name}.{NEIGHBOURS}");
                (format!("http = [\"{url}\"]"), format!("--grant http={url}"))
            }
        }
    }
}

impl Template {
    /// A guest asked for a store by a label under which it has none.
    pub(crate) fn no_store(&self, wanted: Wanted, label: &str) -> Absent {
        let grants = &self.grants;
        let granted = match wanted {
            Wanted::KeyValue => grants.keyvalue.contains(label),
            Wanted::Blob => grants.blobstore.contains(label),
            Wanted::Sql => grants.sql.contains(label),
            Wanted::Messaging => grants.messaging.clients.contains(label),
            Wanted::Secret => grants.secrets.contains(label),
            Wanted::Publish
            | Wanted::Request
            | Wanted::Subscribe
            | Wanted::Neighbour
            | Wanted::Tcp
            | Wanted::Files => false,
        };
        if granted || !is_label(label) {
            return Absent::Unknown;
        }
        self.denied(wanted, label);
        Absent::Denied
    }

    /// A guest asked for something that is not granted: counted, and told once. `name` is what the manifest would have to
    /// name; a label or a topic that was checked, not any text of the guest's.
    pub(crate) fn denied(&self, wanted: Wanted, name: &str) {
        self.metrics.store_denied.add(1);
        self.tell_denied(wanted, name);
    }

    /// A guest asked a component of its app that it was not granted: told once.
    pub(crate) fn neighbour_denied(&self, name: &str) {
        let name = if name.is_empty() { "NAME" } else { name };
        self.tell_denied(Wanted::Neighbour, name);
    }

    /// A guest wanted to connect to an address that it was not granted: told once.
    pub(crate) fn tcp_denied(&self, address: impl Display) {
        self.tell_denied(Wanted::Tcp, &address.to_string());
    }

    /// A guest asked for a file in none of its directories: told once. `directory` is a plain name.
    pub(crate) fn files_denied(&self, directory: &str) {
        self.tell_denied(Wanted::Files, directory);
    }

    /// A guest asked a component that does not answer requests, or that there is not: told once.
    pub(crate) fn no_neighbour(&self, name: &str, all: &str) {
        let (component, key) = (&self.component, format!("{name}?"));
        if self.granted.told.is_new(Wanted::Neighbour, &key) {
            let those = match all {
                "" => "none answers any".to_owned(),
                all => format!("those that do are: {all}"),
            };
            self.say(&format!(
                "component \"{component}\": no component of the app answers requests to \"{name}.{NEIGHBOURS}\"; {those}"
            ));
        }
    }

    /// Guests called guests called guests: told once for each callee.
    pub(crate) fn too_deep(&self, callee: &str) {
        let (component, key) = (&self.component, format!("{callee}!"));
        if self.granted.told.is_new(Wanted::Neighbour, &key) {
            let most = limits::CALL_DEPTH.count();
            self.say(&format!(
                "component \"{component}\": its call of \"{callee}\" would be number {} of calls one behind the other, and \
                 there can be at most {most}: do they call each other in a circle?",
                most + 1
            ));
        }
    }

    fn tell_denied(&self, wanted: Wanted, name: &str) {
        if !self.granted.told.is_new(wanted, name) {
            return;
        }
        let (component, noun) = (&self.component, wanted.noun());
        let (line, flag) = wanted.mend(name);
        self.say(&format!(
            "component \"{component}\": {noun} \"{name}\" is not granted; add {line} to [component.{component}.grants], \
             or start with {flag}"
        ));
    }

    /// The backend of a store is in trouble: told, but no more often than faults are.
    pub(crate) fn store_failed(&self, wanted: Wanted, label: &str, failure: &Failure) {
        let (component, noun) = (&self.component, wanted.noun());
        self.say(&format!(
            "component \"{component}\": {noun} \"{label}\": {failure}"
        ));
    }

    /// A line for the operator about this component.
    fn say(&self, text: &str) {
        match &self.stdio {
            Stdio::Log(log) => log.notice(text),
            Stdio::Inherit => {
                let mut line = b"hostel: ".to_vec();
                escape_into(&mut line, text.as_bytes());
                line.push(b'\n');
                // A closed standard error has nobody to tell.
                let _written = std::io::stderr().write_all(&line);
            }
        }
    }
}

/// What a guest is told about a backend in trouble.
pub(crate) fn plain(failure: &Failure) -> &'static str {
    match failure {
        Failure::Unavailable(_) => "the store cannot be reached",
        Failure::TimedOut(_) => "the store did not answer in time",
        Failure::Resting(_) => "the store failed before and is not asked for a moment",
        Failure::Refused(_) => "the store refuses the operation",
        Failure::Broken(_) => "the store answered with an error of its own",
        Failure::Full(_) => "the store is full",
    }
}

/// Whether a manifest could name it.
fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hostel_app::Grants;

    use super::*;
    use crate::capability::log::AppLog;
    use crate::capability::log::tests::tagged;

    fn template(log: AppLog, grants: Grants) -> Template {
        Template {
            component: "web".into(),
            grants: Arc::new(grants),
            stdio: Stdio::Log(log),
            ..crate::testing::template()
        }
    }

    #[test]
    fn each_missing_grant_is_told_once_up_to_a_point() {
        let (sink, _, err) = tagged();
        let template = template(sink.app(&"shop".into()), Grants::default());
        for _ in 0..3 {
            let absent = template.no_store(Wanted::KeyValue, "sessions");
            assert_eq!(absent, Absent::Denied);
        }
        sink.flush();
        assert_eq!(
            err.text(),
            "hostel: component \"web\": key-value store \"sessions\" is not granted; add keyvalue = [\"sessions\"] to \
             [component.web.grants], or start with --grant keyvalue=sessions\n"
        );
        for number in 0..1000 {
            template.no_store(Wanted::Sql, &format!("db-{number}"));
        }
        assert_eq!(
            lock(&template.granted.told.0).len(),
            limits::DENIED_LINES.size()
        );
        assert_eq!(template.metrics.store_denied.get(), 1003);
    }

    #[test]
    fn what_is_no_label_is_unknown_and_so_is_what_the_process_does_not_keep() {
        let (sink, _, err) = tagged();
        let mut grants = Grants::default();
        grants.keyvalue.insert("default".to_owned());
        let template = template(sink.app(&"shop".into()), grants);
        let long = "a".repeat(65);
        for label in ["", "a.b", "a/b", "caf\u{e9}", "x\ny", &long, "default"] {
            let absent = template.no_store(Wanted::KeyValue, label);
            assert_eq!(absent, Absent::Unknown, "{label:?}");
        }
        assert_eq!(template.no_store(Wanted::Blob, "default"), Absent::Denied);
        sink.flush();
        assert!(
            err.text().contains("blobstore = [\"default\"]"),
            "{}",
            err.text()
        );
        assert_eq!(err.text().lines().count(), 1);
    }

    #[test]
    fn every_kind_names_its_line() {
        for (wanted, line) in [
            (Wanted::KeyValue, "keyvalue = [\"x\"]"),
            (Wanted::Blob, "blobstore = [\"x\"]"),
            (Wanted::Sql, "sql = [\"x\"]"),
            (Wanted::Messaging, "messaging = { clients = [\"x\"] }"),
            (Wanted::Publish, "messaging = { publish = [\"x\"] }"),
            (Wanted::Request, "messaging = { request = [\"x\"] }"),
            (Wanted::Subscribe, "messaging = { subscribe = [\"x\"] }"),
            (Wanted::Secret, "secrets = [\"x\"]"),
            (Wanted::Tcp, "tcp = [\"x\"]"),
            (Wanted::Files, "files = { \"x\" = { host = \"DIR\" } }"),
        ] {
            assert_eq!(wanted.mend("x").0, line, "{}", wanted.noun());
        }
    }
}
