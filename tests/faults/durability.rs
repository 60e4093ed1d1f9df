//! `kill -9` at any moment: what was acknowledged is there when the next process answers, and nothing is torn. Key-value,
//! blobs, SQL and messages at once, in one app, over a hundred deaths of one data directory.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::app::App;
use crate::harness::http::Connection;
use crate::harness::message::{get, post};
use crate::harness::server::Server;
use crate::harness::{data, eventually};

const MANIFEST: &str = r#"
[app]
name = "durability"

[[http]]
route = "/kv"
component = "kv"

[[http]]
route = "/blob"
component = "blob"

[[http]]
route = "/sql"
component = "sql"

[[http]]
route = "/message"
component = "message"

[[message]]
topic = "numbers"
component = "keeper"

[component.kv]
source = "kv-p2.wasm"
grants = { keyvalue = ["default", "handled"] }

[component.blob]
source = "blob-p2.wasm"
grants = { blobstore = ["uploads"] }

[component.sql]
source = "sql-p2.wasm"
grants = { sql = ["main"] }

[component.message]
source = "messages-p2.wasm"
grants = { messaging = { publish = ["numbers"] } }

[component.keeper]
source = "keeper-p2.wasm"
grants = { keyvalue = ["handled"] }
"#;

/// Deaths of the process.
const ROUNDS: u64 = 100;
/// Writers of each kind, which write at the same time.
const WRITERS: u64 = 3;
/// Numbers of one writer in one round; none gets near it.
const NUMBERS: u64 = 100_000;
/// A process answers in much less than 2 s (the test prints the figure); this is what it may take on a machine that is busy.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How a number is written, and how it is known to be acknowledged.
type Write = fn(&mut Connection, u64) -> bool;

const KINDS: [(&str, Write); 4] = [
    ("key-value", write_pair),
    ("blobs", write_blob),
    ("sql", write_rows),
    ("messages", send_message),
];

/// Whether the whole answer came and is this one.
fn answers(connection: &mut Connection, request: &[u8], end: &str) -> bool {
    connection.try_send(request);
    connection
        .try_answer()
        .is_ok_and(|answer| answer.status == 200 && answer.text().ends_with(end))
}

/// Two keys at once.
fn write_pair(connection: &mut Connection, number: u64) -> bool {
    let value = value(number);
    let target =
        format!("/kv?api=hostel&store=default&do=set-many&key=a{number},b{number}&value={value}");
    answers(connection, &get(&target), "ok: set\n")
}

/// An object of its own, or every second time the same one anew.
fn write_blob(connection: &mut Connection, number: u64) -> bool {
    let object = object(number);
    let target = format!("/blob?name={}", object_name(number));
    let end = format!("stored {} bytes\n", object.len());
    answers(connection, &post(&target, object), &end)
}

/// Two rows in a transaction.
fn write_rows(connection: &mut Connection, number: u64) -> bool {
    let insert = |half: u64| {
        let text = value(number);
        format!("execute INSERT INTO numbers VALUES ($1, $2, $3)\ti:{number}\ti:{half}\tt:{text}\n")
    };
    let script = format!("begin\n{}{}commit\n", insert(1), insert(2));
    answers(connection, &post("/sql", script), "begun\n1\n1\ncommit\n")
}

fn send_message(connection: &mut Connection, number: u64) -> bool {
    let target = format!("/message?send=numbers&text=m{number}");
    answers(connection, &get(&target), "sent\n")
}

/// As long as the guest still shows it whole.
fn value(number: u64) -> String {
    format!("{number:010}").repeat(10)
}

/// From 10 bytes to 40 KiB.
fn object(number: u64) -> String {
    format!("{number:010}").repeat(1 + (number as usize * 7919) % 4096)
}

fn object_name(number: u64) -> String {
    match number % 2 {
        0 => format!("same{}", number / NUMBERS % WRITERS),
        _ => format!("o{number}"),
    }
}

/// Pauses of a length that nobody knows before.
struct Chance(RandomState, u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.1 += 1;
        self.0.hash_one(self.1) % bound
    }
}

/// What was acknowledged to one writer of each kind.
type Acknowledged = [Vec<u64>; 4];

/// Where the writers of a round begin.
fn firsts(round: u64) -> impl Iterator<Item = u64> {
    (0..WRITERS).map(move |writer| (round * WRITERS + writer) * NUMBERS)
}

/// Writes numbers from `first` on until the server is gone.
fn writer(
    address: SocketAddr,
    write: Write,
    first: u64,
    begin: Arc<Barrier>,
) -> JoinHandle<Vec<u64>> {
    thread::spawn(move || {
        let connection = Connection::open(address);
        begin.wait();
        let mut connection = connection.expect("the server accepts");
        (first..first + NUMBERS)
            .take_while(|number| write(&mut connection, *number))
            .collect()
    })
}

struct Process {
    server: Server,
    /// From its start to its first answer, which needs a store.
    took: Duration,
}

impl Process {
    fn start(app: &App) -> Self {
        let begin = Instant::now();
        let server = app.up();
        server.page("/kv?api=hostel&store=default&do=get&key=none");
        let took = begin.elapsed();
        Self { server, took }
    }

    /// Lets all four write and kills the process after so long; what was acknowledged.
    fn written_until_killed(mut self, round: u64, after: Duration) -> Vec<Acknowledged> {
        let begin = Arc::new(Barrier::new(KINDS.len() * WRITERS as usize + 1));
        let address = self.server.address();
        let writers: Vec<_> = firsts(round)
            .map(|first| KINDS.map(|(_, write)| writer(address, write, first, begin.clone())))
            .collect();
        begin.wait();
        thread::park_timeout(after);
        self.server.signal(Signal::KILL);
        self.server.end();
        let written = |writer: JoinHandle<Vec<u64>>| writer.join().expect("a writer ends well");
        writers
            .into_iter()
            .map(|kinds| kinds.map(written))
            .collect()
    }

    fn page(&self, target: &str) -> String {
        self.server.page(target)
    }

    fn sql(&self, query: &str) -> String {
        let script = format!("query {query}");
        let answer = self.server.connect().ask(&post("/sql", script));
        answer.text().trim_end().to_owned()
    }

    /// Everything that was acknowledged to these writers is there, and what else they wrote is whole.
    fn keeps(&self, first: u64, written: &Acknowledged) {
        let [pairs, objects, rows, messages] = written;
        let next = pairs.len() as u64 + first;
        // One more than was acknowledged: the write that the death interrupted.
        for number in pairs.iter().copied().chain([next]) {
            let keys = format!("a{number},b{number}");
            let found = self.page(&format!(
                "/kv?api=hostel&store=default&do=get-many&key={keys}"
            ));
            let (value, acknowledged) = (value(number), number < next);
            let both = found == format!("ok: {value} {value}\n");
            let none = !acknowledged && found == "ok: none none\n";
            assert!(both || none, "{number}: {found}");
        }
        let interrupted = objects.len() as u64 + first;
        for number in objects.iter().copied().chain([interrupted]) {
            self.keeps_object(number, number < interrupted);
        }
        let numbers = self.sql(&format!(
            "SELECT number FROM numbers WHERE number >= {first} AND number < {first} + {NUMBERS} GROUP BY number ORDER BY number"
        ));
        let acknowledged: Vec<String> = rows.iter().map(u64::to_string).collect();
        assert!(
            numbers.starts_with(&acknowledged.join(";")),
            "{numbers}: {rows:?}"
        );
        eventually("the messages are handled", || {
            self.handled(messages).then_some(())
        });
    }

    fn keeps_object(&self, number: u64, acknowledged: bool) {
        let name = object_name(number);
        let answer = self.server.get(&format!("/blob?name={name}"));
        let content = answer.text();
        if name.starts_with("same") {
            // Of what was written in turn, the last acknowledged one or one that came later; always a whole one.
            if answer.status == 200 {
                let found: u64 = content[..10].parse().expect("a number");
                assert!(content == object(found), "{found} is torn");
                assert!(!acknowledged || found >= number, "{number}, not {found}");
            }
            assert!(!acknowledged || answer.status == 200, "{number} is gone");
            return;
        }
        let whole = answer.status == 200 && content == object(number);
        let none = !acknowledged && content.starts_with("there is no object");
        let length = content.len();
        assert!(whole || none, "{number}: {}, {length} bytes", answer.status);
    }

    /// Numbers that have one row, or a row that is not complete.
    fn torn_rows(&self) -> String {
        self.sql(
            "SELECT count(*) FROM (SELECT number FROM numbers GROUP BY number HAVING count(*) <> 2 OR sum(half) <> 3 \
             OR min(length(text)) <> 100 OR min(text) <> max(text))",
        )
    }

    /// Whether each message has been handled, at least once.
    fn handled(&self, messages: &[u64]) -> bool {
        messages.chunks(100).all(|some| {
            let keys: Vec<String> = some.iter().map(|number| format!("m{number}")).collect();
            let keys = keys.join(",");
            let counts = self.page(&format!(
                "/kv?api=hostel&store=handled&do=get-many&key={keys}"
            ));
            !counts.contains("none")
        })
    }
}

#[test]
fn whenever_the_process_is_killed_what_was_acknowledged_is_kept_and_nothing_is_torn() {
    // Compiled code is shared with other tests; what this app kept the last time is not there any more.
    let state = data().join("state/durability");
    if state.exists() {
        std::fs::remove_dir_all(&state).expect("the last run's files are removed");
    }
    let app = App::new(MANIFEST);
    let mut chance = Chance(RandomState::new(), 0);
    let begin = Instant::now();
    let mut process = Process::start(&app);
    assert!(state.is_dir());
    let made = "execute CREATE TABLE numbers (number INTEGER, half INTEGER, text TEXT, PRIMARY KEY (number, half))";
    process.server.connect().ask(&post("/sql", made));

    let (mut acknowledged, mut worst) = (Acknowledged::default(), Duration::ZERO);
    for round in 1..=ROUNDS {
        let after = Duration::from_micros(1000 + chance.below(29_000));
        let written = process.written_until_killed(round, after);
        process = Process::start(&app);
        worst = worst.max(process.took);
        for (first, written) in firsts(round).zip(written) {
            process.keeps(first, &written);
            for (all, new) in acknowledged.iter_mut().zip(written) {
                all.extend(new);
            }
        }
        assert_eq!(process.torn_rows(), "0");
    }
    // And all of it, also what many deaths went over.
    let [pairs, _, rows, messages] = &acknowledged;
    for some in pairs.chunks(100) {
        let keys: Vec<String> = some.iter().map(|number| format!("b{number}")).collect();
        let values: Vec<String> = some.iter().map(|number| value(*number)).collect();
        let target = format!(
            "/kv?api=hostel&store=default&do=get-many&key={}",
            keys.join(",")
        );
        assert!(process.page(&target) == format!("ok: {}\n", values.join(" ")));
    }
    let counted = process.sql("SELECT count(DISTINCT number) FROM numbers");
    assert!(counted.parse::<usize>().expect("a number") >= rows.len());
    assert_eq!(process.sql("PRAGMA integrity_check"), "ok");
    assert!(process.handled(messages));

    let counts: Vec<String> = KINDS
        .iter()
        .zip(&acknowledged)
        .map(|((kind, _), numbers)| format!("{kind} {}", numbers.len()))
        .collect();
    println!(
        "{ROUNDS} rounds in {:?}; acknowledged: {}; the slowest start to an answer took {worst:?}",
        begin.elapsed(),
        counts.join(", ")
    );
    assert!(acknowledged.iter().all(|numbers| numbers.len() > 10));
    assert!(worst < ANSWERS_WITHIN, "{worst:?}");
}
