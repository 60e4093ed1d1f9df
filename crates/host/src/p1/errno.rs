//! What preview 1 calls the ways in which a call fails, and how the kernel's errors become that.

use std::io;

use rustix::io::Errno as Kernel;

/// An error of preview 1, by its number in the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errno(pub(super) u16);

impl Errno {
    pub(super) const AGAIN: Self = Self(6);
    pub(super) const BADF: Self = Self(8);
    pub(super) const FAULT: Self = Self(21);
    pub(super) const INVAL: Self = Self(28);
    pub(super) const IO: Self = Self(29);
    pub(super) const MFILE: Self = Self(33);
    pub(super) const NOTCONN: Self = Self(53);
    pub(super) const NOTDIR: Self = Self(54);
    pub(super) const NOTSOCK: Self = Self(57);
    pub(super) const NOTSUP: Self = Self(58);
    pub(super) const SPIPE: Self = Self(70);

    /// The number that a call returns.
    pub(super) fn code(self) -> i32 {
        self.0.into()
    }
}

/// The kernel's errors that sockets meet, with preview 1's numbers; any other is an error of input and output.
const SAME: &[(Kernel, u16)] = &[
    (Kernel::ACCESS, 2),
    (Kernel::AGAIN, 6),
    (Kernel::BADF, 8),
    (Kernel::CONNABORTED, 13),
    (Kernel::CONNREFUSED, 14),
    (Kernel::CONNRESET, 15),
    (Kernel::HOSTUNREACH, 23),
    (Kernel::INTR, 27),
    (Kernel::INVAL, 28),
    (Kernel::MFILE, 33),
    (Kernel::MSGSIZE, 35),
    (Kernel::NETDOWN, 38),
    (Kernel::NETRESET, 39),
    (Kernel::NETUNREACH, 40),
    (Kernel::NFILE, 41),
    (Kernel::NOBUFS, 42),
    (Kernel::NOMEM, 48),
    (Kernel::NOTCONN, 53),
    (Kernel::NOTSOCK, 57),
    (Kernel::OPNOTSUPP, 58),
    (Kernel::PERM, 63),
    (Kernel::PIPE, 64),
    (Kernel::PROTO, 65),
    (Kernel::TIMEDOUT, 73),
];

impl From<Kernel> for Errno {
    fn from(error: Kernel) -> Self {
        let same = SAME.iter().find(|(kernel, _)| *kernel == error);
        same.map_or(Self::IO, |(_, number)| Self(*number))
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Kernel::from_io_error(&error).map_or(Self::IO, Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_s_reset_and_an_unknown_error_have_their_numbers() {
        let number = |raw| Errno::from(io::Error::from_raw_os_error(raw)).0;
        let reset = Kernel::CONNRESET.raw_os_error();
        assert_eq!(number(reset), 15);
        assert_eq!(number(Kernel::PIPE.raw_os_error()), 64);
        assert_eq!(number(Kernel::AGAIN.raw_os_error()), Errno::AGAIN.0);
        assert_eq!(number(Kernel::NOTTY.raw_os_error()), Errno::IO.0);
        assert_eq!(Errno::from(io::Error::other("no number")), Errno::IO);
    }
}
