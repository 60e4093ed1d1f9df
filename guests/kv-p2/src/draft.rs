//! `wasi:keyvalue` 0.2.0-draft: `open` `get` `set` `delete` `exists` `list` `stale` `increment` `get-many` `set-many`
//! `delete-many`; `get` and `set` as many `times` as asked.

use crate::{Asked, listed, shown};

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/keyvalue", world: "imports", generate_all });
}

use bindings::wasi::keyvalue::store::{Error, open};
use bindings::wasi::keyvalue::{atomics, batch};

pub(crate) fn act(asked: &Asked) -> Option<Result<String, String>> {
    let what = asked.text("do");
    Some(act_on(asked, &what)?.map_err(|error| format!("{error:?}")))
}

fn act_on(asked: &Asked, what: &str) -> Option<Result<String, Error>> {
    let bucket = match open(&asked.text("store")) {
        Ok(bucket) => bucket,
        Err(error) => return Some(Err(error)),
    };
    let key = asked.text("key");
    let times = asked.number("times", 1);
    Some(match what {
        "open" => Ok("opened".to_owned()),
        "get" => (1..times)
            .try_for_each(|_| bucket.get(&key).map(drop))
            .and_then(|()| bucket.get(&key))
            .map(shown),
        "set" => {
            let value = asked.value();
            (0..times)
                .try_for_each(|_| bucket.set(&key, &value))
                .map(|()| "set".to_owned())
        }
        "delete" => bucket.delete(&key).map(|()| "deleted".to_owned()),
        "exists" => bucket.exists(&key).map(|there| there.to_string()),
        "list" => list(&bucket),
        "stale" => stale(&bucket),
        "increment" => {
            atomics::increment(&bucket, &key, asked.number("value", 1)).map(|sum| sum.to_string())
        }
        "get-many" => batch::get_many(&bucket, &asked.keys()).map(|found| {
            let pairs = found.into_iter().map(|pair| match pair {
                Some((key, value)) => format!("{key}={}", shown(Some(value))),
                None => "none".to_owned(),
            });
            pairs.collect::<Vec<_>>().join(" ")
        }),
        "set-many" => batch::set_many(&bucket, &asked.pairs()).map(|()| "set".to_owned()),
        "delete-many" => batch::delete_many(&bucket, &asked.keys()).map(|()| "deleted".to_owned()),
        _ => return None,
    })
}

fn list(bucket: &bindings::wasi::keyvalue::store::Bucket) -> Result<String, Error> {
    let (mut keys, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let page = bucket.list_keys(cursor)?;
        keys.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(listed(keys, pages));
        }
    }
}

/// Begins twenty listings, then goes on with the last one and with the first.
fn stale(bucket: &bindings::wasi::keyvalue::store::Bucket) -> Result<String, Error> {
    let mut cursors = Vec::new();
    for _ in 0..20 {
        cursors.extend(bucket.list_keys(None)?.cursor);
    }
    let newest = bucket.list_keys(cursors.last().copied())?;
    assert!(!newest.keys.is_empty());
    bucket
        .list_keys(cursors.first().copied())
        .map(|page| format!("{} keys", page.keys.len()))
}
