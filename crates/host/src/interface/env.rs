//! `env`: what modules of serverless-wasm import. Places are 32-bit addresses in the module's memory, sizes have 64 bits.
//!
//! The functions of the original are here with its names, types and return codes, and so is what it never had: a look at the
//! request, values that are kept, files. What a module does with them is gathered in its [`Exchange`]; `abi::handle` makes the
//! answer of that. A place outside of the memory is a trap, and so is more than one host call may copy. What is merely wrong
//! (a field that is none, a status beyond HTTP) is left out, and the log says so.
//!
//! `answer` is what a module says, `request` what it is asked, `values`, `tcp` and `files` are what it may use.

mod answer;
mod files;
mod request;
mod table;
mod tcp;
mod values;

use std::ops::Range;

use hostel_app::limits;
use wasmtime::{Caller, Extern, Linker, Memory, Result};

use crate::net::Connection;
use crate::state::Host;

pub(crate) use request::Asked;

use answer::Said;
use files::File;
use table::Table;
use values::Values;

/// The module's name.
pub(crate) const MODULE: &str = "env";
/// The memory's, imported or exported.
pub(crate) const MEMORY: &str = "memory";
/// The functions by which such a module is known: no other system has all of their names.
pub(crate) const ORIGINAL: &[&str] = &[
    "log",
    "response_set_status_line",
    "response_set_header",
    "response_set_body",
    "tcp_connect",
    "tcp_read",
    "tcp_write",
    "db_get",
];
/// All functions.
pub(crate) const FUNCTIONS: &[&str] = &[
    "log",
    "response_set_status_line",
    "response_set_header",
    "response_set_body",
    "tcp_connect",
    "tcp_read",
    "tcp_write",
    "db_get",
    "tcp_close",
    "db_set",
    "db_delete",
    "request_method",
    "request_uri",
    "request_header",
    "request_headers",
    "request_body",
    "request_body_read",
    "file_open",
    "file_read",
    "file_size",
    "file_close",
    "abort",
];

/// What one instance is asked, what it has said so far, and what it has open.
#[derive(Default)]
pub(crate) struct Exchange {
    asked: Asked,
    said: Said,
    values: Values,
    connections: Table<Connection>,
    files: Table<File>,
}

impl Exchange {
    /// The request that it works on.
    pub(crate) fn asks(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// The answer, as it is now.
    pub(crate) fn into_said(self) -> Said {
        self.said
    }
}

/// Puts the functions into the linker of core modules.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(MODULE, "log", |caller: Caller<'_, Host>, at, length| {
        log(&mut Guest(caller), (at, length))
    })?;
    linker.func_wrap(
        MODULE,
        "abort",
        |caller: Caller<'_, Host>, message, file, line, column| -> Result<()> {
            Err(aborted(&mut Guest(caller), (message, file), (line, column)))
        },
    )?;
    answer::add_to_linker(linker)?;
    request::add_to_linker(linker)?;
    values::add_to_linker(linker)?;
    tcp::add_to_linker(linker)?;
    files::add_to_linker(linker)
}

/// Bytes of the module's memory: where, and how many.
type Place = (i32, i64);

/// A module that calls the host.
struct Guest<'a>(Caller<'a, Host>);

impl Guest<'_> {
    fn host(&mut self) -> &mut Host {
        self.0.data_mut()
    }

    fn exchange(&mut self) -> &mut Exchange {
        self.host().exchange()
    }

    /// Something that the operator or the guest's author should know.
    fn trouble(&mut self, problem: &str) {
        self.host().template().trouble(problem);
    }

    fn memory(&mut self) -> Result<Memory> {
        match self.0.get_export(MEMORY).and_then(Extern::into_memory) {
            Some(memory) => Ok(memory),
            None => wasmtime::bail!(
                "it handed the host a place in a memory that it neither imports as `env.memory` nor exports as `memory`"
            ),
        }
    }

    /// The bytes themselves, beside what the store holds.
    fn area(&mut self, place: Place) -> Result<(&mut [u8], &mut Host)> {
        if place.1 == 0 {
            return Ok((&mut [], self.0.data_mut()));
        }
        let memory = self.memory()?;
        let (bytes, host) = memory.data_and_store_mut(&mut self.0);
        match range(place).and_then(|range| bytes.get_mut(range)) {
            Some(bytes) => Ok((bytes, host)),
            None => wasmtime::bail!("it handed the host a place outside of its memory"),
        }
    }

    /// A copy of the bytes, of no more than one host call may copy.
    fn bytes(&mut self, place: Place) -> Result<Vec<u8>> {
        let (bytes, host) = self.area(place)?;
        let (length, most) = (bytes.len(), host.template().limits.host_call_bytes);
        if length > most {
            wasmtime::bail!(
                "it handed {length} bytes to the host at once, and `host_call` is {most}"
            );
        }
        Ok(bytes.to_vec())
    }

    /// The same as text; nothing where it is not UTF-8.
    fn text(&mut self, place: Place) -> Result<Option<String>> {
        Ok(String::from_utf8(self.bytes(place)?).ok())
    }

    /// Puts as much of a value there as there is room for; the value's full length.
    fn give(&mut self, place: Place, value: &[u8]) -> Result<i64> {
        let (area, _) = self.area(place)?;
        let length = area.len().min(value.len());
        if let (Some(to), Some(from)) = (area.get_mut(..length), value.get(..length)) {
            to.copy_from_slice(from);
        }
        count(value.len())
    }
}

fn range((at, length): Place) -> Option<Range<usize>> {
    let at = usize::try_from(at.cast_unsigned()).ok()?;
    let length = usize::try_from(length.cast_unsigned()).ok()?;
    Some(at..at.checked_add(length)?)
}

/// A length, as the module is told.
fn count(length: usize) -> Result<i64> {
    Ok(i64::try_from(length)?)
}

/// One line of the log; what it has beyond the longest one is cut off.
fn log(guest: &mut Guest<'_>, place: Place) -> Result<()> {
    let (bytes, host) = guest.area(place)?;
    let bytes = bytes.get(..limits::LOG_LINE_BYTES.size()).unwrap_or(bytes);
    let text = readable(bytes);
    host.log_message("info", "", &text);
    Ok(())
}

/// Text, with the bytes that are none written out.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Text of the guest's that stands in a line of the host's: short, and without control characters.
fn shown(bytes: &[u8]) -> String {
    const BYTES: usize = 100;
    let text = readable(bytes.get(..BYTES).unwrap_or(bytes));
    let more = if bytes.len() > BYTES { "…" } else { "" };
    format!("`{}{more}`", text.escape_debug())
}

/// How modules of AssemblyScript end: with a message and a place in their source.
fn aborted(
    guest: &mut Guest<'_>,
    texts: (i32, i32),
    (line, column): (i32, i32),
) -> wasmtime::Error {
    let message = utf16(guest, texts.0);
    let file = utf16(guest, texts.1);
    wasmtime::format_err!("it aborted: {message} ({file}:{line}:{column})")
}

/// A string of AssemblyScript: UTF-16, its length in bytes in front of it. What cannot be read is no second error.
fn utf16(guest: &mut Guest<'_>, at: i32) -> String {
    const BYTES: u32 = 4096;
    let Ok(length) = guest.area((at.wrapping_sub(4), 4)).map(|(bytes, _)| {
        let mut length = [0; 4];
        length.copy_from_slice(bytes);
        length
    }) else {
        return "?".to_owned();
    };
    let length = u32::from_le_bytes(length).min(BYTES) & !1;
    let Ok((bytes, _)) = guest.area((at, length.into())) else {
        return "?".to_owned();
    };
    let units = bytes.chunks_exact(2);
    let units = units.filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)));
    let text = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER));
    text.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::guest::RequestId;
    use crate::testing;

    #[test]
    fn every_function_of_the_list_is_there_and_no_other() {
        let mut linker = Linker::new(&wasmtime::Engine::default());
        add_to_linker(&mut linker).unwrap();
        let template = Arc::new(testing::template());
        let mut store = Host::store(linker.engine(), &template, RequestId(1)).unwrap();
        let mut there: Vec<String> = linker
            .iter(&mut store)
            .map(|(module, name, _)| format!("{module}.{name}"))
            .collect();
        let mut listed: Vec<String> = FUNCTIONS.iter().map(|name| format!("env.{name}")).collect();
        there.sort();
        listed.sort();
        assert_eq!(there, listed);
        assert!(ORIGINAL.iter().all(|name| FUNCTIONS.contains(name)));
    }

    #[test]
    fn a_place_is_never_wrapped_around() {
        assert_eq!(range((1, 2)), Some(1..3));
        assert_eq!(range((-1, 1)), Some(0xffff_ffff..0x1_0000_0000));
        assert_eq!(range((1, -1)), None);
        assert_eq!(range((0, i64::MIN)), Some(0..1 << 63));
    }

    #[test]
    fn what_is_no_text_is_written_out() {
        assert_eq!(readable(b"a\xff\xc3\xa9"), "a\\xff\u{e9}");
        assert_eq!(shown(b"a\nb"), "`a\\nb`");
        assert!(shown(&[b'a'; 101]).ends_with("a…`"));
    }
}
