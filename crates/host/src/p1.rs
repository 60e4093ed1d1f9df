//! Preview 1 with sockets: a layer in front of the library's functions, which know files only.
//!
//! A service's descriptors are in a table of its own ([`Descriptors`]): standard streams and pre-opened directories first,
//! then the listening sockets that the host has bound for it, then whatever it opens or accepts. Every function that
//! takes a descriptor is replaced by one that looks it up there and hands files on to the library under the library's own
//! number. Functions without descriptors stay the library's. Only services are linked with this: other modules have no
//! socket, and the library tells them so.
//!
//! `calls` is what sockets do, `poll` waits for several things at once, `socket` is what both ask the kernel.

mod calls;
mod descriptors;
mod errno;
mod memory;
mod poll;
mod socket;
#[cfg(test)]
pub(crate) mod tests;

use wasmtime::{AsContextMut, Caller, Extern, Linker, Result, bail};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wiggle::GuestMemory;

use crate::imports::PREVIEW1;
use crate::state::Host;
pub(crate) use descriptors::Descriptors;
use errno::Errno;
use preview1::WasiSnapshotPreview1;

/// What every function works on: the guest's memory and what its store holds.
fn enter<'a>(caller: &'a mut Caller<'_, Host>) -> Result<(&'a mut [u8], &'a mut Host)> {
    let copied_at_most = caller.as_context_mut().hostcall_fuel();
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        bail!("missing required memory export")
    };
    let (memory, host) = memory.data_and_store_mut(caller);
    host.p1().set_hostcall_fuel(copied_at_most);
    Ok((memory, host))
}

/// The library's number of a guest's file; `otherwise` where that is a socket. Guests that are no services have the
/// library's numbers.
fn file(host: &mut Host, fd: i32, otherwise: Errno) -> Result<i32, Errno> {
    match host.descriptors() {
        None => Ok(fd),
        Some(table) => Ok(table.file(fd.cast_unsigned(), otherwise)?.cast_signed()),
    }
}

/// Functions that are the library's under its own numbers of the descriptors; an error where one is a socket.
macro_rules! forward {
    (@call async $call:expr) => { $call.await };
    (@call sync $call:expr) => { $call };
    ($linker:ident; $($how:ident $name:ident($($arg:ident: $ty:ty),*) of ($($fd:ident),+) else $errno:ident;)+) => {$(
        $linker.func_wrap_async(
            PREVIEW1,
            stringify!($name),
            |mut caller: Caller<'_, Host>, ($($arg,)*): ($($ty,)*)| {
                Box::new(async move {
                    let (memory, host) = enter(&mut caller)?;
                    $(
                        let $fd = match file(host, $fd, Errno::$errno) {
                            Ok(number) => number,
                            Err(error) => return Ok(error.code()),
                        };
                    )+
                    let mut memory = GuestMemory::Unshared(memory);
                    forward!(@call $how preview1::$name(host.p1(), &mut memory, $($arg),*))
                })
            },
        )?;
    )+};
}

/// Functions of our own.
macro_rules! own {
    ($linker:ident; $($name:ident($($arg:ident),+) in $room:ident;)+) => {$(
        $linker.func_wrap_async(
            PREVIEW1,
            stringify!($name),
            |mut caller: Caller<'_, Host>, ($($arg,)*): ($(own!(@type $arg),)*)| {
                Box::new(async move {
                    let (memory, host) = enter(&mut caller)?;
                    $room::$name(memory, host, ($($arg),+)).await
                })
            },
        )?;
    )+};
    (@type $arg:ident) => { i32 };
}

/// Puts the layer in front of the library's functions, which have to be there.
pub(crate) fn shadow(linker: &mut Linker<Host>) -> Result<()> {
    linker.allow_shadowing(true);
    shadow_files(linker)?;
    shadow_paths(linker)?;
    own!(linker;
        fd_close(fd) in calls;
        fd_fdstat_get(fd, out) in calls;
        fd_fdstat_set_flags(fd, flags) in calls;
        fd_filestat_get(fd, out) in calls;
        fd_read(fd, buffers, count, out) in calls;
        fd_renumber(from, to) in calls;
        fd_write(fd, buffers, count, out) in calls;
        poll_oneoff(subscriptions, events, count, out) in poll;
        sock_accept(fd, flags, out) in calls;
        sock_recv(fd, buffers, count, flags, out, out_flags) in calls;
        sock_send(fd, buffers, count, flags, out) in calls;
        sock_shutdown(fd, how) in calls;
    );
    linker.func_wrap_async(
        PREVIEW1,
        "path_open",
        |mut caller: Caller<'_, Host>, args: calls::PathOpen| {
            Box::new(async move {
                let (memory, host) = enter(&mut caller)?;
                calls::path_open(memory, host, args).await
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn shadow_files(linker: &mut Linker<Host>) -> Result<()> {
    forward!(linker;
        async fd_advise(fd: i32, offset: i64, len: i64, advice: i32) of (fd) else SPIPE;
        sync fd_allocate(fd: i32, offset: i64, len: i64) of (fd) else SPIPE;
        async fd_datasync(fd: i32) of (fd) else INVAL;
        sync fd_fdstat_set_rights(fd: i32, base: i64, inheriting: i64) of (fd) else NOTSUP;
        async fd_filestat_set_size(fd: i32, size: i64) of (fd) else INVAL;
        async fd_filestat_set_times(fd: i32, read: i64, written: i64, flags: i32) of (fd) else INVAL;
        async fd_pread(fd: i32, buffers: i32, count: i32, offset: i64, out: i32) of (fd) else SPIPE;
        // The first number that is no pre-opened directory ends the search for them.
        sync fd_prestat_get(fd: i32, out: i32) of (fd) else BADF;
        sync fd_prestat_dir_name(fd: i32, path: i32, len: i32) of (fd) else BADF;
        async fd_pwrite(fd: i32, buffers: i32, count: i32, offset: i64, out: i32) of (fd) else SPIPE;
        async fd_readdir(fd: i32, buffer: i32, len: i32, cookie: i64, out: i32) of (fd) else NOTDIR;
        async fd_seek(fd: i32, offset: i64, whence: i32, out: i32) of (fd) else SPIPE;
        async fd_sync(fd: i32) of (fd) else INVAL;
        sync fd_tell(fd: i32, out: i32) of (fd) else SPIPE;
    );
    Ok(())
}

fn shadow_paths(linker: &mut Linker<Host>) -> Result<()> {
    forward!(linker;
        async path_create_directory(fd: i32, path: i32, len: i32) of (fd) else NOTDIR;
        async path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32) of (fd) else NOTDIR;
        async path_filestat_set_times(fd: i32, flags: i32, path: i32, len: i32, read: i64, written: i64, set: i32)
            of (fd) else NOTDIR;
        async path_link(from: i32, flags: i32, old: i32, old_len: i32, to: i32, new: i32, new_len: i32)
            of (from, to) else NOTDIR;
        async path_readlink(fd: i32, path: i32, len: i32, buffer: i32, buffer_len: i32, out: i32) of (fd) else NOTDIR;
        async path_remove_directory(fd: i32, path: i32, len: i32) of (fd) else NOTDIR;
        async path_rename(from: i32, old: i32, old_len: i32, to: i32, new: i32, new_len: i32)
            of (from, to) else NOTDIR;
        async path_symlink(old: i32, old_len: i32, fd: i32, new: i32, new_len: i32) of (fd) else NOTDIR;
        async path_unlink_file(fd: i32, path: i32, len: i32) of (fd) else NOTDIR;
    );
    Ok(())
}
