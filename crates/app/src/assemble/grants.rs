//! The grants of a component: the manifest's, and the operator's from the command line.

use std::path::{Component as Step, Path};

use super::Assembly;
use crate::app::{Grants, MessagingGrants, OperatorGrants};
use crate::error::Kind;
use crate::grant::{FileGrant, GrantArg};
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
        } = &mut grants.messaging;
        if clients.is_empty() && !(publish.is_empty() && request.is_empty()) {
            clients.insert(DEFAULT_CLIENT.to_owned());
        }
        grants
    }

    /// A directory of the manifest. Its author may share what came with the app, not what else is on the machine.
    fn directory(&mut self, files: &FilesText) -> Option<FileGrant> {
        let FilesText { guest, host, write } = files;
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
            host.value, guest.value
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

fn add(grants: &mut Grants, grant: GrantArg) {
    match &grant {
        GrantArg::Http(grant) => grants.operator.http.push(grant.clone()),
        GrantArg::Tcp(grant) => grants.operator.tcp.push(grant.clone()),
        GrantArg::Udp(grant) => grants.operator.udp.push(grant.clone()),
        _ => {}
    }
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
        GrantArg::Secret(name) => drop(grants.secrets.insert(name)),
    }
}
