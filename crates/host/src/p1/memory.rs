//! A guest's memory as preview 1 uses it: numbers at addresses, and lists of buffers. An address outside is the guest's
//! error, never the host's.

use std::ops::Range;

use super::errno::Errno;

/// Buffers of one call; more are an error, as with the kernel.
const BUFFERS_MAX: u32 = 1024;

/// The memory that a module exports.
pub(super) struct Memory<'a>(pub(super) &'a mut [u8]);

/// A buffer in it.
pub(super) type Buffer = Range<usize>;

impl Memory<'_> {
    /// The bytes at an address.
    pub(super) fn bytes(&mut self, at: u32, len: u32) -> Result<&mut [u8], Errno> {
        let range = range(at, len)?;
        self.slice(range)
    }

    /// The bytes of a buffer.
    pub(super) fn slice(&mut self, buffer: Buffer) -> Result<&mut [u8], Errno> {
        self.0.get_mut(buffer).ok_or(Errno::FAULT)
    }

    pub(super) fn read<const N: usize>(&mut self, at: u32) -> Result<[u8; N], Errno> {
        let bytes = self.bytes(at, u32::try_from(N).map_err(|_| Errno::FAULT)?)?;
        bytes.try_into().map_err(|_| Errno::FAULT)
    }

    pub(super) fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Errno> {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        self.bytes(at, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn read_u32(&mut self, at: u32) -> Result<u32, Errno> {
        self.read(at).map(u32::from_le_bytes)
    }

    pub(super) fn write_u32(&mut self, at: u32, value: u32) -> Result<(), Errno> {
        self.write(at, &value.to_le_bytes())
    }

    /// The buffers of an array of addresses and lengths that have any bytes; all of them are inside the memory.
    pub(super) fn buffers(&mut self, at: u32, count: u32) -> Result<Vec<Buffer>, Errno> {
        if count > BUFFERS_MAX {
            return Err(Errno::INVAL);
        }
        let mut buffers = Vec::new();
        for index in 0..count {
            let place = at.checked_add(index * 8).ok_or(Errno::FAULT)?;
            let [a, b, c, d, e, f, g, h] = self.read(place)?;
            let buffer = range(
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
            )?;
            self.slice(buffer.clone())?;
            if !buffer.is_empty() {
                buffers.push(buffer);
            }
        }
        Ok(buffers)
    }
}

fn range(at: u32, len: u32) -> Result<Buffer, Errno> {
    let at = usize::try_from(at).map_err(|_| Errno::FAULT)?;
    let len = usize::try_from(len).map_err(|_| Errno::FAULT)?;
    Ok(at..at.checked_add(len).ok_or(Errno::FAULT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_outside_and_too_many_buffers_are_the_guest_s_error() {
        let mut bytes = [0; 64];
        let mut memory = Memory(&mut bytes);
        assert_eq!(memory.write_u32(60, 7), Ok(()));
        assert_eq!(memory.read_u32(60), Ok(7));
        for at in [61, 64, u32::MAX - 1, u32::MAX] {
            assert_eq!(memory.read_u32(at), Err(Errno::FAULT));
            assert_eq!(memory.write_u32(at, 0), Err(Errno::FAULT));
            assert_eq!(memory.buffers(at, 1), Err(Errno::FAULT));
        }
        assert_eq!(memory.buffers(0, BUFFERS_MAX + 1), Err(Errno::INVAL));
        assert_eq!(memory.buffers(0, u32::MAX), Err(Errno::INVAL));
    }

    #[test]
    fn buffers_are_found_and_empty_ones_left_out() {
        let mut bytes = [0; 64];
        let mut memory = Memory(&mut bytes);
        for (index, (at, len)) in [(40, 8), (64, 0), (48, 16)].into_iter().enumerate() {
            let place = u32::try_from(index).unwrap() * 8;
            memory.write_u32(place, at).unwrap();
            memory.write_u32(place + 4, len).unwrap();
        }
        assert_eq!(memory.buffers(0, 3), Ok(vec![40..48, 48..64]));
        memory.write_u32(4, 25).unwrap();
        assert_eq!(memory.buffers(0, 3), Err(Errno::FAULT));
    }
}
