//! Tells when the files of an app have changed, once whoever writes them has finished: builds write in several steps, editors
//! put another file in the place of the old one, and a file that is gone for a moment is not gone.
//!
//! What counts is what a look at the files finds. The system's events (inotify) only say when to look, and a look every two
//! seconds finds what they miss: network file systems, folders that were removed and made again. Where the system gives no
//! events at all, the looks are all there is. What to do about a change is the caller's business.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use hostel_app::limits;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// How long nothing may change until a change counts as complete.
const QUIET: Duration = Duration::from_millis(100);
/// How long a file may be gone until that counts as a change.
const GONE: Duration = Duration::from_secs(1);
/// How often files are looked at although the system tells of changes.
const LOOK: Duration = Duration::from_secs(2);
/// How often everything is looked at where it does not.
const POLL: Duration = Duration::from_millis(500);
/// The longer a look takes, the longer the pause until the next: looking is to cost a twentieth of a core at the most.
const REST: u32 = 20;
/// Folders that builds write to.
const BUILT: [&str; 2] = ["target", "node_modules"];

/// A folder with everything below it, apart from hidden files, what builds leave, and symbolic links to folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The folder.
    pub folder: PathBuf,
    /// Files and folders in it whose changes do not count.
    pub except: Vec<PathBuf>,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// One of the files.
    pub files: bool,
    /// Something among the sources.
    pub sources: bool,
}

/// Files, and what is known of them.
#[derive(Debug)]
pub struct Watch {
    sources: Option<Sources>,
    known: Seen,
    /// Where events come from.
    events: Option<Events>,
    /// Why there are none, until somebody has asked.
    trouble: Option<String>,
    /// How long the last look took.
    took: Duration,
}

/// What a look finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// One number for all sources.
    sources: u64,
}

/// What tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    inode: u64,
}

/// The system's events.
#[derive(Debug)]
struct Events {
    watcher: RecommendedWatcher,
    /// One token stands for any number of events.
    told: Receiver<()>,
}

impl Watch {
    /// What these files and sources are now is what a change is measured by.
    pub fn new(files: &[PathBuf], sources: Option<Sources>) -> Self {
        let events = Events::new();
        let mut watch = Self {
            sources: None,
            known: Seen::default(),
            trouble: events.as_ref().err().map(in_words),
            events: events.ok(),
            took: Duration::ZERO,
        };
        watch.look_at(files);
        watch.look_at_sources(sources);
        watch
    }

    /// From now on these files count. What is known of those that did before stays known.
    pub fn look_at(&mut self, files: &[PathBuf]) {
        let known = std::mem::take(&mut self.known.files);
        let stamp = |file: &PathBuf| match known.get(file) {
            Some(stamp) => *stamp,
            None => Stamp::of(file),
        };
        self.known.files = files
            .iter()
            .map(|file| (file.clone(), stamp(file)))
            .collect();
        self.look(false);
    }

    /// From now on these sources count, as they are now if they are others than before.
    pub fn look_at_sources(&mut self, sources: Option<Sources>) {
        let sources = sources.map(Sources::real);
        if sources != self.sources {
            self.sources = sources;
            self.known.sources = self.look(true).sources;
        }
    }

    /// Whether the sources are others than at the last change, however fresh that is; what they are now is what the next one is
    /// measured by.
    pub fn sources_changed(&mut self) -> bool {
        let now = self.look(true).sources;
        std::mem::replace(&mut self.known.sources, now) != now
    }

    /// Why changes are not seen at once; told once.
    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// Waits for the next change, until it is complete.
    pub fn next_change(&mut self) -> Change {
        loop {
            let all = self.wait();
            if self.look(all) == self.known {
                // Somebody writes beside what counts here.
                pause(QUIET);
                continue;
            }
            let seen = self.settled();
            let change = Change {
                files: seen.files != self.known.files,
                sources: seen.sources != self.known.sources,
            };
            self.known = seen;
            if change.files || change.sources {
                return change;
            }
        }
    }

    /// Waits for the time of the next look; whether it is to be at everything.
    fn wait(&self) -> bool {
        let Some(events) = &self.events else {
            pause(POLL.max(self.took * REST));
            return true;
        };
        match events.told.recv_timeout(LOOK) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                pause(LOOK);
                true
            }
        }
    }

    /// What there is once nobody changes it any more.
    fn settled(&mut self) -> Seen {
        let begin = Instant::now();
        let mut seen = self.look(true);
        loop {
            pause(QUIET);
            let again = self.look(true);
            let is_gone = |(file, stamp): (&PathBuf, &Option<Stamp>)| {
                stamp.is_none() && self.known.files.get(file).is_some_and(Option::is_some)
            };
            let may_come_back = begin.elapsed() < GONE && again.files.iter().any(is_gone);
            if again == seen && !may_come_back {
                return seen;
            }
            seen = again;
        }
    }

    /// Looks at the files, and at `all`: at the sources too. On the way the system is asked to tell of changes there: again
    /// and again, because it forgets folders that were removed.
    fn look(&mut self, all: bool) -> Seen {
        let begin = Instant::now();
        let mut folders = Vec::new();
        let stamp = |file: &PathBuf| (file.clone(), Stamp::of(file));
        let files: BTreeMap<_, _> = self.known.files.keys().map(stamp).collect();
        for folder in files.keys().filter_map(|file| file.parent()) {
            if folders.last().is_none_or(|last| last != folder) {
                folders.push(folder.to_owned());
            }
        }
        let sources = match &self.sources {
            Some(sources) if all => sources.sum(&mut folders),
            _ => self.known.sources,
        };
        self.ask_about(&folders);
        self.took = begin.elapsed();
        Seen { files, sources }
    }

    fn ask_about(&mut self, folders: &[PathBuf]) {
        let Some(events) = &mut self.events else {
            return;
        };
        let most = limits::WATCHED_FOLDERS.size();
        let outcome = if folders.len() > most {
            Err(format!("there are more than {most} folders of sources"))
        } else {
            events.ask_about(folders).map_err(|error| in_words(&error))
        };
        if let Err(why) = outcome {
            self.trouble = Some(why);
            self.events = None;
        }
    }
}

impl Events {
    fn new() -> notify::Result<Self> {
        let (tell, told) = sync_channel(1);
        let handler = move |event: notify::Result<notify::Event>| {
            // An error is a reason to look, too. Looking itself opens and reads folders.
            let is_change = event.is_err() || event.is_ok_and(|event| is_change(&event.kind));
            if is_change {
                // A token that is still there says the same.
                let _told = tell.try_send(());
            }
        };
        Ok(Self {
            watcher: notify::recommended_watcher(handler)?,
            told,
        })
    }

    /// An error means that the system tells of nothing more.
    fn ask_about(&mut self, folders: &[PathBuf]) -> notify::Result<()> {
        for folder in folders {
            let folder = match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            };
            match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Err(error) if is_over(&error.kind) => return Err(error),
                // What is not there, or not ours, is found by looking when it is.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// Whether further folders would fail as well.
fn is_over(kind: &notify::ErrorKind) -> bool {
    match kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(error) => rustix::io::Errno::from_io_error(error)
            .is_some_and(|errno| errno == rustix::io::Errno::NOSPC),
        _ => false,
    }
}

fn in_words(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "the system watches no more files for this user (fs.inotify.max_user_watches)"
                .to_owned()
        }
        kind => format!(
            "the system does not tell of changes ({kind:?}; see fs.inotify.max_user_instances)"
        ),
    }
}

impl Stamp {
    /// `None` if there is no such file.
    fn of(file: &Path) -> Option<Self> {
        fs::metadata(file).ok().as_ref().map(Self::from)
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        Self {
            bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            inode: found.ino(),
        }
    }
}

impl Sources {
    /// With paths that can be compared.
    fn real(self) -> Self {
        Self {
            folder: real(&self.folder),
            except: self.except.iter().map(|path| real(path)).collect(),
        }
    }

    /// One number for all files, in whatever order the system lists them. The folders are added to `folders`.
    fn sum(&self, folders: &mut Vec<PathBuf>) -> u64 {
        let mut sum: u64 = 0;
        let mut ahead = vec![self.folder.clone()];
        while let Some(folder) = ahead.pop() {
            // What cannot be read has nothing in it.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                let built = kind.is_dir() && BUILT.iter().any(|built| name == *built);
                let hidden = name.as_encoded_bytes().starts_with(b".");
                if built || hidden || self.except.contains(&path) {
                    continue;
                }
                if kind.is_dir() {
                    ahead.push(path);
                } else if let Some(stamp) = Stamp::of(&path).filter(|_| !path.is_dir()) {
                    let mut hasher = DefaultHasher::new();
                    (path, stamp).hash(&mut hasher);
                    sum = sum.wrapping_add(hasher.finish());
                }
            }
            folders.push(folder);
        }
        sum
    }
}

/// A path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match (fs::canonicalize(folder), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Sleeps; this room's other threads have no time for that.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tempfile::TempDir;

    const NOTHING: Change = Change {
        files: false,
        sources: false,
    };
    const FILES: Change = Change {
        files: true,
        ..NOTHING
    };
    const SOURCES: Change = Change {
        sources: true,
        ..NOTHING
    };

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("web.wasm"), "first").unwrap();
        folder
    }

    fn sources(folder: &TempDir, except: &[&str]) -> Option<Sources> {
        let except = except.iter().map(|name| folder.path().join(name));
        Some(Sources {
            folder: folder.path().to_owned(),
            except: except.collect(),
        })
    }

    /// The next change, which must come after this was done, and no other one before.
    fn after(watch: Watch, act: impl FnOnce()) -> (Change, Watch) {
        let mut watch = watch;
        let (tell, told) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let change = watch.next_change();
            tell.send(change).unwrap();
            watch
        });
        assert!(told.recv_timeout(QUIET / 4).is_err(), "nothing has changed");
        act();
        let change = told
            .recv_timeout(Duration::from_secs(20))
            .expect("a change");
        (change, thread.join().unwrap())
    }

    /// A watch of one file that the system tells nothing about.
    fn polling(file: &Path) -> Watch {
        let mut watch = Watch::new(&[file.to_owned()], None);
        watch.events = None;
        watch
    }

    #[test]
    fn a_file_that_is_written_or_replaced_or_removed_is_a_change() {
        let folder = folder();
        let file = folder.path().join("web.wasm");
        for watch in [
            Watch::new(std::slice::from_ref(&file), None),
            polling(&file),
        ] {
            let (change, watch) = after(watch, || fs::write(&file, "other").unwrap());
            assert_eq!(change, FILES);
            let new = folder.path().join("new");
            let (change, watch) = after(watch, || {
                fs::write(&new, "other").unwrap();
                fs::rename(&new, &file).unwrap();
            });
            assert_eq!(change, FILES);
            let (change, watch) = after(watch, || fs::remove_file(&file).unwrap());
            assert_eq!(change, FILES);
            let (change, _watch) = after(watch, || fs::write(&file, "back").unwrap());
            assert_eq!(change, FILES);
        }
    }

    #[test]
    fn a_change_is_told_once_it_is_complete() {
        let folder = folder();
        let file = folder.path().join("web.wasm");
        let (change, watch) = after(Watch::new(std::slice::from_ref(&file), None), || {
            fs::remove_file(&file).unwrap();
            pause(QUIET * 2);
            for part in ["a", "ab", "abc"] {
                fs::write(&file, part).unwrap();
                pause(QUIET / 4);
            }
        });
        assert_eq!(change, FILES);
        assert_eq!(watch.known.files[&file], Stamp::of(&file), "all of it");
    }

    #[test]
    fn what_is_beside_the_files_and_what_is_not_changed_is_nothing() {
        let folder = folder();
        let file = folder.path().join("web.wasm");
        let (change, _watch) = after(Watch::new(std::slice::from_ref(&file), None), || {
            fs::write(folder.path().join("beside"), "x").unwrap();
            fs::read(&file).unwrap();
            pause(QUIET * 3);
            fs::write(&file, "other").unwrap();
        });
        assert_eq!(change, FILES);
    }

    #[test]
    fn a_folder_that_is_made_again_is_looked_at_again() {
        let folder = folder();
        let out = folder.path().join("out");
        let file = out.join("web.wasm");
        let watch = Watch::new(std::slice::from_ref(&file), None);
        let (change, watch) = after(watch, || {
            fs::create_dir(&out).unwrap();
            fs::write(&file, "first").unwrap();
        });
        assert_eq!(change, FILES);
        let (change, _watch) = after(watch, || {
            fs::remove_dir_all(&out).unwrap();
            fs::create_dir(&out).unwrap();
            fs::write(&file, "another").unwrap();
        });
        assert_eq!(change, FILES);
    }

    #[test]
    fn files_that_are_named_later_are_known_as_they_were() {
        let folder = folder();
        let (first, second) = (folder.path().join("web.wasm"), folder.path().join("b.wasm"));
        fs::write(&second, "b").unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&first), None);
        fs::write(&first, "changed meanwhile").unwrap();
        watch.look_at(&[first, second.clone()]);
        assert_eq!(watch.next_change(), FILES);
        let (change, _watch) = after(watch, || fs::write(&second, "other").unwrap());
        assert_eq!(change, FILES);
    }

    #[test]
    fn sources_are_everything_but_what_builds_and_the_host_write() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        for made in ["src", "target", ".git", "data", "src/deep"] {
            fs::create_dir(at(made)).unwrap();
        }
        let mut watch = Watch::new(&[at("web.wasm")], sources(&folder, &["web.wasm", "data"]));
        for written in ["target/x", ".git/x", ".hidden", "data/x", "web.wasm"] {
            fs::write(at(written), "new").unwrap();
            assert!(!watch.sources_changed(), "{written}");
        }
        assert_eq!(watch.next_change(), FILES);
        for written in ["src/main.rs", "src/deep/mod.rs", "hostel.toml"] {
            let write = || fs::write(at(written), "new").unwrap();
            let change;
            (change, watch) = after(watch, write);
            assert_eq!(change, SOURCES, "{written}");
        }
        let make = || {
            fs::create_dir(at("fresh")).unwrap();
            fs::write(at("fresh/lib.rs"), "new").unwrap();
        };
        let (change, mut watch) = after(watch, make);
        assert_eq!(change, SOURCES);
        assert!(!watch.sources_changed(), "told already");
    }

    #[test]
    fn more_folders_than_the_system_is_asked_about_are_looked_at_now_and_then() {
        let folder = folder();
        for number in 0..=limits::WATCHED_FOLDERS.size() {
            fs::create_dir(folder.path().join(number.to_string())).unwrap();
        }
        let mut watch = Watch::new(&[], sources(&folder, &[]));
        let trouble = watch.trouble().expect("a reason");
        assert!(trouble.contains("more than 4096 folders"), "{trouble}");
        assert_eq!(watch.trouble(), None, "told once");
        let file = folder.path().join("7/main.rs");
        let (change, _watch) = after(watch, || fs::write(file, "new").unwrap());
        assert_eq!(change, SOURCES);
    }

    #[test]
    fn a_system_that_watches_no_more_says_which_setting_is_too_low() {
        let text = in_words(&notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        assert!(text.contains("max_user_watches"), "{text}");
        let many = std::io::Error::from_raw_os_error(24);
        let text = in_words(&notify::Error::io(many));
        assert!(text.contains("max_user_instances"), "{text}");
        let full = std::io::Error::from_raw_os_error(28);
        assert!(is_over(&notify::ErrorKind::Io(full)));
        assert!(!is_over(&notify::ErrorKind::PathNotFound));
    }
}
