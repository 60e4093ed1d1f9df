//! An engine's folder: the lock that keeps other processes out, the file, connections to it, and what SQLite's errors mean.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;

use super::EngineOptions;
use super::schema::{self, Age};
use crate::Failure;

/// How long a process that is about to end may keep the lock.
const LOCK_WAIT: Duration = Duration::from_millis(300);
/// For how long a folder that could not be opened is not tried again.
const REST: Duration = Duration::from_millis(200);
/// SQLite's page, its default.
const PAGE: u64 = 4096;

pub(super) struct Files {
    folder: PathBuf,
    options: EngineOptions,
    state: Mutex<State>,
}

enum State {
    Closed,
    Failed(Instant, Failure),
    /// The lock, and the connection that made the tables until the writer asks for one.
    Open(
        #[expect(dead_code, reason = "held, not read")] File,
        Option<Connection>,
    ),
}

impl Files {
    pub(super) fn new(folder: PathBuf, options: EngineOptions) -> Self {
        Self {
            folder,
            options,
            state: Mutex::new(State::Closed),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the lock and brings the file up to date, once.
    pub(super) fn ready(&self) -> Result<(), Failure> {
        self.with_open(|_| ())
    }

    /// A connection that writes.
    pub(super) fn writer(&self) -> Result<Connection, Failure> {
        match self.with_open(Option::take)? {
            Some(connection) => Ok(connection),
            None => self.connect().map_err(|error| self.failure(&error)),
        }
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> Result<Connection, Failure> {
        self.ready()?;
        let only_reads = || {
            let connection = self.connect()?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        };
        only_reads().map_err(|error| self.failure(&error))
    }

    /// Puts what was written without waiting onto the disk.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        // SQLite locks the file itself, never its log, so closing this handle gives nothing away.
        File::open(self.folder.join("store.db-wal"))?.sync_data()
    }

    fn with_open<T>(&self, run: impl FnOnce(&mut Option<Connection>) -> T) -> Result<T, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Failed(when, failure) = &*state
            && when.elapsed() < REST
        {
            return Err(failure.clone());
        }
        if !matches!(*state, State::Open(..)) {
            *state = match self.open() {
                Ok((lock, connection)) => State::Open(lock, Some(connection)),
                Err(failure) => State::Failed(Instant::now(), failure),
            };
        }
        match &mut *state {
            State::Open(_, connection) => Ok(run(connection)),
            State::Failed(_, failure) => Err(failure.clone()),
            State::Closed => Err(super::closed()),
        }
    }

    fn open(&self) -> Result<(File, Connection), Failure> {
        let lock = self.prepare().map_err(|error| self.unusable(&error))?;
        self.take_lock(&lock)?;
        let mut connection = self.connect().map_err(|error| self.failure(&error))?;
        match schema::migrate(&mut connection) {
            Ok(Age::Current) => {}
            Ok(Age::Newer(seen)) => {
                return Err(Failure::Broken(format!(
                    "{} was written by a later release (format {seen}, this one knows {}): use that release, or \
                     restore the folder from before",
                    self.folder.join("store.db").display(),
                    schema::STEPS.len()
                )));
            }
            Err(error) => return Err(self.failure(&error)),
        }
        // The names of new files are on disk only when their folder is.
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| self.unusable(&error))?;
        Ok((lock, connection))
    }

    /// Makes the folder and the lock's file.
    fn prepare(&self) -> std::io::Result<File> {
        if !self.folder.is_dir() {
            fs::create_dir_all(&self.folder)?;
            if let Some(parent) = self.folder.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.folder.join("store.lock"))
    }

    fn take_lock(&self, mut lock: &File) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            match flock(lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if began.elapsed() < LOCK_WAIT => {
                    // On the engine's own thread.
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                Err(Errno::WOULDBLOCK) => return Err(self.in_use(lock)),
                Err(error) => return Err(self.unusable(&error.into())),
            }
        }
        // Who has it, for the message of the next one; nothing depends on it.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| write!(lock, "{}", std::process::id()));
        Ok(())
    }

    fn in_use(&self, lock: &File) -> Failure {
        let mut holder = String::new();
        let read = lock.take(20).read_to_string(&mut holder);
        let holder = match read {
            Ok(1..) => format!(" (process {})", holder.trim()),
            _ => String::new(),
        };
        Failure::Unavailable(format!(
            "{} is in use by another process{holder}: end that one, or start this one with another data directory",
            self.folder.display()
        ))
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.folder.join("store.db"), flags)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        connection.set_prepared_statement_cache_capacity(128);
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        let pages = (self.options.file_bytes / PAGE)
            .clamp(16, 0xffff_fffe)
            .cast_signed();
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        Ok(connection)
    }

    /// What an error of SQLite means to the caller.
    pub(super) fn failure(&self, error: &rusqlite::Error) -> Failure {
        let code = error.sqlite_error_code();
        match code {
            Some(ErrorCode::DiskFull) => self.full(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if self.has_no_room() => {
                self.full()
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Broken(format!(
                "{} is damaged ({error}): restore it, or move it away to start with an empty one",
                self.folder.join("store.db").display()
            )),
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::FileLockingProtocolFailed,
            ) => Failure::Unavailable(format!(
                "{} cannot be used ({error}): its owner, its permissions and its disk must let this process write there",
                self.folder.display()
            )),
            _ => Failure::Broken(error.to_string()),
        }
    }

    fn unusable(&self, error: &std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return self.full();
        }
        Failure::Unavailable(format!(
            "{} cannot be used ({error}): give this process a folder that it may write, or another data directory",
            self.folder.display()
        ))
    }

    fn full(&self) -> Failure {
        Failure::Full(format!(
            "no room for more in {}: free some on its disk, or allow the file more",
            self.folder.display()
        ))
    }

    /// Whether the disk has as much room as the log may need in the file. With less, taking it over would fail half-way and leave
    /// no room for a deletion.
    pub(super) fn has_room_for_its_log(&self) -> bool {
        let log = fs::metadata(self.folder.join("store.db-wal")).map_or(0, |log| log.len());
        statvfs(&self.folder).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= log)
    }

    /// The log's index grows by a way that has no word for a full disk.
    fn has_no_room(&self) -> bool {
        statvfs(&self.folder).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < 65_536)
    }
}

/// Whether the connection had better be made anew.
pub(super) fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ReadOnly
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}
