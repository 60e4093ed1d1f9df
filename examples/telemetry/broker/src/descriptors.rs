//! What preview 1 has and the standard library has not: a listener that is already open, and waiting for several things.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use wasip1::{
    EVENTTYPE_FD_READ, EVENTTYPE_FD_WRITE, FILETYPE_SOCKET_STREAM, Subscription, SubscriptionU,
    SubscriptionUU,
};

/// The first socket that the host opened for this program: it stands behind the directories.
pub fn listener() -> Option<TcpListener> {
    // Descriptors of the host are without gaps.
    for descriptor in 3.. {
        // SAFETY: a question about a number; one that is not open is an error.
        let stat = unsafe { wasip1::fd_fdstat_get(descriptor) }.ok()?;
        if stat.fs_filetype == FILETYPE_SOCKET_STREAM {
            // SAFETY: the host opened it for this program, and nobody else here knows its number.
            return Some(unsafe { TcpListener::from_raw_fd(descriptor as i32) });
        }
    }
    None
}

/// Writes what the system still holds of a file to the disk, and says which way if it cannot.
pub fn sync(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// What is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Somebody connects.
    Listener,
    /// The client with this number has sent something, can be sent more, or has left.
    Client(usize),
    /// The standard input has ended: the host wants this program to end.
    End,
}

/// What is waited for.
#[derive(Default)]
pub struct Wait {
    subscriptions: Vec<Subscription>,
    meanings: Vec<Ready>,
}

impl Wait {
    pub fn for_end(&mut self) {
        self.add(0, EVENTTYPE_FD_READ.raw(), Ready::End);
    }

    pub fn for_listener(&mut self, listener: &TcpListener) {
        let descriptor = listener.as_raw_fd();
        self.add(descriptor, EVENTTYPE_FD_READ.raw(), Ready::Listener);
    }

    pub fn for_client(&mut self, number: usize, stream: &TcpStream, writing: bool) {
        let descriptor = stream.as_raw_fd();
        self.add(descriptor, EVENTTYPE_FD_READ.raw(), Ready::Client(number));
        if writing {
            self.add(descriptor, EVENTTYPE_FD_WRITE.raw(), Ready::Client(number));
        }
    }

    fn add(&mut self, descriptor: i32, tag: u8, meaning: Ready) {
        let descriptor = wasip1::SubscriptionFdReadwrite {
            file_descriptor: descriptor as u32,
        };
        let u = match tag == EVENTTYPE_FD_READ.raw() {
            true => SubscriptionUU {
                fd_read: descriptor,
            },
            false => SubscriptionUU {
                fd_write: descriptor,
            },
        };
        self.subscriptions.push(Subscription {
            userdata: self.meanings.len() as u64,
            u: SubscriptionU { tag, u },
        });
        self.meanings.push(meaning);
    }

    /// Waits until something is ready.
    pub fn now(self) -> io::Result<Vec<Ready>> {
        let mut events = Vec::with_capacity(self.subscriptions.len());
        let room = self.subscriptions.len();
        // SAFETY: both lists have room for so many, and as many events as the call says are written.
        unsafe {
            let subscriptions = self.subscriptions.as_ptr();
            let count = wasip1::poll_oneoff(subscriptions, events.as_mut_ptr(), room)
                .map_err(|error| io::Error::from_raw_os_error(i32::from(error.raw())))?;
            events.set_len(count);
        }
        let meaning = |event: &wasip1::Event| self.meanings.get(event.userdata as usize).copied();
        Ok(events.iter().filter_map(meaning).collect())
    }
}
