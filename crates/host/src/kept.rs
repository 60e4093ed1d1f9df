//! What a guest makes the host keep for it: header fields, and buffers of the bodies that it writes. WASI's own
//! functions, counted: each set of fields and each body is bounded by the library, but not how many of them one call
//! makes.

use wasmtime::component::{Linker, LinkerInstance, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::p3::bindings::http::types as p3;
use wasmtime_wasi_http::{FieldMap, WasiHttpView};

use hostel_app::limits;

use crate::engine::Flavor;
use crate::imports::{WASI_0_2, WASI_0_3};
use crate::state::Host;

/// What an entry costs besides its name and value.
const ENTRY_BYTES: usize = 96;
/// What a body that a guest writes may hold back until it is read.
const BODY_BYTES: usize = limits::STREAM_CHUNK_BYTES.size();

type Store<'a> = StoreContextMut<'a, Host>;
type Fields = Resource<FieldMap>;

/// Puts the counting functions in the place of the library's.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>, flavor: Flavor) -> Result<()> {
    linker.allow_shadowing(true);
    let types = |version: &str| format!("wasi:http/types@{version}");
    let mut instance = linker.instance(&types(WASI_0_2.version))?;
    p2_fields(&mut instance)?;
    p2_bodies(&mut instance)?;
    if flavor == Flavor::Async {
        p3_fields(&mut linker.instance(&types(WASI_0_3.version))?)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

impl Host {
    /// So many more bytes; an error, which ends the call, beyond its limit.
    fn keep(&mut self, entries: usize, bytes: usize) -> Result<()> {
        let entries = entries.saturating_mul(ENTRY_BYTES);
        self.meter.keep(entries.saturating_add(bytes))
    }

    fn keep_copy(&mut self, fields: &Fields) -> Result<()> {
        let original = self.http().table.get(fields)?;
        let size = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.as_bytes().len()
        };
        let (entries, bytes) = (original.len(), original.iter().map(size).sum());
        self.keep(entries, bytes)
    }
}

fn total(values: &[Vec<u8>]) -> usize {
    values.iter().map(Vec::len).sum()
}

fn total_of_list(entries: &[(String, Vec<u8>)]) -> usize {
    let size = |(name, value): &(String, Vec<u8>)| name.len() + value.len();
    entries.iter().map(size).sum()
}

/// The functions on fields have the same names and shapes in 0.2 and 0.3, but types of their own.
macro_rules! fields {
    ($name:ident, $types:ident) => {
        fn $name(types: &mut LinkerInstance<'_, Host>) -> Result<()> {
            use $types::{Host as _, HostFields};
            types.func_wrap(
                "[static]fields.from-list",
                |mut store: Store<'_>, (entries,): (Vec<(String, Vec<u8>)>,)| {
                    let host = store.data_mut();
                    host.keep(entries.len(), total_of_list(&entries))?;
                    let mut http = host.http();
                    Ok((match HostFields::from_list(&mut http, entries) {
                        Ok(fields) => Ok(fields),
                        Err(error) => Err(http.convert_header_error(error)?),
                    },))
                },
            )?;
            types.func_wrap(
                "[method]fields.set",
                |mut store: Store<'_>, (fields, name, values): (Fields, String, Vec<Vec<u8>>)| {
                    let host = store.data_mut();
                    host.keep(values.len(), name.len() + total(&values))?;
                    let mut http = host.http();
                    Ok((match HostFields::set(&mut http, fields, name, values) {
                        Ok(()) => Ok(()),
                        Err(error) => Err(http.convert_header_error(error)?),
                    },))
                },
            )?;
            types.func_wrap(
                "[method]fields.append",
                |mut store: Store<'_>, (fields, name, value): (Fields, String, Vec<u8>)| {
                    let host = store.data_mut();
                    host.keep(1, name.len() + value.len())?;
                    let mut http = host.http();
                    Ok((match HostFields::append(&mut http, fields, name, value) {
                        Ok(()) => Ok(()),
                        Err(error) => Err(http.convert_header_error(error)?),
                    },))
                },
            )?;
            types.func_wrap(
                "[method]fields.clone",
                |mut store: Store<'_>, (fields,): (Fields,)| {
                    let host = store.data_mut();
                    host.keep_copy(&fields)?;
                    Ok((HostFields::clone(&mut host.http(), fields)?,))
                },
            )
        }
    };
}

fields!(p2_fields, p2);
fields!(p3_fields, p3);

fn p2_bodies(types: &mut LinkerInstance<'_, Host>) -> Result<()> {
    type Body = std::result::Result<Resource<HostOutgoingBody>, ()>;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store: Store<'_>, (response,): (Resource<HostOutgoingResponse>,)| {
            let host = store.data_mut();
            host.keep(0, BODY_BYTES)?;
            let body: Body = p2::HostOutgoingResponse::body(&mut host.http(), response)?;
            Ok((body,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: Store<'_>, (request,): (Resource<HostOutgoingRequest>,)| {
            let host = store.data_mut();
            host.keep(0, BODY_BYTES)?;
            let body: Body = p2::HostOutgoingRequest::body(&mut host.http(), request)?;
            Ok((body,))
        },
    )
}
