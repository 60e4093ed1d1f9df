//! Size of one value that is written.

use crate::harness::keyvalue::KeyValue;

#[test]
fn a_larger_value_fails_inside_the_guest() {
    let kv = KeyValue::with(&["--limit", "store_value=2000B"]);
    for (api, what) in [
        ("draft", "set"),
        ("draft2", "set-many"),
        ("hostel", "set-many"),
    ] {
        assert_eq!(
            kv.default(api, &format!("do={what}&key=k&bytes=2000")),
            "ok: set"
        );
        let refused = kv.default(api, &format!("do={what}&key=k&bytes=2001"));
        assert!(
            refused.contains("a value of 2001 is larger than 2000, the limit `store_value`"),
            "{refused}"
        );
    }
    let typed = kv.default("hostel", "do=set&key=k&bytes=2001");
    assert!(typed.starts_with("error: Error::TooLarge"), "{typed}");
    assert_eq!(kv.default("draft", "do=get&key=k"), "ok: 2000 bytes");
}
