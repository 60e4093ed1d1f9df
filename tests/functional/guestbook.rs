//! The guest book of `examples/`: one story, with everything in files of the data directory and with everything on servers.
//! Between the two nothing differs but the operator's file.

use std::path::Path;

use hostel_backends::{Nats, Postgres, Redis, S3};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::message::{Answer, get, request};
use crate::harness::server::Server;
use crate::harness::{built, eventually, root};

/// The operator's flags, and what his file finds in the environment.
struct Operator {
    flags: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

struct Book {
    server: Server,
}

impl Book {
    fn open(operator: &Operator, data: &Path) -> Self {
        let app = root().join("examples/guestbook");
        for component in ["web", "herald"] {
            built(&format!("examples/guestbook/{component}.wasm"));
        }
        let flags: Vec<&str> = operator.flags.iter().map(String::as_str).collect();
        let server = Server::launch_with_env(&app, data, &flags, &operator.variables);
        Self { server }
    }

    /// Asks until the status is this one: a machine that is busy may need more than a store's time, which the visitor is told.
    fn ask(&self, status: u16, request: &[u8]) -> Answer {
        eventually("the guest book is open", || {
            let answer = self.server.connect().ask(request);
            let closed = answer.status == 503;
            assert!(
                closed || answer.status == status,
                "{}: {}",
                answer.status,
                answer.text()
            );
            (!closed).then_some(answer)
        })
    }

    fn page(&self) -> String {
        self.ask(200, &get("/")).text()
    }

    /// The number of visits on a page of now.
    fn visits(&self) -> u64 {
        let page = self.page();
        let (before, _) = page.split_once(" visits.").expect("a number of visits");
        let (_, number) = before.rsplit_once('>').expect("a tag");
        number.parse().expect("a number")
    }

    fn sign(&self, form: &str) {
        let fields = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = self.ask(303, &request("POST", "/entries", &fields, form));
        assert_eq!(answer.field("location"), Some("/"));
    }

    fn says(&self, text: &str) {
        eventually(text, || self.page().contains(text).then_some(()));
    }
}

/// Bytes without a pattern, of every value.
fn picture() -> Vec<u8> {
    let mut state: u32 = 0x2545_f491;
    let bytes = (0..3 << 20).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    bytes.collect()
}

/// Visits, signs, uploads, kills the server, and finds everything again: in the same data directory, or without it.
fn is_written_and_kept(operator: &Operator, same_data: bool) {
    let data = tempfile::tempdir().expect("a folder");
    let book = Book::open(operator, data.path());
    let first = book.visits();
    assert!(book.visits() > first, "each visit counts");
    assert!(!book.page().contains("signed last"));

    let picture = picture();
    book.ask(201, &request("PUT", "/pictures/sea.png", &[], &picture));
    assert!(book.ask(200, &get("/pictures/sea.png")).body == picture);
    assert_eq!(book.ask(404, &get("/pictures/none.png")).status, 404);

    book.sign("name=Ada&text=A+%3Cb%3E+and+an+%C3%A4&picture=sea.png");
    book.says(
        "<p>A &lt;b&gt; and an ä</p><img src=\"/pictures/sea.png\" alt=\"\"><footer>Ada</footer>",
    );
    book.says("Ada signed last.");
    book.sign("name=Grace&text=It+works");
    book.says("Grace signed last.");
    let page = book.page();
    let order = [page.find("It works"), page.find("A &lt;b&gt;")].map(|at| at.expect("an entry"));
    assert!(order[0] < order[1], "the newest comes first: {page}");
    let no_name = request("POST", "/entries", &[], "name=+&text=x");
    assert_eq!(book.ask(400, &no_name).status, 400);

    let visits = book.visits();
    book.server.signal(Signal::KILL);
    drop(book);
    let other = tempfile::tempdir().expect("a folder");
    let kept: &TempDir = if same_data { &data } else { &other };
    let book = Book::open(operator, kept.path());
    assert!(book.visits() > visits);
    let page = book.page();
    for text in [
        "Grace signed last.",
        "<p>It works</p><footer>Grace</footer>",
        "<footer>Ada</footer>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(book.ask(200, &get("/pictures/sea.png")).body == picture);
}

#[test]
fn the_guest_book_is_kept_in_files() {
    let operator = Operator {
        flags: Vec::new(),
        variables: Vec::new(),
    };
    is_written_and_kept(&operator, true);
}

#[test]
fn the_same_guest_book_is_kept_on_servers_with_the_operator_s_file() {
    let (redis, nats, postgres, s3) = (
        Redis::start(),
        Nats::start(),
        Postgres::start(),
        S3::start(),
    );
    let file = root().join("examples/guestbook/servers.toml");
    let operator = Operator {
        flags: vec!["--config".to_owned(), file.display().to_string()],
        variables: vec![
            ("REDIS_URL", redis.url()),
            ("NATS_URL", nats.url()),
            ("POSTGRES_URL", postgres.url()),
            ("S3_URL", s3.url()),
        ],
    };
    is_written_and_kept(&operator, false);
}
