//! Bytes that one call may move to and from stores.

use crate::harness::keyvalue::KeyValue;

#[test]
fn more_fails_inside_the_guest_whichever_way_the_bytes_go() {
    let kv = KeyValue::with(&["--limit", "store_bytes=10000B"]);
    for _ in 0..2 {
        assert_eq!(
            kv.default("draft", "do=set&key=k&bytes=4000&times=2"),
            "ok: set"
        );
        assert_eq!(
            kv.default("draft", "do=get&key=k&times=2"),
            "ok: 4000 bytes"
        );
        for refused in ["do=set&key=k&bytes=4000&times=3", "do=get&key=k&times=3"] {
            let refused = kv.default("draft", refused);
            assert!(refused.contains("its limit `store_bytes`"), "{refused}");
        }
    }
}
