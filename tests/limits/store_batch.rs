//! Keys of one batch operation.

use hostel_app::limits::STORE_BATCH;

use crate::harness::keyvalue::KeyValue;

#[test]
fn a_larger_batch_fails_inside_the_guest() {
    let kv = KeyValue::new();
    let most = STORE_BATCH.size();
    for what in ["set-many", "get-many", "delete-many"] {
        let within = kv.default("draft2", &format!("do={what}&value=v&count={most}"));
        assert!(within.starts_with("ok: "), "{what}: {within}");
        for api in ["draft", "draft2", "hostel"] {
            let refused = kv.default(api, &format!("do={what}&value=v&count={}", most + 1));
            assert!(
                refused.contains("the limit `store_batch`"),
                "{what}: {refused}"
            );
        }
    }
}
