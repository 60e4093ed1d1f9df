//! `wasi:keyvalue` 0.2.0-draft2: `open` `get` `set` `delete` `exists` `list` `increment` `get-many` `set-many`
//! `delete-many`, `swap` (after another writer has written `between`, if that is given, and `again` after a swap that failed)
//! and `crowd`, which keeps as many buckets open as `count` says.

use crate::{Asked, listed, shown};

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/keyvalue-draft2", world: "imports", generate_all });
}

use bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use bindings::wasi::keyvalue::batch;
use bindings::wasi::keyvalue::store::{Bucket, Error, open};

pub(crate) fn act(asked: &Asked) -> Option<Result<String, String>> {
    let what = asked.text("do");
    Some(act_on(asked, &what)?.map_err(|error| format!("{error:?}")))
}

fn act_on(asked: &Asked, what: &str) -> Option<Result<String, Error>> {
    let store = asked.text("store");
    let bucket = match open(&store) {
        Ok(bucket) => bucket,
        Err(error) => return Some(Err(error)),
    };
    let key = asked.text("key");
    Some(match what {
        "open" => Ok("opened".to_owned()),
        "get" => bucket.get(&key).map(shown),
        "set" => bucket.set(&key, &asked.value()).map(|()| "set".to_owned()),
        "delete" => bucket.delete(&key).map(|()| "deleted".to_owned()),
        "exists" => bucket.exists(&key).map(|there| there.to_string()),
        "list" => list(&bucket),
        "increment" => {
            let delta = asked.text("value").parse().unwrap_or(1);
            atomics::increment(&bucket, &key, delta).map(|sum| sum.to_string())
        }
        "swap" => swap(asked, &bucket, &key),
        "crowd" => {
            let buckets: Result<Vec<Bucket>, Error> = (0..asked.number("count", 0))
                .map(|_| open(&store))
                .collect();
            buckets.map(|buckets| format!("{} open", buckets.len()))
        }
        "get-many" => batch::get_many(&bucket, &asked.keys()).map(|found| {
            let pairs = found
                .into_iter()
                .map(|(key, value)| format!("{key}={}", shown(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }),
        "set-many" => batch::set_many(&bucket, &asked.pairs()).map(|()| "set".to_owned()),
        "delete-many" => batch::delete_many(&bucket, &asked.keys()).map(|()| "deleted".to_owned()),
        _ => return None,
    })
}

fn list(bucket: &Bucket) -> Result<String, Error> {
    let (mut keys, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        keys.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(listed(keys, pages));
        }
    }
}

fn swap(asked: &Asked, bucket: &Bucket, key: &str) -> Result<String, Error> {
    let cas = Cas::new(bucket, key)?;
    let before = shown(cas.current()?);
    if asked.is_given("between") {
        bucket.set(key, asked.text("between").as_bytes())?;
    }
    match atomics::swap(cas, &asked.value()) {
        Ok(()) => Ok(format!("swapped {before}")),
        Err(CasError::StoreError(error)) => Err(error),
        Err(CasError::CasFailed(fresh)) => {
            let now = shown(fresh.current()?);
            let again = match atomics::swap(fresh, &asked.value()) {
                Ok(()) => "then swapped",
                Err(_) => "and again",
            };
            Ok(format!("failed on {now} {again}"))
        }
    }
}
