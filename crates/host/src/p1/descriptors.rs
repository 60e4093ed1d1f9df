//! A service's own table of descriptors, in front of the library's: which number is a file of the library's, which is a
//! socket of ours. A guest has no other way to either, so that it cannot name what is not its own.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::errno::Errno;
use super::socket::{Listener, Stream};
use crate::abi::service::Life;
use crate::net::{Accepted, AppNetwork};
use crate::state::Template;

/// What a number stands for.
pub(super) enum Descriptor {
    /// A file, directory or standard stream: the library's own number.
    Library(u32),
    Listener(Arc<Listener>),
    Stream(Arc<Stream>),
}

/// The descriptors of one instance.
pub(crate) struct Descriptors {
    open: Vec<Option<Descriptor>>,
    most: usize,
    life: Life,
    network: Arc<AppNetwork>,
}

/// The first number behind standard input, output and error; those are never given to anything else.
const FIRST: usize = 3;

impl Descriptors {
    /// Standard streams, the pre-opened directories that the template grants, then the listening sockets; in all no more than
    /// an instance may hold.
    pub(crate) fn new(template: &Template, life: &Life) -> io::Result<Self> {
        let first_socket = Self::first_socket(template.grants.files.len());
        let mut open: Vec<_> = (0..first_socket)
            .map(|number| Some(Descriptor::Library(number)))
            .collect();
        for listener in &life.listeners {
            let listener = Arc::new(Listener::new(listener)?);
            open.push(Some(Descriptor::Listener(listener)));
        }
        Ok(Self {
            most: template.limits.resources.max(open.len()),
            open,
            life: life.clone(),
            network: template.network.clone(),
        })
    }

    /// The number of the first listening socket behind so many pre-opened directories.
    pub(crate) fn first_socket(directories: usize) -> u32 {
        u32::try_from(FIRST + directories).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        let slot = self.open.get(usize::try_from(fd).unwrap_or(usize::MAX));
        slot.and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    /// The library's number of a file; `otherwise` where it is a socket.
    pub(super) fn file(&self, fd: u32, otherwise: Errno) -> Result<u32, Errno> {
        match self.get(fd)? {
            Descriptor::Library(number) => Ok(*number),
            Descriptor::Listener(_) | Descriptor::Stream(_) => Err(otherwise),
        }
    }

    pub(super) fn listener(&self, fd: u32) -> Result<Arc<Listener>, Errno> {
        match self.get(fd)? {
            Descriptor::Listener(listener) => Ok(listener.clone()),
            Descriptor::Stream(_) => Err(Errno::INVAL),
            Descriptor::Library(_) => Err(Errno::NOTSOCK),
        }
    }

    pub(super) fn stream(&self, fd: u32) -> Result<Arc<Stream>, Errno> {
        match self.get(fd)? {
            Descriptor::Stream(stream) => Ok(stream.clone()),
            Descriptor::Listener(_) => Err(Errno::NOTCONN),
            Descriptor::Library(_) => Err(Errno::NOTSOCK),
        }
    }

    /// Whether there is room for another one.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() < self.most || self.free().is_some()
    }

    /// Gives it the lowest number that is free.
    pub(super) fn add(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let index = match self.free() {
            Some(index) => index,
            None if self.open.len() < self.most => {
                self.open.push(None);
                self.open.len() - 1
            }
            None => return Err(Errno::MFILE),
        };
        let slot = self.open.get_mut(index).ok_or(Errno::MFILE)?;
        *slot = Some(descriptor);
        u32::try_from(index).map_err(|_| Errno::MFILE)
    }

    /// Takes it out of the table.
    pub(super) fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        let slot = self.open.get_mut(usize::try_from(fd).unwrap_or(usize::MAX));
        slot.and_then(Option::take).ok_or(Errno::BADF)
    }

    /// Gives what is `from` the number of `to`, which is closed: it comes back.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>, Errno> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        let slot = self.open.get_mut(usize::try_from(to).unwrap_or(usize::MAX));
        Ok(slot.ok_or(Errno::BADF)?.replace(moved))
    }

    /// A place for another connection; it is given back with the connection.
    pub(super) fn place(&self) -> Result<Accepted, Errno> {
        match self.has_room() {
            true => Accepted::open(&self.network).ok_or(Errno::MFILE),
            false => Err(Errno::MFILE),
        }
    }

    /// The guest waits for a connection: it can be used.
    pub(super) fn listens(&self) {
        self.life.is_ready();
    }

    /// Becomes true when its standard input ends.
    pub(super) fn stop(&self) -> &watch::Receiver<bool> {
        &self.life.stop
    }

    fn free(&self) -> Option<usize> {
        let mut behind = self.open.iter().enumerate().skip(FIRST);
        behind.find_map(|(index, slot)| slot.is_none().then_some(index))
    }
}
