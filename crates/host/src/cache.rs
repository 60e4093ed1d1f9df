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
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

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
    /// Distinguishes the kinds in the key.
    const KIND: &'static str;
    /// Loads authenticated code.
    ///
    /// # Safety
    /// The file must hold exactly what this version of the engine serialised.
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self>;
}

impl Artifact for Component {
    const KIND: &'static str = "component";
    unsafe fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        #[allow(clippy::disallowed_methods)]
        // SAFETY: the caller authenticated the file.
        unsafe {
            Component::deserialize_file(engine, path)
        }
    }
}

impl Artifact for Module {
    const KIND: &'static str = "module";
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
        hasher.update(A::KIND.as_bytes());
        let mut hashing = Feed(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hashing);
        hasher.update(content);
        Key(*hasher.finalize().as_bytes())
    }

    /// The compiled artifact of this key, if an authentic one is here.
    pub(crate) fn load<A: Artifact>(&self, engine: &Engine, key: Key) -> Option<A> {
        let path = self.path(key);
        let Ok(mut file) = File::open(&path) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        match self
            .authentic(&mut file, key)
            .and_then(|()| load_open::<A>(engine, &file))
        {
            Ok(artifact) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Some(artifact)
            }
            Err(_) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                // If it cannot be removed it is rejected again next time, which is slow but safe.
                let _gone = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                None
            }
        }
    }

    /// Keeps serialised code under its key. A crash leaves the old entry or none, never half of one.
    pub(crate) fn store(&self, key: Key, code: &[u8]) -> io::Result<()> {
        let mut hasher = self.tagger(key);
        hasher.update(code);
        let draft = self.folder.join(format!(
            ".draft-{}-{:016x}",
            std::process::id(),
            random_u64()?
        ));
        let written = write_new(&draft, &[code, hasher.finalize().as_bytes()])
            .and_then(|()| fs::rename(&draft, self.path(key)));
        if written.is_err() {
            let _gone = fs::remove_file(&draft);
        }
        written
    }

    fn path(&self, key: Key) -> PathBuf {
        self.folder.join(format!(
            "{}.cwasm",
            blake3::Hash::from_bytes(key.0).to_hex()
        ))
    }

    /// Reads the whole entry through the handle that will be mapped, and compares its tag.
    fn authentic(&self, file: &mut File, key: Key) -> io::Result<()> {
        let length = file.metadata()?.len();
        let code_length = length
            .checked_sub(TAG_BYTES as u64)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut hasher = self.tagger(key);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut code = file.take(code_length);
        loop {
            let read = code.read(&mut chunk)?;
            let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else {
                break;
            };
            hasher.update(part);
        }
        let file = code.into_inner();
        let mut tag = [0; TAG_BYTES];
        file.seek(SeekFrom::Start(code_length))?;
        file.read_exact(&mut tag)?;
        // `blake3::Hash` compares in constant time.
        if hasher.finalize() == blake3::Hash::from_bytes(tag) {
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

/// Maps the very file that was checked: through its open handle, not by its name a second time.
fn load_open<A: Artifact>(engine: &Engine, file: &File) -> io::Result<A> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    // SAFETY: the tag proves that this host wrote these bytes, for this key, and the key holds the engine's
    // configuration and version. Files here are never written in place, and the folder is private to this user.
    unsafe { A::load(engine, &path) }.map_err(io::Error::other)
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
        write_new(&draft, &[&fresh])?;
        // A link fails if another process was first; then its secret is the one.
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}

/// Writes a new file, private to this user, and makes sure that it is on disk.
fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
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

    impl Fixture {
        fn key(&self) -> Key {
            self.cache.key::<Module>(&self.engine, &self.content)
        }

        fn fill(&self) -> PathBuf {
            let module = Module::new(&self.engine, &self.content).unwrap();
            self.cache
                .store(self.key(), &module.serialize().unwrap())
                .unwrap();
            self.cache.path(self.key())
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
