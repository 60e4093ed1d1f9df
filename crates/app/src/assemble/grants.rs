//! The grants of a component: the manifest's, and the operator's from the command line.

use std::collections::BTreeSet;
use std::path::{Component as Step, Path};

use super::Assembly;
use super::values::{Giver, Value};
use crate::app::{Grants, MessagingGrants, OperatorGrants};
use crate::error::{Kind, shown};
use crate::fields::At;
use crate::grant::{FileGrant, GrantArg, GrantError};
use crate::manifest::{FilesText, GrantsText};

/// The broker of a component that says what it publishes, but not where.
const DEFAULT_CLIENT: &str = "default";

impl Assembly<'_, '_> {
    pub(super) fn grants(&mut self, text: GrantsText) -> Grants {
        let GrantsText {
            http,
            tcp,
            udp,
            listen,
            files,
            keyvalue,
            blobstore,
            sql,
            messaging,
            secrets,
            of_variables,
        } = text;
        let files = files
            .iter()
            .filter_map(|files| self.directory(files))
            .collect();
        let mut grants = Grants {
            http,
            tcp,
            udp,
            listen,
            files,
            keyvalue,
            blobstore,
            sql,
            messaging,
            secrets: secrets.into_iter().map(|name| name.value).collect(),
            operator: OperatorGrants::default(),
        };
        for (kind, text) in of_variables {
            match self.of_variable(kind, &text) {
                Some((grant, Giver::CommandLine)) => add(&mut grants, grant),
                Some((grant, Giver::Elsewhere)) => grant_to(&mut grants, grant),
                None => {}
            }
        }
        for grant in self.operator.grants.iter().cloned() {
            add(&mut grants, grant);
        }
        for dir in &self.operator.dirs {
            grants.files.retain(|other| other.guest != dir.guest);
            grants.files.push(dir.clone());
        }
        let MessagingGrants {
            clients,
            publish,
            request,
            subscribe,
        } = &mut grants.messaging;
        let says_what = [publish, request, subscribe];
        if clients.is_empty() && says_what.iter().any(|topics| !topics.is_empty()) {
            clients.insert(DEFAULT_CLIENT.to_owned());
        }
        grants
    }

    /// A grant of the network whose address a variable says, and who says it. The operator does where the grant is nothing
    /// but a variable with a value from the command line: then the operator has named the address, for this app.
    fn of_variable(&mut self, kind: &str, written: &At<String>) -> Option<(GrantArg, Giver)> {
        let whole = whole_variable(&written.value).and_then(|name| self.values.get(name));
        let giver = match whole {
            Some(Value::Known(_, giver)) => Some(*giver),
            Some(Value::Missing { .. }) => return None, // which was reported
            Some(Value::Later(_)) | None => None,
        };
        // Whether it may see a secret is not the question: no grant may hold one.
        let any: BTreeSet<String> = self.values.keys().cloned().collect();
        let text = self.expanded(written, &any);
        let Some(value) = text.constant() else {
            let what = format!(
                "\"{}\" holds a variable whose value may change or is secret, and a grant is settled at the start",
                written.value
            );
            let help = "give the value itself: --var NAME=VALUE, or in server.toml";
            self.report
                .at(Kind::BadGrant, written.span.clone(), what, help);
            return None;
        };
        if value.is_empty() && giver.is_none() {
            return None; // a variable that has no value or that there is not, which was reported
        }
        let value = match kind {
            "http" => origin(value),
            _ => value,
        };
        match format!("{kind}={value}").parse() {
            Ok(grant) => Some((grant, giver.unwrap_or(Giver::Elsewhere))),
            Err(GrantError { what, help }) => {
                self.report
                    .at(Kind::BadGrant, written.span.clone(), what, help);
                None
            }
        }
    }

    /// A directory of the manifest. Its author may share what came with the app, not what else is on the machine.
    fn directory(&mut self, files: &FilesText) -> Option<FileGrant> {
        let FilesText { guest, host, write } = files;
        let bare = |name: &str| name.trim_end_matches('/').to_owned();
        let replaced = |dir: &FileGrant| bare(&dir.guest) == bare(&guest.value);
        if self.operator.dirs.iter().any(replaced) {
            return None;
        }
        let written = Path::new(&host.value);
        let inside = written
            .components()
            .all(|step| matches!(step, Step::Normal(_) | Step::CurDir));
        let full = self.folder.join(written);
        if inside {
            match FileGrant::new(&guest.value, &full, *write) {
                Ok(grant) if self.leads_inside(&full) => return Some(grant),
                Ok(_) => {}
                Err(error) => {
                    let span = if guest.value.is_empty() {
                        &guest.span
                    } else {
                        &host.span
                    };
                    self.report
                        .at(Kind::BadDirectory, span.clone(), error.what, error.help);
                    return None;
                }
            }
        }
        let what = format!(
            "the directory \"{}\" is outside the manifest's folder",
            host.value
        );
        let help = format!(
            "move it inside, or grant it on the command line: --dir {}::{}",
            shown(&full),
            guest.value
        );
        self.report
            .at(Kind::BadDirectory, host.span.clone(), what, help);
        None
    }

    /// Whether a directory is still inside the manifest's folder when every link is followed.
    fn leads_inside(&self, directory: &Path) -> bool {
        let folder = if self.folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            self.folder
        };
        match (directory.canonicalize(), folder.canonicalize()) {
            (Ok(directory), Ok(folder)) => directory.starts_with(folder),
            _ => false,
        }
    }
}

/// The name of the variable that a text is, if it is one and nothing else.
fn whole_variable(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    crate::manifest::is_name(name).then_some(name)
}

/// The part of a URL that a grant is about: a variable may hold the whole URL that the guest uses.
fn origin(url: &str) -> &str {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(begin..).and_then(|rest| rest.find(['/', '?', '#']));
    match end {
        Some(end) => url.get(..begin + end).unwrap_or(url),
        None => url,
    }
}

/// A grant by the operator.
fn add(grants: &mut Grants, grant: GrantArg) {
    match &grant {
        GrantArg::Http(grant) => grants.operator.http.push(grant.clone()),
        GrantArg::Tcp(grant) => grants.operator.tcp.push(grant.clone()),
        GrantArg::Udp(grant) => grants.operator.udp.push(grant.clone()),
        _ => {}
    }
    grant_to(grants, grant);
}

fn grant_to(grants: &mut Grants, grant: GrantArg) {
    match grant {
        GrantArg::Http(grant) => grants.http.push(grant),
        GrantArg::Tcp(grant) => grants.tcp.push(grant),
        GrantArg::Udp(grant) => grants.udp.push(grant),
        GrantArg::Listen(grant) => grants.listen.push(grant),
        GrantArg::KeyValue(label) => drop(grants.keyvalue.insert(label)),
        GrantArg::Blobstore(label) => drop(grants.blobstore.insert(label)),
        GrantArg::Sql(label) => drop(grants.sql.insert(label)),
        GrantArg::Messaging(label) => drop(grants.messaging.clients.insert(label)),
        GrantArg::Publish(topics) => grants.messaging.publish.push(topics),
        GrantArg::Request(topics) => grants.messaging.request.push(topics),
        GrantArg::Subscribe(topics) => grants.messaging.subscribe.push(topics),
        GrantArg::Secret(name) => drop(grants.secrets.insert(name)),
    }
}
