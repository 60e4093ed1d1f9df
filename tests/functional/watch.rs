//! `hostel up --watch`: newer builds and another manifest take over while requests are answered.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::app::App;
use crate::harness::http2::{connect, converse};
use crate::harness::message::{chunk, chunked_head, get, last_chunk};
use crate::harness::server::Server;
use crate::harness::{eventually, guest, metrics};

const P2: &str = "hello from wasi:http 0.2\n";
const P3: &str = "hello from wasi:http 0.3\n";
const REFUSED: &str = "the change is not taken over; the app goes on as it was\n";

/// An app whose only component is `web.wasm`, served with `--watch`.
struct Watched {
    app: App,
    server: Server,
}

impl Watched {
    fn of(name: &str, settings: &str) -> Self {
        Self::with(name, settings, &[])
    }

    fn with(name: &str, settings: &str, flags: &[&str]) -> Self {
        let app = App::of_manifest(&manifest(settings)).with_file("web.wasm", code(name));
        let server = app.up_with(&[&["--watch"], flags].concat());
        Self { app, server }
    }

    /// Puts another guest in the place of the component, as most compilers do.
    fn rename(&self, name: &str) {
        fs::write(self.app.path("new"), code(name)).expect("a file");
        fs::rename(self.app.path("new"), self.app.path("web.wasm")).expect("a file");
    }

    /// Writes another guest over the component.
    fn write(&self, name: &str) {
        fs::write(self.app.path("web.wasm"), code(name)).expect("a file");
    }

    fn edit(&self, settings: &str) {
        fs::write(self.app.path("hostel.toml"), manifest(settings)).expect("a file");
    }

    /// How often standard error says this.
    fn said(&self, text: &str) -> usize {
        self.server.stderr().text().matches(text).count()
    }

    fn says(&self, text: &str, times: usize) {
        let what = format!("\"{text}\", {times} times");
        eventually(&what, || (self.said(text) >= times).then_some(()));
        assert_eq!(self.said(text), times, "{text}");
    }

    fn replaced(&self, times: usize) {
        self.says("component \"web\" replaced in", times);
    }
}

fn code(name: &str) -> Vec<u8> {
    fs::read(guest(name)).expect("a guest")
}

/// Every request goes to the one component; its section goes on with these settings, and then other sections.
fn manifest(settings: &str) -> String {
    format!(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n[component.web]\n\
         source = \"web.wasm\"\n{settings}\n"
    )
}

#[test]
fn a_file_that_is_replaced_or_written_anew_is_served_from_then_on() {
    let watched = Watched::of("hello-p2", "");
    let mut connection = watched.server.connect();
    assert_eq!(connection.ask(&get("/")).text(), P2);
    watched.rename("hello-p3");
    watched.replaced(1);
    assert_eq!(connection.ask(&get("/")).text(), P3, "same connection");
    watched.write("hello-p2");
    watched.replaced(2);
    assert_eq!(connection.ask(&get("/")).text(), P2);
    let digest = hostel_app::Digest::of(&code("hello-p2")).to_string();
    let line = watched
        .server
        .stderr()
        .find("the second replacement", |text| {
            text.lines()
                .rfind(|line| line.contains("replaced"))
                .map(str::to_owned)
        });
    assert!(line.ends_with(&digest), "{line}");
    assert_eq!(watched.server.page("/"), P2);
}

#[test]
fn fifty_replacements_under_load_fail_no_request_and_leave_nothing_behind() {
    const ROUNDS: usize = 50;
    let watched = Watched::with("hello-p2", "", &metrics::FLAGS);
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask = || {
        let mut connection = watched.server.connect();
        while !over.load(Ordering::Relaxed) {
            let answer = connection.ask(&get("/"));
            let text = answer.text();
            assert!(answer.status == 200 && (text == P2 || text == P3), "{text}");
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let ask_in_streams = || {
        // A conversation has an end; so each is a short one.
        while !over.load(Ordering::Relaxed) {
            converse(async {
                let client = connect(watched.server.address()).await;
                for _ in 0..50 {
                    let answer = client.get("/").await;
                    let text = answer.text();
                    assert!(answer.status == 200 && (text == P2 || text == P3), "{text}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    };
    let left = std::thread::scope(|scope| {
        let clients = [
            scope.spawn(ask),
            scope.spawn(ask),
            scope.spawn(ask_in_streams),
        ];
        let mut early = None;
        let replacing = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=ROUNDS {
                let name = ["hello-p2", "hello-p3"][round % 2];
                match round % 4 < 2 {
                    true => watched.rename(name),
                    false => watched.write(name),
                }
                watched.replaced(round);
                if round == 10 {
                    early = Some(left_behind(&watched.server));
                }
            }
        }));
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("every request is answered");
        }
        replacing.expect("fifty replacements");
        early.expect("the tenth round")
    });
    assert_eq!(watched.server.page("/"), P2);
    let asked = asked.load(Ordering::Relaxed) + 1;
    let counted = metrics::read(&watched.server);
    let calls = counted.get("hostel_calls_total", &[("component", "web")]);
    assert_eq!(calls as usize, asked, "one count for all builds");
    watched.server.comes_to_rest();
    let (files, maps, memory) = left_behind(&watched.server);
    assert!(files <= left.0 + 8, "{} open files, then {files}", left.0);
    assert!(
        maps <= left.1 + 12,
        "{} mappings of code, then {maps}",
        left.1
    );
    assert!(
        memory <= left.2 + (32 << 20),
        "{} bytes, then {memory}",
        left.2
    );
}

/// Open files, mappings of compiled code, and memory of a server.
fn left_behind(server: &Server) -> (usize, usize, u64) {
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.id())).expect("its mappings");
    (
        server.open_files(),
        maps.matches(".cwasm").count(),
        server.memory_now(),
    )
}

#[test]
fn an_answer_that_has_begun_is_finished_by_the_build_that_began_it() {
    let watched = Watched::of("echo-p2", "");
    let mut connection = watched.server.connect();
    connection.send(chunked_head("/", &[]));
    connection.send(chunk("first "));
    let head = connection.head();
    for (round, name) in ["hello-p3", "hello-p2"].into_iter().enumerate() {
        watched.rename(name);
        watched.replaced(round + 1);
    }
    assert_eq!(watched.server.page("/"), P2);
    connection.send(chunk("second"));
    connection.send(last_chunk(&[]));
    assert_eq!(connection.body_of(head).text(), "first second");
    assert_eq!(connection.ask(&get("/")).text(), P2, "the same connection");
}

#[test]
fn a_fault_after_the_replacement_is_the_old_build_s() {
    // Its deadline ends the old build's call; the new build has another one.
    let settings = |deadline: &str| format!("[component.web.limits]\ndeadline = \"{deadline}\"");
    let watched = Watched::of("slow-p2", &settings("1500ms"));
    let mut connection = watched.server.connect();
    connection.send(get("/?ms=20000"));
    watched.edit(&settings("1h"));
    watched.says("component \"web\" has new settings in", 1);
    let answer = connection.answer();
    assert_eq!(answer.status, 504, "{}", answer.text());
    watched
        .server
        .stderr()
        .wait_for("fault=deadline component=web");
}

#[test]
fn idle_instances_of_the_old_build_answer_no_more() {
    for name in ["counter-p2", "counter-p3"] {
        let concurrent = ["", "concurrent = 4"][usize::from(name == "counter-p3")];
        let settings = |env: &str| format!("reuse = 1000\n{concurrent}\nenv = {{ A = \"{env}\" }}");
        // Each thread keeps instances of its own.
        let watched = Watched::with(name, &settings("1"), &["--threads", "1"]);
        let seen = |number: u32| {
            let page = watched.server.page("/");
            let page = page.strip_prefix("seen ").unwrap_or(&page);
            let first = page.split_whitespace().next().map(str::to_owned);
            assert_eq!(first, Some(number.to_string()), "{name}");
        };
        seen(1);
        seen(2);
        watched.edit(&settings("2"));
        watched.says("component \"web\" has new settings in", 1);
        seen(1);
        seen(2);
    }
}

#[test]
fn a_build_that_cannot_be_served_changes_nothing() {
    let limits = "[component.web.limits]\ncpu = \"100ms\"";
    let watched = Watched::of("hello-p2", limits);
    let bad: [(&dyn Fn(), &str); 6] = [
        (
            &|| fs::write(watched.app.path("web.wasm"), "no code").expect("a file"),
            "not a WebAssembly file",
        ),
        (&|| watched.rename("newer-wasi"), "component \"web\": "),
        (&|| watched.rename("handler-p2"), "is a handler of messages"),
        (
            &|| watched.rename("loop-in-start-p2"),
            "no instance of it can be made: the guest used up its 100 ms of CPU",
        ),
        (
            &|| fs::remove_file(watched.app.path("web.wasm")).expect("a file"),
            "cannot read the component",
        ),
        (&|| watched.edit("sauce = 1"), "unknown key \"sauce\""),
    ];
    for (round, (act, what)) in bad.iter().enumerate() {
        act();
        watched.says(REFUSED, round + 1);
        let told = watched.server.stderr().text();
        let last = told.rsplit(REFUSED).nth(1).expect("a reason");
        assert!(
            last.contains(what) && last.contains("help: "),
            "{what}: {last}"
        );
        assert_eq!(watched.server.page("/"), P2, "{what}");
    }
    // The manifest is mended first, and its component after that.
    watched.edit(limits);
    watched.says(REFUSED, bad.len() + 1);
    watched.write("hello-p3");
    watched.replaced(1);
    assert_eq!(watched.server.page("/"), P3);
}

#[test]
fn settings_grants_and_routes_of_the_manifest_are_taken_over() {
    let watched = Watched::of("env-p2", "");
    assert!(!watched.server.page("/").contains("COLOUR"));
    watched.edit("env = { COLOUR = \"red\" }\nargs = [\"--fast\"]");
    watched.says("component \"web\" has new settings in", 1);
    let page = watched.server.page("/");
    assert!(
        page.contains("env COLOUR=red") && page.contains("--fast"),
        "{page}"
    );
    let routes = manifest("env = { COLOUR = \"red\" }\nargs = [\"--fast\"]");
    let routes = routes.replace("\"/...\"", "\"/only\"");
    fs::write(watched.app.path("hostel.toml"), routes).expect("a file");
    watched.says("the manifest's changes are taken over", 1);
    assert_eq!(watched.server.get("/").status, 404);
    assert_eq!(watched.server.page("/only"), page, "the same guest");
    watched.edit("");
    watched.says("component \"web\" has new settings in", 2);
    watched.rename("files-p2");
    watched.replaced(1);
    let read = "/?read=/site/a.txt";
    assert!(watched.server.page(read).starts_with("error:"));
    fs::create_dir(watched.app.path("site")).expect("a folder");
    fs::write(watched.app.path("site/a.txt"), "granted").expect("a file");
    watched.edit("[component.web.grants]\nfiles = { \"/site\" = { host = \"site\" } }");
    watched.says("component \"web\" has new settings in", 3);
    assert_eq!(watched.server.page(read), "ok: granted\n");
    watched.edit("");
    watched.says("component \"web\" has new settings in", 4);
    assert!(watched.server.page(read).starts_with("error:"));
}

#[test]
fn components_come_and_go() {
    let watched = Watched::of("hello-p2", "");
    let other = watched.app.path("other.wasm");
    fs::write(other, code("hello-p3")).expect("a file");
    watched.edit("[[http]]\nroute = \"/other\"\ncomponent = \"other\"\n[component.other]\nsource = \"other.wasm\"");
    watched.says("component \"other\" added in", 1);
    assert_eq!(watched.server.page("/other"), P3);
    assert_eq!(watched.server.page("/"), P2);
    // It is watched, too.
    fs::write(watched.app.path("other.wasm"), code("hello-p2")).expect("a file");
    watched.says("component \"other\" replaced in", 1);
    assert_eq!(watched.server.page("/other"), P2);
    watched.edit("");
    watched.says("the manifest's changes are taken over", 1);
    assert_eq!(
        watched.server.page("/other"),
        P2,
        "that is the first one's route now"
    );
    watched.replaced(0);
}

#[test]
fn requests_of_other_components_go_to_the_new_build() {
    let settings = "[component.web.grants]\nhttp = [\"http://other.app.internal\"]\n\
                    [component.other]\nsource = \"other.wasm\"";
    let app = App::of_manifest(&manifest(settings))
        .with_file("web.wasm", code("outgoing-p2"))
        .with_file("other.wasm", code("hello-p2"));
    let server = app.up_with(&["--watch"]);
    let watched = Watched { app, server };
    let asked = || {
        watched
            .server
            .page("/?url=http%3A%2F%2Fother.app.internal%2F")
    };
    assert!(asked().ends_with(P2), "{}", asked());
    fs::write(watched.app.path("other.wasm"), code("hello-p3")).expect("a file");
    watched.says("component \"other\" replaced in", 1);
    assert!(asked().ends_with(P3), "{}", asked());
}

#[test]
fn a_service_is_stopped_and_the_new_build_of_it_started() {
    let settings = "[component.job]\nsource = \"job.wasm\"\nenv = { A = \"1\" }\n\
                    [[service]]\ncomponent = \"job\"\nargs = [\"say\", \"here I am\"]";
    let app = App::of_manifest(&manifest(settings))
        .with_file("web.wasm", code("hello-p2"))
        .with_file("job.wasm", code("run-service-p1"));
    let server = app.up_with(&["--watch"]);
    let watched = Watched { app, server };
    let says = |text: &str, times: usize| {
        let said = || watched.server.stdout().text().matches(text).count();
        eventually(text, || (said() >= times).then_some(()));
        assert_eq!(said(), times, "{text}");
    };
    says("here I am", 1);
    fs::write(watched.app.path("job.wasm"), code("run-service-p2")).expect("a file");
    watched.says("component \"job\" replaced in", 1);
    says("told to stop", 1);
    says("here I am", 2);
    watched.edit(&settings.replace("\"1\"", "\"2\""));
    watched.says("component \"job\" has new settings in", 1);
    says("told to stop", 2);
    says("here I am", 3);
    // What its section says is read at the start of the server.
    watched.edit(&settings.replace("here I am", "another"));
    watched.says("restart to apply the changes of [[service]]", 1);
    says("here I am", 3);
}

#[test]
fn a_supervised_worker_watches_and_so_does_the_next() {
    let watched = Watched::with("hello-p2", "", &["--supervise"]);
    watched.write("hello-p3");
    watched.replaced(1);
    assert_eq!(watched.server.page("/"), P3);
    let children = format!("/proc/{0}/task/{0}/children", watched.server.id());
    let worker = fs::read_to_string(children).expect("its children");
    let worker: i32 = worker.trim().parse().expect("one worker");
    let worker = Pid::from_raw(worker).expect("not 0");
    kill_process(worker, Signal::KILL).expect("it is there");
    watched.says("listening again on", 1);
    watched.write("hello-p2");
    watched.replaced(2);
    assert_eq!(watched.server.page("/"), P2);
}

#[test]
fn messages_go_to_the_new_build_and_other_triggers_wait_for_the_next_start() {
    let sections = |topic: &str| {
        format!(
            "[component.web.grants]\nmessaging = {{ publish = [\"orders.*\"] }}\n\
             [component.handler]\nsource = \"handler.wasm\"\n\
             [[message]]\ntopic = \"{topic}\"\ncomponent = \"handler\""
        )
    };
    let app = App::of_manifest(&manifest(&sections("orders.*")))
        .with_file("web.wasm", code("messages-p2"))
        .with_file("handler.wasm", code("handler-p2"));
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::launch(app.folder(), data.path(), &["--watch"]);
    let watched = Watched { app, server };
    let send = |text: &str| {
        watched
            .server
            .page(&format!("/?send=orders.new&text={text}"))
    };
    send("first");
    watched
        .server
        .stdout()
        .wait_for("handled orders.new first.");
    fs::write(watched.app.path("handler.wasm"), code("messages-p2")).expect("a file");
    watched.says("component \"handler\" replaced in", 1);
    send("second");
    watched
        .server
        .stdout()
        .wait_for("handled orders.new text/plain second.");
    watched.edit(&sections("orders.new"));
    watched.says("restart to apply the changes of [[message]]", 1);
    send("third");
    watched.server.stdout().wait_for("text/plain third.");
}

/// A manifest whose component is built from `src/web.wasm` unless there is a file `src/broken`.
fn built(script: &str) -> Watched {
    let settings = format!("build = \"\"\"{script}\"\"\"");
    let app = App::of_manifest(&manifest(&settings)).with_file("src/web.wasm", code("hello-p2"));
    let server = app.up_with(&["--build", "--watch"]);
    Watched { app, server }
}

fn source(watched: &Watched, name: &str) {
    fs::write(watched.app.path("src/web.wasm"), code(name)).expect("a file");
}

#[test]
fn a_source_that_changes_is_built_and_what_was_built_is_served() {
    let watched = built(
        "test ! -e src/broken && cp src/web.wasm web.wasm && mkdir -p target && date > target/log",
    );
    assert_eq!(watched.server.page("/"), P2);
    source(&watched, "hello-p3");
    watched.replaced(1);
    assert_eq!(watched.server.page("/"), P3);
    fs::write(watched.app.path("src/broken"), "").expect("a file");
    watched.says("its build command exited with code 1", 1);
    watched.says(REFUSED, 1);
    source(&watched, "hello-p2");
    watched.says(REFUSED, 2);
    assert_eq!(watched.server.page("/"), P3);
    fs::remove_file(watched.app.path("src/broken")).expect("a file");
    watched.replaced(2);
    assert_eq!(watched.server.page("/"), P2);
}

#[test]
fn a_build_that_writes_among_its_sources_ends() {
    let watched = built("cp src/web.wasm web.wasm && echo . >> src/log");
    let built = |times: usize| {
        let log = watched.app.path("src/log");
        let lines = || fs::read_to_string(Path::new(&log)).map_or(0, |text| text.lines().count());
        eventually("the builds", || (lines() == times).then_some(()));
    };
    built(1);
    source(&watched, "hello-p3");
    watched.replaced(1);
    watched.says("the sources changed during each of several builds", 1);
    built(4);
    watched.server.comes_to_rest();
    built(4);
    assert_eq!(watched.server.page("/"), P3);
}
