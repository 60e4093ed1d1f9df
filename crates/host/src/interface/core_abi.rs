//! The core ABI of wit-bindgen 0.2: how the host and a core module hand strings and numbers to each other. The interfaces of
//! the systems of that time are built on it.

use wasmtime::{Caller, Memory, Result};

use crate::state::Host;

/// What the guest lends the host to put strings into it.
pub(crate) const REALLOC: &str = "canonical_abi_realloc";
/// Where the host finds what the guest hands over.
pub(super) const MEMORY: &str = "memory";

/// A guest that calls the host.
pub(super) struct Guest<'a>(pub(super) Caller<'a, Host>);

impl Guest<'_> {
    pub(super) fn host(&mut self) -> &mut Host {
        self.0.data_mut()
    }

    fn memory(&mut self) -> Result<Memory> {
        let memory = self.0.get_export(MEMORY);
        match memory.and_then(wasmtime::Extern::into_memory) {
            Some(memory) => Ok(memory),
            None => wasmtime::bail!("the guest exports no memory"),
        }
    }

    /// Bytes of the guest's memory; no more than one host call may copy.
    pub(super) fn bytes(&mut self, at: i32, length: i32) -> Result<Vec<u8>> {
        let (at, length) = (size(at), size(length));
        let most = self.host().template().limits.host_call_bytes;
        if length > most {
            wasmtime::bail!(
                "it handed {length} bytes to the host at once, and `host_call` is {most}"
            );
        }
        let memory = self.memory()?;
        let bytes = memory.data(&self.0).get(at..at.saturating_add(length));
        match bytes {
            Some(bytes) => Ok(bytes.to_vec()),
            None => wasmtime::bail!("it handed the host bytes that are outside of its memory"),
        }
    }

    /// A string of the guest's; what is not UTF-8 traps.
    pub(super) fn text(&mut self, at: i32, length: i32) -> Result<String> {
        match String::from_utf8(self.bytes(at, length)?) {
            Ok(text) => Ok(text),
            Err(_) => wasmtime::bail!("it handed the host a string that is not UTF-8"),
        }
    }

    pub(super) fn write(&mut self, at: i32, bytes: &[u8]) -> Result<()> {
        let memory = self.memory()?;
        Ok(memory.write(&mut self.0, size(at), bytes)?)
    }

    /// Returns a string: it is put where the guest's allocator says, and that is written to `at`.
    pub(super) async fn return_text(&mut self, at: i32, text: &str) -> Result<()> {
        let allocator = self.0.get_export(REALLOC);
        let Some(allocator) = allocator.and_then(wasmtime::Extern::into_func) else {
            wasmtime::bail!("the guest exports no `{REALLOC}`")
        };
        let allocate = allocator.typed::<(i32, i32, i32, i32), i32>(&self.0)?;
        let length = i32::try_from(text.len())?;
        let place = allocate.call_async(&mut self.0, (0, 0, 1, length)).await?;
        self.write(place, text.as_bytes())?;
        self.write(at, &place.to_le_bytes())?;
        self.write(at.wrapping_add(4), &length.to_le_bytes())
    }
}

/// What is a number to the guest is a place or a length to the host.
pub(super) fn size(number: i32) -> usize {
    usize::try_from(number.cast_unsigned()).unwrap_or(usize::MAX)
}
