//! Operations on stores that one call may make.

use crate::harness::keyvalue::KeyValue;

#[test]
fn one_more_fails_inside_the_guest_and_the_next_call_starts_anew() {
    // One operation opens the bucket.
    for settings in ["", "reuse = 100"] {
        let kv = KeyValue::of(settings, &["--limit", "store_calls=4"]);
        for _ in 0..3 {
            assert_eq!(kv.default("draft", "do=get&key=k&times=3"), "ok: none");
            let refused = kv.default("draft", "do=get&key=k&times=4");
            assert_eq!(
                refused,
                "error: Error::Other(\"this call has made 4 store operations, its limit `store_calls`\")"
            );
        }
        let typed = KeyValue::of(settings, &["--limit", "store_calls=1"]);
        let refused = typed.default("hostel", "do=get&key=k");
        assert!(
            refused.starts_with("error: Error::LimitReached"),
            "{refused}"
        );
        assert!(!kv.server.stderr().text().contains("fault="));
    }
}
