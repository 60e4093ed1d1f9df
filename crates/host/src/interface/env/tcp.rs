//! Connections of a module. They are the host's, under the grants `tcp` and the budgets of the network, and end with the
//! instance; nothing here waits in a thread.

use std::io::ErrorKind;

use hostel_app::limits;
use wasmtime::{Caller, Linker, Result};

use super::{Guest, MODULE, Place, count, shown};
use crate::net::NotConnected;
use crate::state::Host;

const FAILED: i32 = -1;
const TABLE_FULL: i32 = -2;

/// Puts its functions into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap_async(MODULE, "tcp_connect", |caller, place: Place| {
        Box::new(async move { connect(&mut Guest(caller), place).await })
    })?;
    linker.func_wrap_async(
        MODULE,
        "tcp_read",
        |caller, (number, at, length): (i32, i32, i64)| {
            Box::new(async move { read(&mut Guest(caller), number, (at, length)).await })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "tcp_write",
        |caller, (number, at, length): (i32, i32, i64)| {
            Box::new(async move { write(&mut Guest(caller), number, (at, length)).await })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "tcp_close",
        |mut caller: Caller<'_, Host>, number: i32| {
            let closed = caller.data_mut().exchange().connections.remove(number);
            closed.map_or(FAILED, |_| 0)
        },
    )?;
    Ok(())
}

async fn connect(guest: &mut Guest<'_>, place: Place) -> Result<i32> {
    let bytes = guest.bytes(place)?;
    let most = limits::HANDLE_CONNECTIONS.size();
    if !guest.exchange().connections.has_room(most) {
        return Ok(TABLE_FULL);
    }
    let address = std::str::from_utf8(&bytes).unwrap_or_default();
    let outgoing = guest.host().outgoing().clone();
    let why = match outgoing.connect_tcp(address).await {
        Ok(connection) => return Ok(guest.exchange().connections.add(connection)),
        Err(why) => why,
    };
    match why {
        NotConnected::Malformed => {
            let address = shown(&bytes);
            guest.trouble(&format!(
                "tcp_connect: {address} is no address; write IP:PORT or NAME:PORT"
            ));
        }
        NotConnected::Refused(limit) => {
            guest.trouble(&format!("tcp_connect: its limit `{limit}` is used up"));
        }
        NotConnected::Denied | NotConnected::Failed => {}
    }
    Ok(FAILED)
}

/// What has come, at least one byte; nothing at the end.
async fn read(guest: &mut Guest<'_>, number: i32, place: Place) -> Result<i64> {
    let (area, host) = guest.area(place)?;
    let Some(connection) = host.exchange().connections.get_mut(number) else {
        return Ok(FAILED.into());
    };
    if area.is_empty() {
        return Ok(0);
    }
    loop {
        if connection.stream.readable().await.is_err() {
            return Ok(FAILED.into());
        }
        match connection.stream.try_read(area) {
            Ok(length) => return count(length),
            Err(error) if again(error.kind()) => {}
            Err(_) => return Ok(FAILED.into()),
        }
    }
}

/// Everything, however long the other side takes.
async fn write(guest: &mut Guest<'_>, number: i32, place: Place) -> Result<i64> {
    let (area, host) = guest.area(place)?;
    let Some(connection) = host.exchange().connections.get_mut(number) else {
        return Ok(FAILED.into());
    };
    let mut written = 0;
    while let Some(rest) = area.get(written..).filter(|rest| !rest.is_empty()) {
        if connection.stream.writable().await.is_err() {
            return Ok(FAILED.into());
        }
        match connection.stream.try_write(rest) {
            Ok(length) => {
                written += length;
                // Where the other side takes all at once, others of this thread have their turn all the same.
                tokio::task::consume_budget().await;
            }
            Err(error) if again(error.kind()) => {}
            Err(_) => return Ok(FAILED.into()),
        }
    }
    count(written)
}

fn again(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
