//! Compiled code on disk, so that a restart does not compile again.
//!
//! Compiled code is native code: whoever can put a file here runs in this process. So every entry carries a keyed
//! BLAKE3 tag over its key and its code, made with a secret that only this host has, and is checked **before** the
//! engine looks at it. Whatever fails (a flipped bit, a truncated file, a swapped entry, another host's secret) is
//! counted, removed and compiled again. The folder is private to this user. An entry's key is its content, the
//! engine's configuration and version, and ours; nothing here is ever updated in place.
//!
//! This is the only file with `unsafe`: the engine cannot check machine code, so loading it is a promise of ours.
#![allow(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::compile::Kind;

/// The folder of compiled code, opened.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    secret: [u8; 32],
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
}

/// How often the cache helped since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Entries that were loaded.
    pub hits: u64,
    /// Look-ups that found no entry.
    pub misses: u64,
    /// Entries that were there and not authentic or not loadable; each was compiled again.
    pub rejected: u64,
}

/// What identifies one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u8; 32]);

/// Bytes of the tag at the end of each entry.
const TAG_BYTES: usize = 32;
/// Read size while an entry is checked.
const CHUNK_BYTES: usize = 1 << 18;

/// What kind of compiled artifact an entry holds.
pub(crate) trait Artifact: Sized {
    /// Distinguishes the kinds in the key and for the compiler.
    const KIND: Kind;
    /// Loads authenticated code.
    ///
    /// # Safety
    /// The file must hold exactly what this version of the engine serialised.
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self>;
}

impl Artifact for Component {
    const KIND: Kind = Kind::Component;
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        #[allow(clippy::disallowed_methods)]
        // SAFETY: the caller authenticated the file.
        unsafe {
            Component::deserialize_file(engine, path)
        }
    }
}

impl Artifact for Module {
    const KIND: Kind = Kind::Module;
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        #[allow(clippy::disallowed_methods)]
        // SAFETY: the caller authenticated the file.
        unsafe {
            Module::deserialize_file(engine, path)
        }
    }
}

impl Cache {
    /// Opens or creates the cache in `folder`, private to this user, with its secret.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let metadata = fs::metadata(folder)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the folder belongs to another user",
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            secret: secret(folder)?,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        })
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }

    /// The key of this content for this engine.
    pub(crate) fn key<A: Artifact>(&self, engine: &Engine, content: &[u8]) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(concat!("hostel ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
        hasher.update(match A::KIND {
            Kind::Component => b"component".as_slice(),
            Kind::Module => b"module",
        });
        let mut hashing = Feed(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hashing);
        hasher.update(content);
        Key(*hasher.finalize().as_bytes())
    }

    /// The compiled artifact of this key, if an authentic one is here.
    pub(crate) fn load<A: Artifact>(&self, engine: &Engine, key: Key) -> Option<A> {
        let Ok(file) = File::open(self.path(key)) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        match self
            .authentic(&file, key)
            .and_then(|()| map::<A>(engine, &file).map_err(io::Error::other))
        {
            Ok(artifact) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Some(artifact)
            }
            Err(_) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                self.remove(key);
                None
            }
        }
    }

    /// Keeps code under its key and returns the entry, opened. A crash leaves the old entry or none, never half of one.
    pub(crate) fn store(&self, key: Key, fresh: &Fresh) -> io::Result<File> {
        let draft = self.folder.join(format!(
            ".draft-{}-{:016x}",
            std::process::id(),
            random_u64()?
        ));
        let written = create_new(&draft).and_then(|file| {
            let file = self.write(file, key, fresh)?;
            fs::rename(&draft, self.path(key))?;
            Ok(file)
        });
        if written.is_err() {
            let _gone = fs::remove_file(&draft);
        }
        written
    }

    /// Copies the code piece by piece, so that this process never holds all of it, and adds the tag.
    fn write(&self, mut file: File, key: Key, fresh: &Fresh) -> io::Result<File> {
        let mut tagger = self.tagger(key);
        pieces(&fresh.file, fresh.bytes, |piece| {
            tagger.update(piece);
            file.write_all(piece)
        })?;
        file.write_all(tagger.finalize().as_bytes())?;
        file.sync_all()?;
        Ok(file)
    }

    /// Forgets an entry. If it cannot be removed it is rejected when it is looked for, which is slow but safe.
    pub(crate) fn remove(&self, key: Key) {
        let path = self.path(key);
        let _gone = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
    }

    fn path(&self, key: Key) -> PathBuf {
        self.folder.join(format!(
            "{}.cwasm",
            blake3::Hash::from_bytes(key.0).to_hex()
        ))
    }

    /// Reads the whole entry through the handle that will be mapped, and compares its tag.
    fn authentic(&self, file: &File, key: Key) -> io::Result<()> {
        let length = file.metadata()?.len();
        let code_length = length
            .checked_sub(TAG_BYTES as u64)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut tagger = self.tagger(key);
        pieces(file, code_length, |piece| {
            tagger.update(piece);
            Ok(())
        })?;
        let mut tag = [0; TAG_BYTES];
        file.read_exact_at(&mut tag, code_length)?;
        // `blake3::Hash` compares in constant time.
        if tagger.finalize() == blake3::Hash::from_bytes(tag) {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn tagger(&self, key: Key) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&key.0);
        hasher
    }
}

/// Code that a compiler of this host has just written, whole and as that compiler described it.
#[derive(Debug)]
pub(crate) struct Fresh {
    file: File,
    bytes: u64,
}

impl Fresh {
    /// Takes the file for code if it has this size and this digest.
    pub(crate) fn new(file: File, bytes: u64, digest: blake3::Hash) -> io::Result<Self> {
        if file.metadata()?.len() != bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut hasher = blake3::Hasher::new();
        pieces(&file, bytes, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        if hasher.finalize() != digest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { file, bytes })
    }

    /// Maps the code where it lies, or in the entry that [`Cache::store`] made of it.
    pub(crate) fn load<A: Artifact>(
        &self,
        engine: &Engine,
        entry: Option<&File>,
    ) -> wasmtime::Result<A> {
        if let Some(Ok(artifact)) = entry.map(|file| map(engine, file)) {
            return Ok(artifact);
        }
        // There is none, or its file system does not allow execution; a file in memory does.
        map(engine, &self.file)
    }
}

/// Hands over the first `length` bytes of a file piece by piece, wherever its cursor is.
fn pieces(
    file: &File,
    length: u64,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let piece = chunk.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        each(piece)?;
        at += wanted as u64;
    }
    Ok(())
}

/// Maps the very file that was checked: through its open handle, not by its name a second time.
fn map<A: Artifact>(engine: &Engine, file: &File) -> wasmtime::Result<A> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    // SAFETY: the callers know that this host made these bytes for an engine of this configuration and version. For an
    // entry of the cache its tag proves it, for this key. Fresh code was written by the compiler that this process
    // started (this very program), which ended well and named size and digest of what it wrote. No file that is mapped
    // here is ever written again: entries are replaced, never changed, in a folder that is private to this user, and
    // fresh code has no name and no other holder.
    unsafe { A::load(engine, &path) }
}

/// The host's secret: made once, kept beside the entries, readable by this user only.
fn secret(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join("secret");
    loop {
        match fs::read(&path) {
            Ok(bytes) => {
                if let Ok(secret) = <[u8; 32]>::try_from(bytes) {
                    return Ok(secret);
                }
                fs::remove_file(&path)?; // damaged: a new one; entries of the old one are rejected
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(io::Error::other)?;
        let draft = folder.join(format!(
            ".secret-{}-{:016x}",
            std::process::id(),
            random_u64()?
        ));
        let mut file = create_new(&draft)?;
        file.write_all(&fresh)?;
        file.sync_all()?;
        // A link fails if another process was first; then its secret is the one.
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}

/// A new file, private to this user.
fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn random_u64() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

/// Lets whatever the engine hashes flow into a cryptographic hash.
struct Feed<'a>(&'a mut blake3::Hasher);

impl Hasher for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // nobody asks: the digest is taken from the hasher itself
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{self, Flavor};

    const TEXT: &str = r#"(module (func (export "answer") (result i32) i32.const 42))"#;

    struct Fixture {
        folder: tempfile::TempDir,
        engine: Engine,
        cache: Cache,
        content: Vec<u8>,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let (engine, _) = engine::new(Flavor::Sync, true).unwrap();
        let cache = Cache::open(&folder.path().join("code")).unwrap();
        Fixture {
            folder,
            engine,
            cache,
            content: wat::parse_str(TEXT).unwrap(),
        }
    }

    fn fresh(code: &[u8]) -> Fresh {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(code).unwrap();
        Fresh::new(file, code.len() as u64, blake3::hash(code)).unwrap()
    }

    impl Fixture {
        fn key(&self) -> Key {
            self.cache.key::<Module>(&self.engine, &self.content)
        }

        fn fill(&self) -> PathBuf {
            self.fill_with(&self.content)
        }

        /// Compiles and keeps this guest.
        fn fill_with(&self, content: &[u8]) -> PathBuf {
            let key = self.cache.key::<Module>(&self.engine, content);
            let code = self.engine.precompile_module(content).unwrap();
            self.cache.store(key, &fresh(&code)).unwrap();
            self.cache.path(key)
        }

        fn load(&self) -> Option<Module> {
            self.cache.load(&self.engine, self.key())
        }
    }

    #[test]
    fn what_was_stored_is_loaded_and_runs() {
        let f = fixture();
        assert!(f.load().is_none());
        f.fill();
        assert!(f.load().unwrap().get_export("answer").is_some());
        assert_eq!(
            f.cache.stats(),
            CacheStats {
                hits: 1,
                misses: 1,
                rejected: 0
            }
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_is_rejected_removed_and_counted() {
        let f = fixture();
        let path = f.fill();
        let good = fs::read(&path).unwrap();
        let positions: Vec<usize> = (0..good.len())
            .step_by(good.len() / 97)
            .chain([good.len() - 1])
            .collect();
        for &position in &positions {
            let mut bad = good.clone();
            bad[position] ^= 1 << (position % 8);
            fs::write(&path, &bad).unwrap();
            assert!(f.load().is_none(), "bit flipped at {position}");
            assert!(!path.exists());
        }
        assert_eq!(f.cache.stats().rejected, positions.len() as u64);
    }

    #[test]
    fn truncated_empty_and_odd_entries_are_rejected() {
        let f = fixture();
        let path = f.fill();
        let good = fs::read(&path).unwrap();
        for length in [0, 1, 31, 32, 33, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(f.load().is_none(), "truncated to {length}");
        }
        fs::write(&path, [good.as_slice(), b"more"].concat()).unwrap();
        assert!(f.load().is_none(), "with bytes added");
        fs::create_dir(&path).unwrap();
        assert!(f.load().is_none(), "a folder");
        f.fill();
        assert!(f.load().is_some(), "and recovers");
    }

    #[test]
    fn an_entry_under_another_key_or_of_another_host_is_rejected() {
        let f = fixture();
        let path = f.fill();
        let other = f.cache.key::<Module>(&f.engine, b"other content");
        fs::copy(&path, f.cache.path(other)).unwrap();
        assert!(
            f.cache.load::<Module>(&f.engine, other).is_none(),
            "swapped entry"
        );

        let elsewhere = Cache::open(&f.folder.path().join("elsewhere")).unwrap();
        fs::copy(&path, elsewhere.path(f.key())).unwrap();
        assert!(
            elsewhere.load::<Module>(&f.engine, f.key()).is_none(),
            "foreign secret"
        );
        assert_eq!(elsewhere.stats().rejected, 1);
    }

    #[test]
    fn entries_of_two_guests_that_were_swapped_are_both_rejected() {
        let f = fixture();
        let other = wat::parse_str(TEXT.replace("42", "43")).unwrap();
        let (first, second) = (f.fill(), f.fill_with(&other));
        let aside = f.folder.path().join("aside");
        fs::rename(&first, &aside).unwrap();
        fs::rename(&second, &first).unwrap();
        fs::rename(&aside, &second).unwrap();
        assert!(f.load().is_none());
        let key = f.cache.key::<Module>(&f.engine, &other);
        assert!(f.cache.load::<Module>(&f.engine, key).is_none());
        assert_eq!((f.cache.stats().hits, f.cache.stats().rejected), (0, 2));
    }

    #[test]
    fn fresh_code_is_taken_only_as_it_was_described() {
        let code = b"the code";
        let digest = blake3::hash(code);
        let file = |content: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            file
        };
        assert!(Fresh::new(file(code), 8, digest).is_ok());
        for (content, bytes) in [
            (&b""[..], 8),
            (b"the cod", 8),
            (b"the code", 7),
            (b"the code", u64::MAX),
            (b"the code and more", 8),
            (b"the cope", 8),
        ] {
            assert!(Fresh::new(file(content), bytes, digest).is_err(), "{bytes}");
        }
    }

    #[test]
    fn code_is_loaded_from_memory_where_its_entry_cannot_be_mapped() {
        let f = fixture();
        let code = f.engine.precompile_module(&f.content).unwrap();
        let unusable = tempfile::tempfile().unwrap();
        let module: Module = fresh(&code).load(&f.engine, Some(&unusable)).unwrap();
        assert!(module.get_export("answer").is_some());
        let rubbish = fresh(b"not compiled code").load::<Module>(&f.engine, None);
        assert!(rubbish.is_err());
    }

    #[test]
    fn keys_differ_by_content_engine_and_kind() {
        let f = fixture();
        let (asynchronous, _) = engine::new(Flavor::Async, true).unwrap();
        let keys = [
            f.key(),
            f.cache.key::<Module>(&f.engine, b"x"),
            f.cache.key::<Module>(&asynchronous, &f.content),
            f.cache.key::<Component>(&f.engine, &f.content),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a != b));
        }
    }

    #[test]
    fn the_secret_survives_a_restart_is_private_and_is_renewed_when_damaged() {
        let f = fixture();
        let folder = f.folder.path().join("code");
        let again = Cache::open(&folder).unwrap();
        assert_eq!(again.secret, f.cache.secret);
        assert_eq!(
            fs::metadata(folder.join("secret")).unwrap().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        fs::write(folder.join("secret"), b"short").unwrap();
        assert_ne!(Cache::open(&folder).unwrap().secret, f.cache.secret);
    }

    #[test]
    fn a_folder_that_others_may_write_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        Cache::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700);
    }
}
