//! Size of one key.

use crate::harness::keyvalue::KeyValue;

#[test]
fn a_longer_key_fails_inside_the_guest() {
    let kv = KeyValue::with(&["--limit", "store_key=20B"]);
    let (fits, longer) = ("k".repeat(20), "k".repeat(21));
    assert_eq!(
        kv.default("draft", &format!("do=set&value=v&key={fits}")),
        "ok: set"
    );
    for (what, api) in [
        ("set&value=v", "draft"),
        ("get", "draft2"),
        ("get-many", "hostel"),
    ] {
        let refused = kv.default(api, &format!("do={what}&key={longer}"));
        assert!(
            refused.contains("a key of 21 is larger than 20, the limit `store_key`"),
            "{refused}"
        );
    }
    assert_eq!(kv.default("draft", "do=list"), format!("ok: {fits} in 1"));
}
