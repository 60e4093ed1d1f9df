//! Blobs as files in the data directory: the embedded driver.
//!
//! An object is one file; its size and time are the file's own. It is written into a temporary file, synced, renamed and its
//! folder synced: readers see the old object or the new one, also after a crash, and one that has begun goes on with the
//! file that it opened. All disk work is done on the blocking threads of the stores' event loop, in pieces, so that nothing
//! but one piece is ever in memory. A page of a listing costs a look at all names and memory for those of the page.

mod disk;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;

use self::disk::{Disk, Temporary, failed};
use super::names::check_length;
use super::{Blob, Cursor, Error, Incoming, Object, ObjectInfo, Outgoing, Page, Result, Span};
use crate::Failure;

/// Bytes that are read or written by one job.
const PIECE: usize = 256 << 10;
/// Pieces of a body that wait for one job, however small they are.
const PIECES: usize = 64;
/// Bytes that are copied by one job.
const COPIED: u64 = 16 << 20;
/// Names on one page of a listing, whatever was asked for.
const NAMES: usize = 1000;

/// One container in a folder.
#[derive(Debug)]
pub struct Directory {
    disk: Arc<Disk>,
    handle: Handle,
}

impl Directory {
    /// The container of a label in the app's folder. Nothing is opened before it is used. `durable` says whether what is
    /// acknowledged survives a power failure, not only a crash.
    pub fn new(app: &Path, label: &str, durable: bool, handle: Handle) -> Self {
        Self {
            disk: Arc::new(Disk::new(app, label, durable)),
            handle,
        }
    }

    /// Runs a job on a thread that may block.
    async fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = self.disk.clone();
        blocking(&self.handle, move || work(&disk)).await
    }

    async fn write(&self, mut temporary: Temporary, pieces: Vec<Bytes>) -> Result<Temporary> {
        let write = move || temporary.write(&pieces).map(|()| temporary);
        blocking(&self.handle, write).await
    }
}

async fn blocking<T: Send + 'static>(
    handle: &Handle,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = handle.spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Failure::Broken("a job on the disk ended early".to_owned()).into()))
}

#[async_trait]
impl Blob for Directory {
    async fn check(&self) -> Result<()> {
        self.job(Disk::check).await
    }

    async fn create(&self) -> Result<bool> {
        self.job(Disk::create).await
    }

    async fn remove(&self) -> Result<bool> {
        self.job(Disk::remove).await
    }

    async fn created_ms(&self) -> Result<Option<u64>> {
        self.job(Disk::created).await
    }

    async fn put(&self, name: &str, mut body: Incoming) -> Result<ObjectInfo> {
        check_length(name)?;
        let handle = self.handle.clone();
        let mut temporary = self.job(move |disk| disk.begin(&handle)).await?;
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while let Some(piece) = body.next().await {
            let piece = piece?;
            bytes += piece.len();
            pieces.push(piece);
            if bytes >= PIECE || pieces.len() >= PIECES {
                temporary = self.write(temporary, std::mem::take(&mut pieces)).await?;
                bytes = 0;
            }
        }
        let name = name.to_owned();
        let end = move |disk: &Disk| {
            temporary.write(&pieces)?;
            disk.commit(temporary, &name)
        };
        self.job(end).await
    }

    async fn get(&self, name: &str, span: Span) -> Result<Object> {
        check_length(name)?;
        let name = name.to_owned();
        let (file, info) = self.job(move |disk| disk.open(&name)).await?;
        let end = span.start.saturating_add(span.length_in(info.size));
        let body = read(self.handle.clone(), file, span.start, end);
        Ok(Object { info, body })
    }

    async fn info(&self, name: &str) -> Result<Option<ObjectInfo>> {
        check_length(name)?;
        let name = name.to_owned();
        self.job(move |disk| disk.info(&name)).await
    }

    async fn list(&self, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        let (from, limit) = (from.cloned(), limit.clamp(1, NAMES));
        self.job(move |disk| disk.list(from.as_ref(), limit)).await
    }

    async fn delete(&self, names: &[String]) -> Result<()> {
        let fits = |name: &&String| check_length(name).is_ok();
        let names: Vec<_> = names.iter().filter(fits).cloned().collect();
        self.job(move |disk| disk.delete(&names)).await
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        check_length(from)?;
        check_length(to)?;
        let (from, handle) = (from.to_owned(), self.handle.clone());
        let opened = move |disk: &Disk| Ok((disk.open(&from)?.0, disk.begin(&handle)?));
        let (mut source, mut temporary) = self.job(opened).await?;
        loop {
            let some = move || {
                // The kernel copies, where the file system can.
                let mut part = (&source).take(COPIED);
                let copied = io::copy(&mut part, &mut temporary.file()).map_err(failed)?;
                Ok((source, temporary, copied))
            };
            let copied;
            (source, temporary, copied) = blocking(&self.handle, some).await?;
            if copied == 0 {
                break;
            }
        }
        let to = to.to_owned();
        self.job(move |disk| disk.commit(temporary, &to)).await?;
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.job(Disk::clear).await
    }
}

/// The bytes of a file from `at` up to `end`. A file never changes once it is an object; one that is shorter all the same
/// was damaged.
fn read(handle: Handle, file: File, at: u64, end: u64) -> Outgoing {
    let pieces = stream::try_unfold((handle, file, at), move |(handle, file, at)| async move {
        let want = usize::try_from(end.saturating_sub(at)).map_or(PIECE, |left| left.min(PIECE));
        if want == 0 {
            return Ok::<_, Error>(None);
        }
        let piece = move || {
            let mut piece = vec![0; want];
            let read = file.read_exact_at(&mut piece, at);
            read.map_err(failed)?;
            Ok((Bytes::from(piece), file))
        };
        let (piece, file) = blocking(&handle, piece).await?;
        Ok(Some((piece, (handle, file, at + want as u64))))
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Directory {
        Directory::new(folder, "uploads", true, Handle::current())
    }

    fn body(text: &'static str) -> Incoming {
        stream::iter([Ok(Bytes::from(text))]).boxed()
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_swept_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path());
        first.create().await.unwrap();
        first.put("kept", body("kept")).await.unwrap();
        let root = folder.path().join("blobs/uploads");
        for left in ["cleared-1", "../uploads+1"] {
            std::fs::create_dir_all(root.join(left).join("deep")).unwrap();
        }
        std::fs::create_dir(root.join("../uploads-2")).unwrap();
        std::fs::write(root.join("temporary/dead"), "half").unwrap();
        let disk = first.disk.clone();
        let live = disk.begin(&Handle::current()).unwrap();

        let second = open(folder.path());
        assert_eq!(second.info("kept").await.unwrap().unwrap().size, 4);
        second.clear().await.unwrap();
        assert!(!root.join("temporary/dead").exists());
        assert!(!root.join("cleared-1").exists() && !root.join("../uploads+1").exists());
        assert!(root.join("../uploads-2").exists());
        disk.commit(live, "written").unwrap();
        assert_eq!(second.info("written").await.unwrap().unwrap().size, 0);
    }

    #[tokio::test]
    async fn a_hundred_thousand_objects_are_listed_in_order_page_by_page() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        blobs.create().await.unwrap();
        for n in 0..100_000 {
            let path = format!("blobs/uploads/objects/{n:06}");
            File::create(folder.path().join(path)).unwrap();
        }
        std::fs::write(folder.path().join("blobs/uploads/objects/NOT OURS"), "").unwrap();
        // The first pages and the last: each looks at every name.
        for (from, first, last) in [(None, 0, 1_999), (Some("098999"), 99_000, 99_999)] {
            let mut from = from.map(|name| Cursor(name.to_owned()));
            let mut seen = first;
            while seen <= last {
                let page = blobs.list(from.as_ref(), 1_000_000).await.unwrap();
                assert_eq!(page.names.len(), NAMES);
                for name in page.names {
                    assert_eq!(name, format!("{seen:06}"));
                    seen += 1;
                }
                from = page.next;
                assert_eq!(from.is_none(), seen == 100_000);
            }
        }
    }

    #[tokio::test]
    async fn a_full_or_read_only_disk_is_said_and_leaves_the_old_object() {
        for (kind, full) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::QuotaExceeded, true),
            (io::ErrorKind::ReadOnlyFilesystem, false),
        ] {
            let Error::Failed(failure) = failed(kind.into()) else {
                panic!("a failure")
            };
            assert_eq!(matches!(failure, Failure::Full(_)), full);
            assert_eq!(matches!(failure, Failure::Refused(_)), !full);
        }
    }

    #[tokio::test]
    async fn objects_that_are_gone_leave_no_folders() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path());
        blobs.create().await.unwrap();
        let name = "x".repeat(1000);
        blobs.put(&name, body("long")).await.unwrap();
        assert_eq!(
            blobs.list(None, 10).await.unwrap().names,
            std::slice::from_ref(&name)
        );
        blobs.delete(&[name]).await.unwrap();
        let objects = folder.path().join("blobs/uploads/objects");
        assert_eq!(std::fs::read_dir(objects).unwrap().count(), 0);
    }
}
