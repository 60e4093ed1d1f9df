//! Files that a module reads: of a directory that it was granted, by the name that the grant gives it, or objects of a
//! container, `blob:CONTAINER/NAME`.
//!
//! Directories are those of WASI, and so are the rules by which no name leads out of them; what may take long is done on a
//! thread for that.

use bytes::Bytes;
use hostel_app::limits;
use wasmtime::component::Resource;
use wasmtime::{Caller, Linker, Result};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, InputStream, Pollable, StreamError};

use super::{Guest, MODULE, Place, count, shown};
use crate::capability::blob;
use crate::capability::blob::incoming::BodyReader;
use crate::state::Host;

const NOT_FOUND: i32 = -1;
const TABLE_FULL: i32 = -2;
const DENIED: i32 = -3;
const FAILED: i64 = -1;

/// What stands in front of a container's name.
const BLOB: &str = "blob:";

/// Something that is open, and how far it was read.
pub(super) struct File {
    size: u64,
    source: Source,
}

enum Source {
    /// On a disk, from this byte on.
    Disk(Resource<Descriptor>, u64),
    Blob(BodyReader),
    /// It broke off.
    Broken,
}

/// Puts its functions into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap_async(MODULE, "file_open", |caller, name: Place| {
        Box::new(async move { open(&mut Guest(caller), name).await })
    })?;
    linker.func_wrap_async(
        MODULE,
        "file_read",
        |caller, (number, at, length): (i32, i32, i64)| {
            Box::new(async move { read(&mut Guest(caller), number, (at, length)).await })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "file_size",
        |mut caller: Caller<'_, Host>, number: i32| {
            let file = caller.data_mut().exchange().files.get_mut(number);
            file.map_or(Ok(FAILED), |file| Ok(i64::try_from(file.size)?))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "file_close",
        |mut caller: Caller<'_, Host>, number: i32| {
            let host = caller.data_mut();
            let Some(file) = host.exchange().files.remove(number) else {
                return Ok(NOT_FOUND);
            };
            if let Source::Disk(descriptor, _) = file.source {
                host.table().delete(descriptor)?;
            }
            Ok(0)
        },
    )?;
    Ok(())
}

async fn open(guest: &mut Guest<'_>, name: Place) -> Result<i32> {
    let Some(name) = guest.text(name)? else {
        return Ok(NOT_FOUND);
    };
    if !guest.exchange().files.has_room(limits::HANDLE_FILES.size()) {
        return Ok(TABLE_FULL);
    }
    let opened = match name.strip_prefix(BLOB) {
        Some(object) => open_blob(guest, object).await,
        None => open_file(guest, &name).await?,
    };
    Ok(match opened {
        Ok(file) => guest.exchange().files.add(file),
        Err(code) => code,
    })
}

/// A file, or the code that says why there is none.
type Opened = std::result::Result<File, i32>;

async fn open_blob(guest: &mut Guest<'_>, object: &str) -> Opened {
    let (container, name) = object.split_once('/').ok_or(NOT_FOUND)?;
    let host = guest.host();
    let container = blob::granted(host.template(), host.charge(), container);
    let container = container.map_err(|_| DENIED)?;
    let held = host.blobs_held().clone();
    match container.find(name).await {
        Ok(Some(_)) => {}
        Ok(None) => return Err(NOT_FOUND),
        Err(why) => return Err(not_read(guest, object, &why)),
    }
    match container.read(name, 0, u64::MAX, &held).await {
        Ok(incoming) => Ok(File {
            size: incoming.size(),
            source: Source::Blob(incoming.stream()),
        }),
        Err(why) => Err(not_read(guest, object, &why)),
    }
}

fn not_read(guest: &mut Guest<'_>, object: &str, why: &str) -> i32 {
    let object = shown(object.as_bytes());
    guest.trouble(&format!("file_open: {object}: {why}"));
    NOT_FOUND
}

async fn open_file(guest: &mut Guest<'_>, name: &str) -> Result<Opened> {
    let host = guest.host();
    let template = host.template().clone();
    let grants = template.grants.files.iter();
    let covers = |directory: &str| rest_of(name, directory);
    let fits = grants
        .enumerate()
        .filter_map(|(number, grant)| covers(&grant.guest).map(|rest| (rest.len(), number, rest)));
    let Some((_, number, rest)) = fits.min() else {
        template.files_denied(&directory_of(name));
        return Ok(Err(DENIED));
    };
    let mut files = host.filesystem();
    let directories = files.get_directories()?;
    let opened = match directories.get(number) {
        Some((directory, _)) => open_in(&mut files, directory, rest).await,
        None => Err(ErrorCode::NoEntry.into()),
    };
    for (directory, _) in directories {
        files.table.delete(directory)?;
    }
    match opened {
        Ok(file) => Ok(Ok(file)),
        Err(error) => code(error).map(Err),
    }
}

/// A regular file. Whether it is one is asked first: to open a pipe waits for a writer, and holds a thread for ever.
async fn open_in(
    files: &mut WasiFilesystemCtxView<'_>,
    directory: &Resource<Descriptor>,
    path: &str,
) -> std::result::Result<File, FsError> {
    let follow = PathFlags::SYMLINK_FOLLOW;
    let borrowed = || Resource::new_borrow(directory.rep());
    let stat = files.stat_at(borrowed(), follow, path.to_owned()).await?;
    if stat.type_ != DescriptorType::RegularFile {
        return Err(ErrorCode::NoEntry.into());
    }
    let (none, how) = (OpenFlags::empty(), DescriptorFlags::READ);
    let path = path.to_owned();
    let descriptor = files.open_at(borrowed(), follow, path, none, how).await?;
    Ok(File {
        size: stat.size,
        source: Source::Disk(descriptor, 0),
    })
}

/// What a name says behind that of a directory.
fn rest_of<'n>(name: &'n str, directory: &str) -> Option<&'n str> {
    let rest = name.strip_prefix(directory.trim_end_matches('/'))?;
    let rest = rest.strip_prefix('/')?.trim_start_matches('/');
    (!rest.is_empty()).then_some(rest)
}

/// The directory that would have to be granted: the first of the name, as far as that is a plain one.
fn directory_of(name: &str) -> String {
    let first = name.trim_start_matches('/').split('/').next();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let first = first.filter(|first| first.len() <= 64 && first.bytes().all(plain));
    format!("/{}", first.unwrap_or("DIRECTORY"))
}

/// What the module is told of an error of the file system.
fn code(error: FsError) -> Result<i32> {
    Ok(match error.downcast()? {
        ErrorCode::Access | ErrorCode::NotPermitted | ErrorCode::ReadOnly => DENIED,
        _ => NOT_FOUND,
    })
}

/// Fills the place, as far as there is something; nothing at the end.
async fn read(guest: &mut Guest<'_>, number: i32, place: Place) -> Result<i64> {
    let length = guest.area(place)?.0.len();
    let mut filled = 0;
    while filled < length {
        let Some(bytes) = next(guest, number, length - filled).await? else {
            return Ok(FAILED);
        };
        if bytes.is_empty() {
            break;
        }
        let (area, _) = guest.area(place)?;
        if let Some(to) = area.get_mut(filled..filled + bytes.len()) {
            to.copy_from_slice(&bytes);
        }
        filled += bytes.len();
    }
    match guest.exchange().files.get_mut(number) {
        Some(_) => count(filled),
        None => Ok(FAILED),
    }
}

/// Some bytes, no more than `most`; none at the end, `None` where they cannot be read.
async fn next(guest: &mut Guest<'_>, number: i32, most: usize) -> Result<Option<Bytes>> {
    let host = guest.host();
    let Some(file) = host.exchange().files.get_mut(number) else {
        return Ok(None);
    };
    match &mut file.source {
        Source::Blob(reader) => {
            reader.ready().await;
            match reader.read(most) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(StreamError::Closed) => Ok(Some(Bytes::new())),
                Err(_) => {
                    // The reader tells of it only once.
                    file.source = Source::Broken;
                    Ok(None)
                }
            }
        }
        Source::Broken => Ok(None),
        Source::Disk(descriptor, from) => {
            let (descriptor, from) = (Resource::new_borrow(descriptor.rep()), *from);
            let most = most.min(limits::STREAM_CHUNK_BYTES.size()) as u64;
            let mut files = host.filesystem();
            let bytes = match HostDescriptor::read(&mut files, descriptor, most, from).await {
                Ok((bytes, _)) => Bytes::from(bytes),
                Err(error) => return code(error).map(|_| None),
            };
            let file = host.exchange().files.get_mut(number);
            if let Some(File {
                source: Source::Disk(_, from),
                ..
            }) = file
            {
                *from += bytes.len() as u64;
            }
            Ok(Some(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_in_a_directory_only_behind_a_slash() {
        assert_eq!(rest_of("/site/a/b.txt", "/site"), Some("a/b.txt"));
        assert_eq!(rest_of("/site//a", "/site/"), Some("a"));
        assert_eq!(rest_of("/a", "/"), Some("a"));
        assert_eq!(rest_of("site/a", "site"), Some("a"));
        for name in ["/sites/a", "/site", "/site/", "site/a", "/other/a", ""] {
            assert_eq!(rest_of(name, "/site"), None, "{name}");
        }
    }

    #[test]
    fn the_log_names_a_plain_directory_or_none() {
        assert_eq!(directory_of("/etc/passwd"), "/etc");
        assert_eq!(directory_of("a\nb/c"), "/DIRECTORY");
        assert_eq!(directory_of(&"a".repeat(65)), "/DIRECTORY");
    }
}
