//! Bytes of blobs that the host holds for one instance.

use crate::harness::app::App;
use crate::harness::message::post;
use crate::harness::server::Server;

const MANIFEST: &str =
    "limits = { blob_bytes = \"1MiB\" }\n[component.web.grants]\nblobstore = [\"uploads\"]";

#[test]
fn a_larger_body_needs_its_place_first_and_a_larger_value_a_stream() {
    let app = App::of("blob-p2", MANIFEST);
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::launch(app.folder(), data.path(), &[]);
    let put = |target: &str, bytes: usize| server.connect().ask(&post(target, vec![b'x'; bytes]));
    assert_eq!(
        put("/?name=a&order=before", 1 << 20).text(),
        "stored 1048576 bytes\n"
    );
    let refused = put("/?name=b&order=before", (1 << 20) + 1);
    assert_eq!(refused.status, 500);
    assert!(
        refused.text().contains("the limit `blob_bytes`"),
        "{}",
        refused.text()
    );
    assert_eq!(put("/?name=b", 3 << 20).text(), "stored 3145728 bytes\n");

    assert_eq!(server.page("/?name=a&how=sync").len(), 1 << 20);
    let refused = server.get("/?name=b&how=sync");
    assert_eq!(refused.status, 500);
    assert!(
        refused.text().contains("its limit `blob_bytes`"),
        "{}",
        refused.text()
    );
    assert_eq!(server.page("/?name=b&how=sync&start=5&end=1000").len(), 996);
    assert_eq!(server.page("/?name=b").len(), 3 << 20);
}
