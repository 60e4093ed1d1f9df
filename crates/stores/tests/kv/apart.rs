//! Nothing of one scope is ever seen or touched from another, whatever the keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostel_stores::kv::{Kv, When};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::cases::KEYS;
use super::subject::{Subject, all_keys, bytes, put, sorted, value};

/// Names that could be read in two ways if they were only put one after the other.
const SCOPES: &[(&str, &str)] = &[
    ("", "default"),
    ("", "default-x"),
    ("-a", "b-c"),
    ("-a-b", "c"),
    ("_a", "b"),
    ("_a_b", "b"),
];

pub(crate) async fn scopes_do_not_meet(subject: &Subject) {
    let stores: Vec<Arc<dyn Kv>> = SCOPES
        .iter()
        .map(|(app, label)| subject.kv_of(app, label))
        .collect();
    for (number, kv) in stores.iter().enumerate() {
        for key in KEYS {
            assert_eq!(
                value(&**kv, key).await,
                None,
                "{key:?} in {:?}",
                SCOPES[number]
            );
            put(&**kv, key, format!("{number} {key}")).await;
        }
    }
    for (number, kv) in stores.iter().enumerate() {
        for key in KEYS {
            let own = bytes(format!("{number} {key}"));
            assert_eq!(
                value(&**kv, key).await,
                Some(own),
                "{key:?} in {:?}",
                SCOPES[number]
            );
        }
    }
    // What one deletes, all others keep.
    let (first, others) = stores.split_first().unwrap();
    first
        .delete_many(&KEYS.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        .await
        .unwrap();
    assert_eq!(all_keys(&**first, "", 100).await, Vec::<String>::new());
    for kv in others {
        assert_eq!(all_keys(&**kv, "", 100).await.len(), KEYS.len());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(String, u8),
    Delete(String),
    Increment(String),
    Get(String),
    List(String),
    DeleteMany(Vec<String>),
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(KEYS).prop_map(str::to_owned),
        // Few characters, so that keys of two scopes are often the same, or prefixes of each other.
        proptest::collection::vec(
            proptest::sample::select(vec![
                'a', '.', '*', '>', '/', ':', '%', '_', '\0', '\u{e9}', '-'
            ]),
            0..4
        )
        .prop_map(String::from_iter),
        any::<String>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Set(key, value)),
        1 => key().prop_map(Step::Delete),
        1 => key().prop_map(Step::Increment),
        2 => key().prop_map(Step::Get),
        2 => key().prop_map(Step::List),
        1 => proptest::collection::vec(key(), 0..4).prop_map(Step::DeleteMany),
    ]
}

/// Random histories over several scopes: each is a map of its own.
pub(crate) async fn scopes_are_as_apart_as_maps(subject: &Subject) {
    let histories = proptest::collection::vec((0..SCOPES.len(), step()), 1..40);
    let config = Config {
        cases: subject.histories,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config.clone());
    for _ in 0..config.cases {
        let history = histories.new_tree(&mut runner).unwrap().current();
        let stores: Vec<_> = SCOPES
            .iter()
            .map(|(app, label)| subject.kv_of(app, label))
            .collect();
        let mut maps = vec![BTreeMap::new(); SCOPES.len()];
        for (scope, step) in &history {
            apply(&*stores[*scope], &mut maps[*scope], step, &history).await;
        }
        for (kv, map) in stores.iter().zip(&maps) {
            let keys: Vec<String> = map.keys().cloned().collect();
            assert_eq!(all_keys(&**kv, "", 7).await, keys, "{history:?}");
            kv.delete_many(&keys).await.unwrap();
        }
    }
}

async fn apply(
    kv: &dyn Kv,
    map: &mut BTreeMap<String, Vec<u8>>,
    step: &Step,
    history: &[(usize, Step)],
) {
    match step {
        Step::Set(key, number) => {
            put(kv, key, number.to_string()).await;
            map.insert(key.clone(), number.to_string().into_bytes());
        }
        Step::Delete(key) => {
            let deleted = kv.delete(key, When::Always).await;
            assert_eq!(deleted, Ok(map.remove(key).is_some()), "{history:?}");
        }
        Step::Increment(key) => {
            let before = map.get(key).map_or(0, |value| {
                std::str::from_utf8(value).unwrap().parse::<i64>().unwrap()
            });
            assert_eq!(kv.increment(key, 3).await, Ok(before + 3), "{history:?}");
            map.insert(key.clone(), (before + 3).to_string().into_bytes());
        }
        Step::Get(key) => {
            let read = value(kv, key).await.map(|value| value.to_vec());
            assert_eq!(read.as_ref(), map.get(key), "{history:?}");
        }
        Step::List(prefix) => {
            let own = map
                .keys()
                .filter(|key| key.starts_with(prefix.as_str()))
                .cloned();
            assert_eq!(all_keys(kv, prefix, 5).await, sorted(own), "{history:?}");
        }
        Step::DeleteMany(keys) => {
            kv.delete_many(keys).await.unwrap();
            map.retain(|key, _| !keys.contains(key));
        }
    }
}
