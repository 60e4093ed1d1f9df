//! The folder of one container, as blocking calls: what is where, and in which order it gets there.
//!
//! ```text
//! blobs/LABEL/container         its time is the container's; while it exists, the container does
//! blobs/LABEL/objects/...       the objects, by their names
//! blobs/LABEL/temporary/N       what is being written, locked by its writer
//! blobs/LABEL/cleared-N         objects on their way out
//! blobs/LABEL+N                 a container on its way out
//! ```
//!
//! Everything becomes visible, or vanishes, by one rename or unlink; what a crash leaves half done is swept away when the
//! container is next used.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Handle;

use super::super::names::{from_path, to_path};
use super::super::{Cursor, Error, ObjectInfo, Page, Result};
use crate::Failure;

/// Attempts at what another call may undo in between.
const ATTEMPTS: usize = 8;

/// One container's folder.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Whether what is acknowledged survives a power failure.
    durable: bool,
    swept: Once,
}

/// A file that is being written. It vanishes unless it is committed.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    /// `None` once it is an object.
    path: Option<PathBuf>,
    handle: Handle,
}

impl Temporary {
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        let written = pieces
            .iter()
            .try_for_each(|piece| self.file.write_all(piece));
        written.map_err(failed)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // May be on a thread that serves. If it fails, the next sweep finds the file.
            self.handle.spawn_blocking(move || fs::remove_file(path));
        }
    }
}

impl Disk {
    /// The folder of a label's container, below the app's.
    pub(super) fn new(app: &Path, label: &str, durable: bool) -> Self {
        Self {
            root: app.join("blobs").join(to_path(label)),
            durable,
            swept: Once::new(),
        }
    }

    /// Whether something could be written here. Writes nothing.
    pub(super) fn check(&self) -> Result<()> {
        let mut folder = self.root.as_path();
        while !folder.exists() {
            folder = folder.parent().unwrap_or(Path::new("/"));
        }
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(folder, access).map_err(|error| failed(error.into()))
    }

    pub(super) fn create(&self) -> Result<bool> {
        if self.created()?.is_some() {
            return Ok(false);
        }
        fs::create_dir_all(self.temporary()).map_err(failed)?;
        make(&self.objects()).map_err(failed)?;
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.marker());
        match made {
            Ok(marker) => self.sync(&marker)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        // The folder, what it is in, and what that is in may all be new.
        let above = self.root.ancestors().take(4);
        above
            .map(Path::to_owned)
            .try_for_each(|folder| self.sync_folder(&folder))?;
        Ok(true)
    }

    pub(super) fn remove(&self) -> Result<bool> {
        if self.created()?.is_none() {
            return Ok(false);
        }
        let gone = self.beside(&format!("+{}", unique()?));
        match fs::rename(&self.root, &gone) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.map_err(failed)?,
        }
        self.sync_folder_of(&self.root)?;
        remove_all(&gone)?;
        Ok(true)
    }

    /// When the container was made.
    pub(super) fn created(&self) -> Result<Option<u64>> {
        self.swept.call_once(|| self.sweep());
        match fs::metadata(self.marker()) {
            Ok(marker) => Ok(Some(modified_ms(&marker))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// A new file, locked so that a sweep leaves it alone.
    pub(super) fn begin(&self, handle: &Handle) -> Result<Temporary> {
        self.require()?;
        for _ in 0..ATTEMPTS {
            let path = self.temporary().join(unique()?);
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            let file = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::NoContainer);
                }
                other => other.map_err(failed)?,
            };
            let temporary = Temporary {
                file,
                path: Some(path),
                handle: handle.clone(),
            };
            flock(&temporary.file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|error| failed(error.into()))?;
            // A sweep may have come first.
            let links = rustix::fs::fstat(&temporary.file).map_err(|error| failed(error.into()))?;
            if links.st_nlink > 0 {
                return Ok(temporary);
            }
        }
        Err(Failure::Broken("temporary files vanish".to_owned()).into())
    }

    /// Makes a written file the object of this name, in one step.
    pub(super) fn commit(&self, mut temporary: Temporary, name: &str) -> Result<ObjectInfo> {
        self.sync(&temporary.file)?;
        let info = object_info(&temporary.file)?;
        let Some(path) = temporary.path.clone() else {
            return Ok(info);
        };
        let target = self.objects().join(to_path(name));
        for _ in 0..ATTEMPTS {
            match fs::rename(&path, &target) {
                Ok(()) => {
                    temporary.path = None;
                    self.sync_folder_of(&target)?;
                    return Ok(info);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => self.make_folders(&target)?,
                Err(error) => return Err(failed(error)),
            }
        }
        // The container was removed, and what was written with it.
        Err(Error::NoContainer)
    }

    /// The folders on the way to an object; those of long names, and the outermost after a clear.
    fn make_folders(&self, target: &Path) -> Result<()> {
        let folders: Vec<_> = target.ancestors().skip(1).collect();
        let below = folders
            .iter()
            .rev()
            .filter(|folder| folder.starts_with(self.objects()));
        for folder in below {
            match make(folder) {
                Ok(()) => self.sync_folder_of(folder)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::NoContainer);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    pub(super) fn open(&self, name: &str) -> Result<(File, ObjectInfo)> {
        match File::open(self.objects().join(to_path(name))) {
            Ok(file) => {
                let info = object_info(&file)?;
                Ok((file, info))
            }
            Err(error) if is_absent(&error) => {
                self.require()?;
                Err(Error::NoObject)
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn info(&self, name: &str) -> Result<Option<ObjectInfo>> {
        match self.open(name) {
            Ok((_, info)) => Ok(Some(info)),
            Err(Error::NoObject) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next names. Looks at all of them, and keeps no more than it returns.
    pub(super) fn list(&self, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        self.require()?;
        let after = from.map(|Cursor(name)| name.as_str());
        let mut first = BTreeSet::new();
        let mut more = false;
        each_file(&self.objects(), Path::new(""), &mut |path| {
            let Some(name) = from_path(path) else { return };
            let last = first.last().filter(|_| first.len() == limit);
            if after.is_some_and(|after| name.as_str() <= after) {
                return;
            }
            if last.is_some_and(|last| &name > last) {
                more = true;
                return;
            }
            first.insert(name);
            if first.len() > limit {
                first.pop_last();
                more = true;
            }
        })?;
        let next = first.last().filter(|_| more).cloned().map(Cursor);
        let names = first.into_iter().collect();
        Ok(Page { names, next })
    }

    pub(super) fn delete(&self, names: &[String]) -> Result<()> {
        self.require()?;
        let objects = self.objects();
        let mut changed = BTreeSet::new();
        for name in names {
            let path = objects.join(to_path(name));
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(failed(error)),
            }
            let folders = path
                .ancestors()
                .skip(1)
                .take_while(|folder| *folder != objects);
            // A folder that still holds something, or that a writer has just filled, stays.
            let left = folders
                .take_while(|folder| fs::remove_dir(folder).is_ok())
                .count();
            changed.extend(path.ancestors().nth(1 + left).map(Path::to_owned));
        }
        changed
            .iter()
            .try_for_each(|folder| self.sync_folder(folder))
    }

    pub(super) fn clear(&self) -> Result<()> {
        self.require()?;
        let gone = self.root.join(format!("cleared-{}", unique()?));
        match fs::rename(self.objects(), &gone) {
            // Another clear was first.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        }
        self.sync_folder(&self.root)?;
        remove_all(&gone)
    }

    fn require(&self) -> Result<()> {
        self.created()?.map(|_| ()).ok_or(Error::NoContainer)
    }

    /// Removes what a process that died has left. What cannot be removed is not in anybody's way.
    fn sweep(&self) {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries(&self.temporary()) {
            let free = File::open(entry.path())
                .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
            if free {
                fs::remove_file(entry.path()).unwrap_or_default();
            }
        }
        let named = |entry: &fs::DirEntry, start: &str| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(start))
        };
        let cleared = entries(&self.root).filter(|entry| named(entry, "cleared-"));
        let own = self.beside("+");
        let start = own
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("+");
        let above = self.root.parent().unwrap_or(&self.root);
        let removed = entries(above).filter(|entry| named(entry, start));
        for entry in cleared.chain(removed) {
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }

    fn sync(&self, file: &File) -> Result<()> {
        if self.durable {
            file.sync_all().map_err(failed)?;
        }
        Ok(())
    }

    /// A folder that is gone has nothing left to keep.
    fn sync_folder(&self, folder: &Path) -> Result<()> {
        match File::open(folder) {
            Ok(folder) => self.sync(&folder),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn sync_folder_of(&self, path: &Path) -> Result<()> {
        path.parent()
            .map_or(Ok(()), |folder| self.sync_folder(folder))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.root.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    fn marker(&self) -> PathBuf {
        self.root.join("container")
    }

    fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("temporary")
    }
}

/// Calls `found` with the path of every file below, relative to `folder`.
fn each_file(folder: &Path, below: &Path, found: &mut impl FnMut(&Path)) -> Result<()> {
    let entries = match fs::read_dir(folder.join(below)) {
        Err(error) if is_absent(&error) => return Ok(()),
        other => other.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = below.join(entry.file_name());
        match entry.file_type() {
            // As deep as names are long: names bound it.
            Ok(kind) if kind.is_dir() => each_file(folder, &path, found)?,
            Ok(_) => found(&path),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Makes one folder, if it is missing.
fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Removes a folder; another call may be doing the same.
fn remove_all(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if is_absent(&error) => Ok(()),
        other => other.map_err(failed),
    }
}

fn object_info(file: &File) -> Result<ObjectInfo> {
    let metadata = file.metadata().map_err(failed)?;
    Ok(ObjectInfo {
        size: metadata.len(),
        written_ms: modified_ms(&metadata),
    })
}

fn modified_ms(metadata: &fs::Metadata) -> u64 {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A name that nobody else makes up.
fn unique() -> Result<String> {
    let random = getrandom::u64();
    let random = random.map_err(|error| Failure::Broken(format!("no random number: {error}")))?;
    Ok(format!("{random:016x}"))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What the file system says, in the words of stores.
pub(super) fn failed(error: io::Error) -> Error {
    let text = error.to_string();
    let failure = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Failure::Full(text)
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Failure::Refused(text),
        _ => Failure::Broken(text),
    };
    failure.into()
}
