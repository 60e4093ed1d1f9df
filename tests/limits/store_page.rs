//! Keys of one page of a listing.

use hostel_app::limits::{STORE_BATCH, STORE_PAGE};

use crate::harness::keyvalue::KeyValue;

#[test]
fn a_longer_listing_comes_in_pages_and_is_complete() {
    let kv = KeyValue::new();
    let keys = 2 * STORE_PAGE.size();
    assert!(keys <= STORE_BATCH.size());
    assert_eq!(
        kv.default("draft", &format!("do=set-many&value=v&count={keys}")),
        "ok: set"
    );
    // No page has more than twice what was asked for.
    for (api, query) in [
        ("draft", ""),
        ("draft2", ""),
        ("hostel", "&limit=4294967295"),
    ] {
        let listed = kv.default(api, &format!("do=list{query}"));
        let pages = listed
            .strip_prefix(&format!("ok: {keys} in "))
            .expect(&listed);
        let pages: usize = pages.parse().expect("a number");
        assert!((1..=4).contains(&pages), "{api}: {pages} pages");
    }
    let listed = kv.default("hostel", "do=list&limit=0&prefix=k0000");
    assert_eq!(
        listed.split(" in ").next(),
        Some("ok: k00000 k00001 k00002 k00003 k00004 k00005 k00006 k00007 k00008 k00009")
    );
}
