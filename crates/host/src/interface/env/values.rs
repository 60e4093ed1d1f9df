//! Values by their keys: those of the component's `config`, and, where it has a grant for the key-value store `default`, those
//! of the store. One that is stored stands before a configured one.

use bytes::Bytes;
use hostel_stores::kv::{SetOptions, When};
use wasmtime::{Linker, Result};

use super::{Guest, MODULE, Place};
use crate::capability::kv::{Bucket, Error};
use crate::state::Host;

/// The store's label.
const STORE: &str = "default";
const DONE: i64 = 0;
const FAILED: i64 = -1;

/// What an instance has of the store.
#[derive(Debug, Default)]
pub(super) struct Values {
    open: Option<Bucket>,
    /// The value of which it was told the length last: what it then gets is that one.
    measured: Option<(String, Bytes)>,
}

/// Puts its functions into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap_async(
        MODULE,
        "db_get",
        |caller, (key, key_length, at, length): (i32, i64, i32, i64)| {
            Box::new(async move { get(&mut Guest(caller), (key, key_length), (at, length)).await })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "db_set",
        |caller, (key, key_length, at, length): (i32, i64, i32, i64)| {
            Box::new(async move {
                let mut guest = Guest(caller);
                let key = guest.text((key, key_length))?;
                let value = guest.bytes((at, length))?;
                change(&mut guest, key, Some(value)).await
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "db_delete", |caller, key: Place| {
        Box::new(async move {
            let mut guest = Guest(caller);
            let key = guest.text(key)?;
            change(&mut guest, key, None).await
        })
    })?;
    Ok(())
}

async fn get(guest: &mut Guest<'_>, key: Place, place: Place) -> Result<i64> {
    let Some(key) = guest.text(key)? else {
        return Ok(FAILED);
    };
    let measured = guest.exchange().values.measured.take();
    let value = match measured {
        Some((measured, value)) if place.1 != 0 && measured == key => Some(value),
        _ => find(guest, &key).await,
    };
    let Some(value) = value else {
        return Ok(FAILED);
    };
    if place.1 == 0 {
        guest.exchange().values.measured = Some((key, value.clone()));
    }
    guest.give(place, &value)
}

/// The value, stored or configured.
async fn find(guest: &mut Guest<'_>, key: &str) -> Option<Bytes> {
    let template = guest.host().template().clone();
    if template.granted.kv.contains_key(STORE) {
        let open = open(guest.host());
        let found = match &open {
            Ok(bucket) => bucket.get(key).await,
            Err(error) => Err(error.clone()),
        };
        guest.exchange().values.open = open.ok();
        match found {
            Ok(Some(entry)) => return Some(entry.value),
            // No store has such a key.
            Ok(None) | Err(Error::TooLarge { .. }) => {}
            Err(error) => {
                guest.trouble(&format!("db_get: {error}"));
                return None;
            }
        }
    }
    match template.settings.get(key) {
        Ok(value) => value.map(|value| Bytes::from(value.expose().to_owned())),
        Err(error) => {
            guest.trouble(&format!("db_get: {error}"));
            None
        }
    }
}

/// Writes a value, or removes one.
async fn change(guest: &mut Guest<'_>, key: Option<String>, value: Option<Vec<u8>>) -> Result<i64> {
    let Some(key) = key else {
        guest.trouble("a value is not kept: its key is not UTF-8");
        return Ok(FAILED);
    };
    guest.exchange().values.measured = None;
    let open = open(guest.host());
    let changed = match (&open, value) {
        (Ok(bucket), Some(value)) => bucket
            .set(&key, value, SetOptions::default())
            .await
            .map(drop),
        (Ok(bucket), None) => bucket.delete(&key, When::Always).await.map(drop),
        (Err(error), _) => Err(error.clone()),
    };
    guest.exchange().values.open = open.ok();
    match changed {
        Ok(()) => Ok(DONE),
        // The log was told by whoever found out.
        Err(Error::Absent(_) | Error::Failed(_)) => Ok(FAILED),
        Err(error) => {
            guest.trouble(&format!("a value is not kept: {error}"));
            Ok(FAILED)
        }
    }
}

/// The store, opened once for an instance.
fn open(host: &mut Host) -> std::result::Result<Bucket, Error> {
    match host.exchange().values.open.take() {
        Some(bucket) => Ok(bucket),
        None => host.find_bucket(STORE),
    }
}
