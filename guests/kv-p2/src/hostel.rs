//! `hostel:keyvalue`: `open` `get` `read` `set` (with `ttl` in milliseconds and `when`: `absent`, or `unchanged` after another
//! writer has written `between`) `delete` `exists` `list` (with `prefix` and `limit`; `cursor` gives one that nobody gave)
//! `increment` `get-many` `set-many` `delete-many`.

use crate::{Asked, listed, shown};

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/hostel-keyvalue", world: "imports", generate_all });
}

use bindings::hostel::keyvalue::store::{Bucket, Condition, Error};

pub(crate) fn act(asked: &Asked) -> Option<Result<String, String>> {
    let what = asked.text("do");
    Some(act_on(asked, &what)?.map_err(|error| format!("{error:?}")))
}

fn act_on(asked: &Asked, what: &str) -> Option<Result<String, Error>> {
    let bucket = match Bucket::open(&asked.text("store")) {
        Ok(bucket) => bucket,
        Err(error) => return Some(Err(error)),
    };
    let key = asked.text("key");
    Some(match what {
        "open" => Ok("opened".to_owned()),
        "get" => bucket.get(&key).map(shown),
        "read" => bucket
            .read(&key)
            .map(|entry| shown(entry.map(|entry| entry.value))),
        "set" => set(asked, &bucket, &key).map(|written| written.to_string()),
        "delete" => condition(asked, &bucket, &key)
            .and_then(|when| bucket.delete(&key, &when))
            .map(|gone| gone.to_string()),
        "exists" => bucket.exists(&key).map(|there| there.to_string()),
        "list" => list(asked, &bucket),
        "increment" => {
            let delta = asked.text("value").parse().unwrap_or(1);
            bucket.increment(&key, delta).map(|sum| sum.to_string())
        }
        "get-many" => bucket.get_many(&asked.keys()).map(|found| {
            let values = found.into_iter().map(shown);
            values.collect::<Vec<_>>().join(" ")
        }),
        "set-many" => bucket.set_many(&asked.pairs()).map(|()| "set".to_owned()),
        "delete-many" => bucket
            .delete_many(&asked.keys())
            .map(|()| "deleted".to_owned()),
        _ => return None,
    })
}

fn set(asked: &Asked, bucket: &Bucket, key: &str) -> Result<bool, Error> {
    let ttl = asked.is_given("ttl").then(|| asked.number("ttl", 0));
    let when = condition(asked, bucket, key)?;
    bucket.set(key, &asked.value(), &when, ttl)
}

fn condition(asked: &Asked, bucket: &Bucket, key: &str) -> Result<Condition, Error> {
    let when = match asked.text("when").as_str() {
        "absent" => Condition::Absent,
        "unchanged" => bucket
            .read(key)?
            .map_or(Condition::Absent, Condition::Unchanged),
        _ => Condition::Always,
    };
    if asked.is_given("between") {
        bucket.set(
            key,
            asked.text("between").as_bytes(),
            &Condition::Always,
            None,
        )?;
    }
    Ok(when)
}

fn list(asked: &Asked, bucket: &Bucket) -> Result<String, Error> {
    let (prefix, limit) = (asked.text("prefix"), asked.number("limit", 100) as u32);
    let mut cursor = asked.is_given("cursor").then(|| asked.text("cursor"));
    let (mut keys, mut pages) = (Vec::new(), 0);
    loop {
        let page = bucket.list_keys(&prefix, cursor.as_deref(), limit)?;
        keys.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(listed(keys, pages));
        }
    }
}
