//! Blobs of a guest, kept in the data directory and on S3: what `wasi:blobstore` does.

use hostel_backends::S3;

use crate::harness::app::App;
use crate::harness::message::{Answer, post, request, sized_head};
use crate::harness::server::Server;

/// Two containers, and none else.
const GRANTS: &str = "[component.web.grants]\nblobstore = [\"uploads\", \"archive\"]";

/// A server with a data directory of its own.
struct Blobs {
    app: App,
    data: tempfile::TempDir,
    server: Server,
}

impl Blobs {
    fn new() -> Self {
        Self::with("", &[])
    }

    /// With further settings of the component, and flags.
    fn with(settings: &str, flags: &[&str]) -> Self {
        let app = App::of("blob-p2", &format!("{settings}\n{GRANTS}"));
        let data = tempfile::tempdir().expect("a folder");
        let server = Server::launch(app.folder(), data.path(), flags);
        Self { app, data, server }
    }

    /// The same guest, with `uploads` on a server; `archive` stays in the data directory.
    fn on(server: &S3) -> Self {
        let app = App::of("blob-p2", GRANTS).with_file(
            "server.toml",
            format!(
                "[blobstore.uploads]\nurl = \"{}\"\ntimeout = \"20s\"\n",
                server.url()
            ),
        );
        let data = tempfile::tempdir().expect("a folder");
        let config = app.path("server.toml").display().to_string();
        let server = Server::launch(app.folder(), data.path(), &["--config", &config]);
        Self { app, data, server }
    }

    fn put(&self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.server.connect().ask(&post(target, body))
    }

    fn stored(&self, target: &str, body: impl AsRef<[u8]>) {
        let bytes = body.as_ref().len();
        let answer = self.put(target, body);
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("stored {bytes} bytes\n"))
        );
    }

    fn page(&self, target: &str) -> String {
        self.server.page(target)
    }

    /// The error of a request that fails.
    fn error(&self, target: &str) -> String {
        let answer = self.server.get(target);
        assert_eq!(answer.status, 500, "{target}: {}", answer.text());
        answer.text()
    }

    fn deleted(&self, target: &str) {
        let answer = self
            .server
            .connect()
            .ask(&request("DELETE", target, &[], ""));
        assert_eq!((answer.status, answer.text().as_str()), (200, "deleted\n"));
    }
}

#[test]
fn an_object_is_put_read_and_deleted() {
    let blobs = Blobs::new();
    blobs.stored("/?name=a.txt", "some text");
    assert_eq!(blobs.page("/?name=a.txt"), "some text");
    assert_eq!(blobs.page("/?name=a.txt&how=sync"), "some text");
    assert_eq!(blobs.page("/?info=a.txt"), "a.txt in uploads: 9 bytes\n");
    assert_eq!(blobs.page("/?has=a.txt"), "true\n");
    blobs.stored("/?name=a.txt", "other");
    assert_eq!(blobs.page("/?name=a.txt"), "other");
    blobs.stored("/?name=empty", "");
    assert_eq!(
        blobs.page("/?name=empty") + &blobs.page("/?name=empty&how=sync"),
        ""
    );
    blobs.deleted("/?name=a.txt");
    assert_eq!(blobs.page("/?has=a.txt"), "false\n");
    let gone = "there is no object `a.txt` in container `uploads`\n";
    assert_eq!(blobs.error("/?name=a.txt"), gone);
    assert_eq!(blobs.error("/?info=a.txt"), gone);
    blobs.deleted("/?name=a.txt");
}

#[test]
fn the_body_is_written_before_or_after_the_host_knows_where_it_goes() {
    let blobs = Blobs::new();
    let body = "0123456789abcdef".repeat(64 << 10);
    for order in ["before", "after"] {
        blobs.stored(&format!("/?name={order}&order={order}"), &body);
        assert_eq!(blobs.page(&format!("/?name={order}")), body);
    }
}

#[test]
fn the_same_guest_keeps_its_objects_on_s3() {
    let mut s3 = S3::start();
    let blobs = Blobs::on(&s3);
    let large = "0123456789abcdef".repeat(450 << 10);
    for order in ["before", "after"] {
        blobs.stored(&format!("/?name=a/{order}&order={order}"), &large);
        assert_eq!(blobs.page(&format!("/?name=a/{order}")), large);
    }
    blobs.stored("/?name=digits", "0123456789");
    assert_eq!(blobs.page("/?name=digits&start=2&end=4"), "234");
    assert_eq!(
        blobs.page("/?list=1&len=2"),
        "skipped 0: a/after a/before digits\n"
    );
    assert_eq!(blobs.page("/?copy=digits&to=here&into=archive"), "copied\n");
    assert_eq!(blobs.page("/?move=digits&to=moved"), "moved\n");
    assert_eq!(
        blobs.page("/?c=archive&name=here") + &blobs.page("/?name=moved"),
        "01234567890123456789"
    );
    let kept = s3.folder().join("tests/test/uploads/o/moved");
    assert_eq!(
        std::fs::read_to_string(kept).expect("the object"),
        "0123456789"
    );
    // A server that is down is an error of the operation, and nothing else.
    s3.kill();
    let error = blobs.error("/?name=moved");
    assert!(error.starts_with("the store cannot be reached"), "{error}");
    assert!(!error.contains(s3.secret()));
    assert_eq!(blobs.page("/?c=archive&name=here"), "0123456789");
    s3.restart();
    crate::harness::eventually("it is back", || {
        (blobs.server.get("/?name=moved").status == 200).then_some(())
    });
    blobs.deleted("/?name=a/after,a/before,moved");
    assert_eq!(blobs.page("/?list=1"), "skipped 0: \n");
}

#[test]
fn a_part_of_an_object_is_read() {
    let blobs = Blobs::new();
    blobs.stored("/?name=digits", "0123456789");
    for (part, text) in [
        ("start=2&end=4", "234"),
        ("start=0&end=0", "0"),
        ("start=7&end=100", "789"),
        ("start=10&end=20", ""),
        ("start=5&end=4", ""),
    ] {
        assert_eq!(blobs.page(&format!("/?name=digits&{part}")), text, "{part}");
        assert_eq!(
            blobs.page(&format!("/?name=digits&how=sync&{part}")),
            text,
            "{part}"
        );
    }
}

#[test]
fn names_are_listed_copied_moved_and_cleared() {
    let blobs = Blobs::new();
    for number in 0..25 {
        blobs.stored(&format!("/?name=n{number:02}"), "x");
    }
    let names = |from: usize| {
        let names: Vec<_> = (from..25).map(|number| format!("n{number:02}")).collect();
        format!("skipped {}: {}\n", from.min(25), names.join(" "))
    };
    assert_eq!(blobs.page("/?list=1"), names(0));
    assert_eq!(blobs.page("/?list=1&len=7&skip=4"), names(4));
    assert_eq!(blobs.page("/?list=1&skip=100"), "skipped 25: \n");
    blobs.deleted("/?name=n00,n01,none");
    assert_eq!(blobs.page("/?has=n01"), "false\n");
    blobs.stored("/?name=a", "content");
    assert_eq!(blobs.page("/?copy=a&to=b"), "copied\n");
    assert_eq!(blobs.page("/?copy=a&to=c&into=archive"), "copied\n");
    assert_eq!(
        blobs.page("/?name=b") + &blobs.page("/?c=archive&name=c"),
        "contentcontent"
    );
    assert_eq!(blobs.page("/?move=b&to=d&into=archive"), "moved\n");
    assert_eq!(
        blobs.page("/?has=b") + &blobs.page("/?c=archive&name=d"),
        "false\ncontent"
    );
    assert_eq!(blobs.page("/?move=a&to=a"), "moved\n");
    assert_eq!(blobs.page("/?name=a"), "content");
    assert!(
        blobs
            .error("/?copy=none&to=x&into=archive")
            .starts_with("there is no object `none`")
    );
    assert_eq!(blobs.page("/?clear=1"), "cleared\n");
    assert_eq!(blobs.page("/?list=1"), "skipped 0: \n");
    assert_eq!(blobs.page("/?c=archive&list=1"), "skipped 0: c d\n");
}

#[test]
fn a_container_is_provided_by_its_grant_and_can_be_deleted() {
    let blobs = Blobs::new();
    assert_eq!(blobs.page("/?container=exists"), "false\n");
    assert_eq!(blobs.page("/?container=info"), "uploads\n");
    assert_eq!(blobs.page("/?container=exists"), "true\n");
    assert_eq!(blobs.page("/?container=create"), "uploads\n");
    blobs.stored("/?name=a", "x");
    assert_eq!(blobs.page("/?container=create"), "uploads\n");
    assert_eq!(blobs.page("/?has=a"), "true\n", "it was there");
    assert_eq!(
        blobs.page("/?container=delete") + &blobs.page("/?container=delete"),
        "deleted\ndeleted\n"
    );
    assert_eq!(
        blobs.page("/?container=exists") + &blobs.page("/?has=a"),
        "false\nfalse\n"
    );
}

#[test]
fn another_container_is_denied_and_the_log_says_how_to_grant_it() {
    let blobs = Blobs::new();
    for query in [
        "container=create",
        "container=exists",
        "container=delete",
        "name=a",
        "copy=a&to=b",
    ] {
        let error = blobs.error(&format!("/?c=private&{query}"));
        assert_eq!(
            error,
            "access denied: the container `private` is not granted to this component\n"
        );
    }
    assert!(
        blobs
            .error("/?copy=a&to=b&into=elsewhere")
            .starts_with("access denied")
    );
    assert!(
        blobs
            .error("/?c=../x&list=1")
            .starts_with("there is no container `../x`")
    );
    blobs
        .server
        .stderr()
        .wait_for("add blobstore = [\"private\"] to [component.web.grants]");
    blobs.stored("/?name=a", "fine");
}

#[test]
fn a_value_that_is_not_finished_is_not_stored() {
    let blobs = Blobs::new();
    blobs.stored("/?name=a", "old");
    for (end, text) in [("drop", "dropped\n"), ("leave", "left\n")] {
        for order in ["before", "after"] {
            let answer = blobs.put(
                &format!("/?name=a&end={end}&order={order}"),
                "new and longer",
            );
            assert_eq!((answer.status, answer.text().as_str()), (200, text));
            assert_eq!(blobs.page("/?name=a"), "old", "{end} {order}");
        }
    }
    // A client that goes away in the middle of its upload.
    let mut client = blobs.server.connect();
    client.send(sized_head("/?name=a", 1 << 20));
    client.send([b'x'; 1000]);
    drop(client);
    blobs.server.comes_to_rest();
    assert_eq!(blobs.page("/?name=a"), "old");
    let temporary = blobs.data.path().join("state/test/blobs/uploads/temporary");
    crate::harness::eventually("nothing half written is left", || {
        (std::fs::read_dir(&temporary).ok()?.count() == 0).then_some(())
    });
}

#[test]
fn what_a_guest_leaves_open_ends_with_it() {
    let blobs = Blobs::new();
    blobs.stored("/?name=a", vec![b'a'; 300_000]);
    blobs.page("/?name=a&open=40");
    blobs.server.comes_to_rest();
    let (files, memory) = (blobs.server.open_files(), blobs.server.memory_now());
    for _ in 0..20 {
        assert_eq!(blobs.page("/?name=a&open=40"), "left 40 open\n");
    }
    crate::harness::eventually("the files are closed", || {
        (blobs.server.open_files() <= files + 4).then_some(())
    });
    let grown = blobs.server.memory_now().saturating_sub(memory);
    assert!(grown < 32 << 20, "it grew by {grown} bytes");
    assert_eq!(blobs.page("/?list=1"), "skipped 0: a\n");
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let mut blobs = Blobs::new();
    blobs.stored("/?name=a", "kept");
    blobs.server.signal(rustix::process::Signal::KILL);
    blobs.server.end();
    blobs.server = Server::launch(blobs.app.folder(), blobs.data.path(), &[]);
    assert_eq!(blobs.page("/?name=a"), "kept");
}

#[test]
fn sixty_four_mebibytes_pass_through_a_guest_in_a_few_of_memory() {
    const BYTES: usize = 64 << 20;
    let blobs = Blobs::with("limits = { cpu = \"60s\", deadline = \"2m\" }", &[]);
    blobs.stored("/?name=warm", vec![b'w'; 1 << 20]);
    blobs.page("/?name=warm");
    let before = blobs.server.memory_peak();
    let mut client = blobs.server.connect();
    client.send(sized_head("/?name=large", BYTES));
    for piece in 0..BYTES >> 16 {
        client.send(vec![piece as u8; 64 << 10]);
    }
    assert_eq!(client.answer().text(), format!("stored {BYTES} bytes\n"));
    let answer = blobs.server.get("/?name=large");
    assert_eq!(answer.body.len(), BYTES);
    let pieces = answer.body.chunks(64 << 10).enumerate();
    assert!(
        pieces
            .into_iter()
            .all(|(at, piece)| piece.iter().all(|byte| *byte == at as u8))
    );
    let grown = blobs.server.memory_peak() - before;
    assert!(grown < 32 << 20, "it grew by {grown} bytes");
}
