//! What is on disk under the names that a guest has for it.
//!
//! Every look-up begins in a granted directory and cannot leave it: the kernel resolves the whole path, its links included, beneath
//! that directory (`openat2`). A guest that makes links leads nobody out either.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;

use hostel_app::grant::FileGrant;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a look-up is begun anew that others renamed the folders of.
const TRIES: u32 = 8;

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// Nothing, or nothing that can be read.
    Other,
}

/// The granted directories, each opened when it is first needed.
pub(super) struct Disk<'g> {
    grants: &'g [FileGrant],
    opened: Vec<(&'g FileGrant, OwnedFd)>,
}

impl<'g> Disk<'g> {
    pub(super) fn new(grants: &'g [FileGrant]) -> Self {
        Self {
            grants,
            opened: Vec::new(),
        }
    }

    /// What the guest has under this name, which begins with a slash and has no dots for names.
    pub(super) fn kind(&mut self, path: &str) -> io::Result<Kind> {
        if self.grants.iter().any(|grant| leads_to(path, &grant.guest)) {
            return Ok(Kind::Folder);
        }
        let Some(found) = self.look_up(path, OFlags::PATH)? else {
            return Ok(Kind::Other);
        };
        let mode = rustix::fs::fstat(found)?.st_mode;
        Ok(match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            _ => Kind::Other,
        })
    }

    /// Opens a file for reading; `None` if there is none.
    pub(super) fn open(mut self, path: &str) -> io::Result<Option<(File, Metadata)>> {
        // A pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(found) = self.look_up(path, flags)? else {
            return Ok(None);
        };
        let file = File::from(found);
        let about = file.metadata()?;
        Ok(about.is_file().then_some((file, about)))
    }

    fn look_up(&mut self, path: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let Some((folder, below)) = self.folder_of(path)? else {
            return Ok(None);
        };
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            let flags = flags | OFlags::CLOEXEC;
            match rustix::fs::openat2(folder, below, flags, Mode::empty(), beneath) {
                Ok(found) => return Ok(Some(found)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) if is_absence(error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The directory that a path is in, of those granted, and the path within it. Of two the guest's library takes the longer name,
    /// and so do we.
    fn folder_of<'p>(&mut self, path: &'p str) -> io::Result<Option<(&OwnedFd, &'p str)>> {
        let inside = self.grants.iter().filter_map(|grant| {
            let below = path.strip_prefix(grant.guest.trim_end_matches('/'))?;
            Some((grant, below.strip_prefix('/')?))
        });
        let Some((grant, below)) = inside.min_by_key(|(_, below)| below.len()) else {
            return Ok(None);
        };
        let place = self.opened.iter().position(|(one, _)| *one == grant);
        if place.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = rustix::fs::open(&grant.host, flags, Mode::empty())?;
            self.opened.push((grant, folder));
        }
        let place = place.map_or_else(|| self.opened.last(), |place| self.opened.get(place));
        Ok(place.map(|(_, folder)| (folder, below)))
    }
}

/// Whether a directory is granted at this path, or below it.
fn leads_to(path: &str, granted: &str) -> bool {
    let below = granted.trim_end_matches('/').strip_prefix(path);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Whether the kernel says that there is no such file, or none for us.
fn is_absence(error: Errno) -> bool {
    let absent = [
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::LOOP,
        Errno::XDEV, // it leads outside
        Errno::ACCESS,
        Errno::PERM,
        Errno::NAMETOOLONG,
        Errno::INVAL,
        Errno::NXIO, // a socket, or a pipe without a writer
    ];
    absent.contains(&error)
}
