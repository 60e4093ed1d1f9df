//! One commit: a transaction with a savepoint for each write in it.
//!
//! A group that needs the disk takes every write that comes while it is being put together. A group that does not takes no
//! write that does, since SQLite wants to know before a transaction begins.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Result};

use super::files::is_broken;
use super::queue::Queue;
use super::{BUFFERED, Durability, Queued, Ran, Shared, Work, verdict};
use crate::Failure;

pub(super) struct Writer<'a> {
    shared: &'a Shared,
    connection: Option<Connection>,
    /// What the connection was last told.
    durability: Durability,
    /// Since when something is not on disk.
    buffered: Option<Instant>,
    /// A write found no room: from now on the log is cut off before each group, as soon as the disk has room for that, until it
    /// succeeds, so that what is deleted gives room to what comes.
    full: bool,
}

type Jobs = Vec<Queued>;

impl<'a> Writer<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            connection: None,
            durability: Durability::Synced,
            buffered: None,
            full: false,
        }
    }

    /// How long it may wait for the next write.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.buffered
            .map(|since| BUFFERED.saturating_sub(since.elapsed()))
    }

    /// Puts buffered writes onto the disk.
    pub(super) fn sync(&mut self) {
        // Nobody waits for it. A disk that cannot says so to the next write.
        if self.buffered.take().is_some() && self.shared.files.sync().is_err() {
            self.connection = None;
        }
    }

    /// Commits these, and what comes meanwhile, in as few transactions as their durabilities allow.
    pub(super) fn commit(&mut self, jobs: Jobs, more: &Queue<Queued>) {
        let needs_disk = |job: &dyn Work| job.durability() == Durability::Synced;
        let durability = if jobs.iter().any(|job| needs_disk(&**job)) {
            Durability::Synced
        } else {
            Durability::Buffered
        };
        let waiting = jobs.len();
        let mut joined = 0;
        let mut source = jobs.into_iter();
        let next = || {
            source.next().or_else(|| {
                joined += 1;
                let room = waiting + joined <= self.shared.options.group;
                let fits = |job: &Queued| durability == Durability::Synced || !needs_disk(&**job);
                if room { more.take_if(fits) } else { None }
            })
        };
        let mut connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                self.durability = Durability::Synced;
                self.shared.files.writer()
            }
        };
        if let Ok(opened) = &connection
            && let Err(error) = set_durability(opened, &mut self.durability, durability)
        {
            connection = Err(self.shared.files.failure(&error));
        }
        match connection {
            Ok(opened) => {
                if self.full && self.shared.files.has_room_for_its_log() {
                    self.full = !reclaim(&opened);
                }
                let group = run_group(&opened, self.shared, next);
                self.full |= group.full;
                if group.good {
                    self.connection = Some(opened);
                }
                self.note(durability);
            }
            Err(failure) => {
                let mut next = next;
                while let Some(job) = next() {
                    job.finish(&Err(failure.clone()));
                }
            }
        }
    }

    fn note(&mut self, durability: Durability) {
        match durability {
            Durability::Synced => self.buffered = None,
            Durability::Buffered => {
                let since = *self.buffered.get_or_insert_with(Instant::now);
                if since.elapsed() >= BUFFERED {
                    self.sync();
                }
            }
        }
    }
}

fn set_durability(
    connection: &Connection,
    was: &mut Durability,
    durability: Durability,
) -> Result<()> {
    if *was == durability {
        return Ok(());
    }
    let level = match durability {
        Durability::Synced => "full",
        // The log is then written in order and synced before it is taken over, so nothing is ever torn.
        Durability::Buffered => "normal",
    };
    connection.pragma_update(None, "synchronous", level)?;
    *was = durability;
    Ok(())
}

/// Takes the log over into the file and cuts it off; whether that went well. Readers may prevent it.
fn reclaim(connection: &Connection) -> bool {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, bool>(0)
    });
    busy.is_ok_and(|busy| !busy)
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// What a group leaves behind.
struct Group {
    /// The connection can be used again.
    good: bool,
    /// There was no room for a write.
    full: bool,
}

/// Runs all jobs in one transaction and tells their callers.
fn run_group(
    connection: &Connection,
    shared: &Shared,
    mut next: impl FnMut() -> Option<Queued>,
) -> Group {
    let mut done: Jobs = Vec::new();
    let (mut good, mut full) = (true, false);
    let mut begun = step(connection, "BEGIN IMMEDIATE");
    while let Some(job) = next() {
        if let Err(error) = &begun {
            good &= !is_broken(error);
            job.finish(&Err(shared.files.failure(error)));
            continue;
        }
        match run_one(connection, job) {
            One::Kept(job) => done.push(job),
            One::Undone(job, ran) => {
                full |= matches!(&ran, Ran::Failed(error) if is_full(error));
                job.finish(&verdict(ran, &shared.files));
            }
            One::Lost(job, error) => {
                // SQLite gave up the whole transaction: the others' writes are gone with it.
                let failure = shared.files.failure(&error);
                good &= !is_broken(&error);
                full |= is_full(&error);
                finish_all(done.drain(..).chain([job]), &Err(failure));
                undo(connection);
                begun = step(connection, "BEGIN IMMEDIATE");
            }
        }
    }
    if begun.is_ok() {
        let committed = step(connection, "COMMIT");
        if let Err(error) = &committed {
            good &= !is_broken(error);
            full |= is_full(error);
            undo(connection);
        }
        shared.commits.fetch_add(1, Ordering::Relaxed);
        finish_all(
            done,
            &committed.map_err(|error| shared.files.failure(&error)),
        );
    }
    Group {
        good: good && connection.is_autocommit(),
        full,
    }
}

fn finish_all(jobs: impl IntoIterator<Item = Queued>, outcome: &std::result::Result<(), Failure>) {
    for job in jobs {
        job.finish(outcome);
    }
}

/// How one job of a group ended.
enum One {
    Kept(Queued),
    Undone(Queued, Ran),
    Lost(Queued, rusqlite::Error),
}

fn run_one(connection: &Connection, mut job: Queued) -> One {
    if let Err(error) = step(connection, "SAVEPOINT one") {
        return One::Lost(job, error);
    }
    let ran = job.run(connection);
    let ended = match &ran {
        Ran::Done => step(connection, "RELEASE one"),
        Ran::Failed(_) | Ran::Panicked if connection.is_autocommit() => Err(lost()),
        Ran::Failed(_) | Ran::Panicked => {
            step(connection, "ROLLBACK TO one").and_then(|()| step(connection, "RELEASE one"))
        }
    };
    match (ended, ran) {
        (Ok(()), Ran::Done) => One::Kept(job),
        (Ok(()), ran) => One::Undone(job, ran),
        (Err(_), Ran::Failed(error)) | (Err(error), _) => One::Lost(job, error),
    }
}

fn lost() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
        Some("the transaction was given up".to_owned()),
    )
}

fn undo(connection: &Connection) {
    if !connection.is_autocommit() {
        // Where even this fails the connection is not used again.
        let _ = step(connection, "ROLLBACK");
    }
}

fn step(connection: &Connection, text: &str) -> Result<()> {
    connection.prepare_cached(text)?.execute([]).map(drop)
}
