//! `hostel up --watch`: what happens when a file of the app changes while it is served. When it has changed is
//! `hostel_server::watch`'s to say, and how the new takes the place of the old is `hostel_server`'s, too.
//!
//! All of it happens on a thread of its own, one change after the other. Whatever is wrong with a change is said as at the
//! start, and the app goes on as it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hostel_app::{App, Operator, files, resolve};
use hostel_server::watch::{Sources, Watch};
use hostel_server::{Changes, Deployed, Replaced, Revision, Revisions};

use crate::args::Format;
use crate::build::{self, Streams};
use crate::failure::Failure;
use crate::output::{self, Meanwhile};

/// How often a build is begun again because the sources changed meanwhile: a build that writes among its own sources must
/// end some day.
const BUILDS: u32 = 3;

/// What is watched.
pub(crate) struct Watched<'a> {
    /// As on the command line.
    pub(crate) path: &'a Path,
    /// The data folder, if one was named.
    pub(crate) data: Option<&'a Path>,
    /// Whether the build commands run when a source changes, and where their output goes.
    pub(crate) build: Option<Streams>,
}

/// An app whose files are being watched.
pub(crate) struct Watching {
    path: PathBuf,
    data: Option<PathBuf>,
    build: Option<Streams>,
    operator: Operator,
    watch: Watch,
    /// Who else has to know of what is taken over.
    revisions: Option<Revisions>,
}

impl Watching {
    /// What the files are now is what a change is measured by.
    pub(crate) fn begin(watched: Watched<'_>, operator: Operator) -> Self {
        let Watched { path, data, build } = watched;
        let mut watching = Self {
            path: path.to_owned(),
            data: data.map(Path::to_owned),
            build,
            operator,
            watch: Watch::new(&files(path), None),
            revisions: None,
        };
        watching.watch.look_at_sources(watching.sources(None));
        watching
    }

    /// Takes over changes from now on, for as long as the process lives.
    pub(crate) fn start(mut self, mut deployed: Deployed, revisions: Option<Revisions>) {
        self.revisions = revisions;
        let thread = std::thread::Builder::new().name("watch".into());
        let started = thread.spawn(move || {
            self.watch
                .look_at_sources(self.sources(Some(deployed.app())));
            self.run(&mut deployed);
        });
        if let Err(error) = started {
            output::notice(&format!("changes are not watched: {error}"));
        }
    }

    fn run(&mut self, deployed: &mut Deployed) {
        // A change that could not be taken over because a build failed is taken over after the next.
        let mut waiting = false;
        loop {
            if let Some(why) = self.watch.trouble() {
                output::notice(&format!(
                    "changes are seen a moment later than usual: {why}"
                ));
            }
            let change = self.watch.next_change();
            waiting |= change.files;
            if let (true, Some(streams)) = (change.sources, self.build)
                && let Err(failure) = self.rebuild(streams)
            {
                refused(&failure);
                continue;
            }
            // A build that wrote other files is a change of its own.
            if !std::mem::take(&mut waiting) {
                continue;
            }
            match self.take_over(deployed) {
                Ok(changes) => tell(&changes),
                Err(failure) => refused(&failure),
            }
        }
    }

    /// Runs the build commands until the sources are what they were when the last one began.
    fn rebuild(&mut self, streams: Streams) -> Result<(), Failure> {
        let mut built = Ok(());
        for _ in 0..BUILDS {
            built = build::all(&self.path, streams);
            if !self.watch.sources_changed() {
                return built;
            }
        }
        output::notice(
            "the sources changed during each of several builds; the next build waits for the next change",
        );
        built
    }

    fn take_over(&mut self, deployed: &mut Deployed) -> Result<Changes, Failure> {
        // Before they are read: what changes from here on is another change.
        self.watch.look_at(&files(&self.path));
        let resolved = resolve(&self.path, &self.operator)?;
        let app = resolved.app.clone();
        let known = deployed.app().notes.clone();
        let meanwhile = Meanwhile::default();
        let revision = Revision::of(&resolved);
        let replace = || deployed.replace(resolved, &|event| meanwhile.show(event));
        let outcome = match &self.revisions {
            Some(revisions) => revisions.follow(revision, replace),
            None => replace(),
        };
        meanwhile.end();
        let changes = outcome.map_err(|error| Failure::from(error).in_app(&app))?;
        let new = app.notes.iter().filter(|note| !known.contains(note));
        new.chain(&changes.notes)
            .for_each(|note| output::notice(note));
        self.watch.look_at_sources(self.sources(Some(&app)));
        Ok(changes)
    }

    /// The manifest's folder, if its changes are built; without what the host and the guests write there.
    fn sources(&self, app: Option<&App>) -> Option<Sources> {
        self.build?;
        let all = files(&self.path);
        let folder = match all.first()?.parent()? {
            here if here.as_os_str().is_empty() => Path::new("."),
            folder => folder,
        };
        let components = app.map_or(&[][..], |app| &app.components);
        let granted = components.iter().flat_map(|one| &one.grants.files);
        let written = granted.filter(|grant| grant.write);
        let mut except: Vec<PathBuf> = written.map(|grant| grant.host.clone()).collect();
        except.extend(self.data.clone());
        except.extend(all.iter().skip(1).cloned());
        Some(Sources {
            folder: folder.to_owned(),
            except,
        })
    }
}

/// Says what is wrong as at the start, and what that means now.
fn refused(failure: &Failure) {
    output::failure(Format::Human, failure);
    output::notice("the change is not taken over; the app goes on as it was");
}

fn tell(changes: &Changes) {
    for replaced in &changes.replaced {
        output::notice(&in_words(replaced));
    }
    if changes.any && changes.replaced.is_empty() {
        output::notice("the manifest's changes are taken over");
    }
    if !changes.restart.is_empty() {
        let sections = changes.restart.join(", ");
        output::notice(&format!("restart to apply the changes of {sections}"));
    }
}

fn in_words(replaced: &Replaced) -> String {
    let Replaced {
        component, digest, ..
    } = replaced;
    let took = millis(replaced.took);
    let compiled = replaced.compiled.map(millis);
    let compiled = compiled.map_or_else(String::new, |time| format!(" (compiled in {time})"));
    let done = match (replaced.added, replaced.rebuilt) {
        (true, _) => "added",
        (false, true) => "replaced",
        (false, false) => "has new settings",
    };
    format!("component \"{component}\" {done} in {took}{compiled}: {digest}")
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostel_app::Digest;

    #[test]
    fn a_replacement_names_the_component_its_times_and_its_digest() {
        let mut replaced = Replaced {
            component: "web".into(),
            digest: Digest([0xab; 32]),
            rebuilt: true,
            added: false,
            took: Duration::from_micros(84_400),
            compiled: Some(Duration::from_millis(70)),
        };
        let digest = Digest([0xab; 32]);
        assert_eq!(
            in_words(&replaced),
            format!("component \"web\" replaced in 84 ms (compiled in 70 ms): {digest}")
        );
        replaced.compiled = None;
        replaced.rebuilt = false;
        assert_eq!(
            in_words(&replaced),
            format!("component \"web\" has new settings in 84 ms: {digest}")
        );
        replaced.added = true;
        assert_eq!(
            in_words(&replaced),
            format!("component \"web\" added in 84 ms: {digest}")
        );
    }
}
