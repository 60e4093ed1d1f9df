//! [`Engine`]: one app's durable file. SQLite with a writer of its own thread.
//!
//! Writes that arrive while the disk is busy share the next transaction and its one fsync (group commit); each is
//! acknowledged when that is over. Reads go to threads of their own and see what was acknowledged.

use std::path::Path;

use rusqlite::Connection;

use crate::Failure;

/// One app's durable file.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Opens or makes the file in this folder and takes its lock.
    ///
    /// # Errors
    /// The folder cannot be used, another process has it, or the file is damaged.
    pub fn open(_folder: &Path) -> Result<Self, Failure> {
        Err(Failure::Unavailable("not yet".to_owned()))
    }

    /// Runs `work` inside the next group's transaction; ready when the group is on disk. Work that fails is undone alone.
    ///
    /// # Errors
    /// What the work returned, or the disk's.
    pub async fn write<T, W>(&self, _work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        Err(Failure::Unavailable("not yet".to_owned()))
    }

    /// Runs `work` on a connection that only reads, off the calling thread.
    ///
    /// # Errors
    /// What the work returned, or the disk's.
    pub async fn read<T, W>(&self, _work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        Err(Failure::Unavailable("not yet".to_owned()))
    }
}
