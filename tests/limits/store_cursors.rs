//! Listings that one open bucket can be asked to continue.

use hostel_app::limits::STORE_PAGE;

use crate::harness::keyvalue::KeyValue;

#[test]
fn the_newest_listings_go_on_and_older_ones_are_forgotten() {
    let kv = KeyValue::new();
    let keys = 2 * STORE_PAGE.size();
    assert_eq!(
        kv.default("draft", &format!("do=set-many&value=v&count={keys}")),
        "ok: set"
    );
    // The guest begins twenty listings, goes on with the last and then with the first.
    assert_eq!(
        kv.default("draft", "do=stale"),
        "error: Error::Other(\"the cursor belongs to no listing of this bucket\")"
    );
}
