//! The contract of blob stores: every driver passes the same suite, S3 with a real server and with its faults.

mod contract;
mod crash;
mod faults;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hostel_backends::S3;
use hostel_stores::blob::{Blob, GaveUp, Incoming, Object, Result, Span};
use hostel_stores::place::Kind;
use hostel_stores::{Place, Scope, Stores, StoresOptions};

/// A driver with a place of its own, and what has to live as long as it.
struct Driver {
    stores: Stores,
    place: Place,
    /// Whether names are listed in the order of their bytes.
    ordered: bool,
    folder: tempfile::TempDir,
    _server: Option<S3>,
}

impl Driver {
    fn at(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            stores: stores(folder.path()),
            place: Place::parse(Kind::Blob, url).unwrap(),
            ordered: true,
            folder,
            _server: None,
        }
    }

    fn memory() -> Self {
        Self::at("memory:")
    }

    fn directory() -> Self {
        Self::at("embedded:")
    }

    /// With all the time that a busy machine needs for megabytes.
    fn s3() -> Self {
        let server = S3::start();
        let mut driver = Self::at(&server.url());
        driver.place.timeout = Duration::from_secs(60);
        driver.ordered = false;
        driver._server = Some(server);
        driver
    }

    fn open(&self, app: &str, label: &str) -> Arc<dyn Blob> {
        let scope = Scope::new(app, label).unwrap();
        self.stores.blob(&self.place, &scope).unwrap()
    }

    /// A container that is there.
    async fn made(&self) -> Arc<dyn Blob> {
        let blobs = self.open("shop", "uploads");
        assert!(blobs.create().await.unwrap());
        blobs
    }
}

fn stores(data: &Path) -> Stores {
    let options = StoresOptions {
        data: Some(data.to_owned()),
        ..StoresOptions::default()
    };
    Stores::new(options).unwrap()
}

/// A body in pieces.
fn pieces(pieces: Vec<Bytes>) -> Incoming {
    stream::iter(pieces.into_iter().map(Ok)).boxed()
}

fn body(text: impl AsRef<[u8]>) -> Incoming {
    pieces(vec![Bytes::copy_from_slice(text.as_ref())])
}

/// So many bytes, the same everywhere.
fn filled(with: u8, bytes: usize) -> Incoming {
    const PIECE: usize = 64 << 10;
    let sizes = (0..bytes)
        .step_by(PIECE)
        .map(move |at| PIECE.min(bytes - at));
    stream::iter(sizes.map(move |size| Ok(Bytes::from(vec![with; size])))).boxed()
}

/// A body that begins, and then the writer gives up.
fn given_up(bytes: usize) -> Incoming {
    let end = stream::iter([Err(GaveUp("enough".to_owned()))]);
    filled(b'x', bytes).chain(end).boxed()
}

/// A body that begins and never goes on.
fn stalled(bytes: usize) -> Incoming {
    filled(b'x', bytes).chain(stream::pending()).boxed()
}

/// All bytes of a body, whose pieces are never larger than they may be.
async fn all(object: Object) -> Result<Vec<u8>> {
    let bytes = object
        .body
        .try_fold(Vec::new(), |mut bytes, piece| async move {
            assert!(piece.len() <= 1 << 20, "a piece of {} bytes", piece.len());
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        });
    bytes.await
}

async fn text(blobs: &dyn Blob, name: &str) -> String {
    let object = blobs.get(name, Span::ALL).await.unwrap();
    let size = object.info.size;
    let bytes = all(object).await.unwrap();
    assert_eq!(bytes.len() as u64, size);
    String::from_utf8(bytes).unwrap()
}

/// Every name, page by page.
async fn names(blobs: &dyn Blob, limit: usize) -> Vec<String> {
    let (mut names, mut from) = (Vec::new(), None);
    loop {
        let page = blobs.list(from.as_ref(), limit).await.unwrap();
        assert!(page.names.len() <= limit);
        names.extend(page.names);
        match page.next {
            Some(next) => from = Some(next),
            None => return names,
        }
    }
}
