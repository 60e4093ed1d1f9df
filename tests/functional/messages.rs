//! Messages between components: published by one, handled by another, kept in the data directory.

mod order;
mod plain;
mod trouble;
mod wasmcloud;

use hostel_backends::Nats;
use rustix::process::Signal;

use crate::harness::app::App;
use crate::harness::eventually;
use crate::harness::server::Server;

/// One component that publishes, asks and handles, called with both.
const WEB: &str = r#"
[app]
name = "test"

[[http]]
route = "/..."
component = "web"

[component.web]
source = "messages-p2.wasm"

[component.web.grants]
messaging = { publish = ["orders.*", "dead.>"], request = ["orders.*"] }

[[message]]
topic = "orders.*"
component = "web"
"#;

/// A server with a data directory of its own.
struct Messages {
    app: App,
    data: tempfile::TempDir,
    server: Server,
}

impl Messages {
    /// The manifest's last section goes on with these settings, and then other sections.
    fn new(settings: &str) -> Self {
        Self::of(App::new(&format!("{WEB}{settings}\n")), &[])
    }

    fn of(app: App, flags: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let server = Server::launch(app.folder(), data.path(), flags);
        Self { app, data, server }
    }

    /// The same app in another process, on the same data.
    fn again(&mut self) {
        self.server = Server::launch(self.app.folder(), self.data.path(), &[]);
    }

    fn send(&self, topic: &str, text: &str) {
        let page = self.server.page(&sending(topic, text));
        assert_eq!(page, "sent\n");
    }

    /// What a request that fails is told.
    fn refused(&self, target: &str) -> String {
        let answer = self.server.get(target);
        assert_eq!(answer.status, 500, "{target}: {}", answer.text());
        answer.text()
    }

    /// How often the guests' output says this.
    fn said(&self, text: &str) -> usize {
        self.server.stdout().text().matches(text).count()
    }

    fn says(&self, text: &str, times: usize) {
        eventually(text, || (self.said(text) >= times).then_some(()));
        assert_eq!(self.said(text), times, "{text}");
    }

    /// The host's own lines.
    fn logs(&self, text: &str) {
        let stderr = self.server.stderr();
        eventually(text, || stderr.text().contains(text).then_some(()));
    }
}

/// As it stands in a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
    let encode = |byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn sending(topic: &str, text: &str) -> String {
    format!("/?send={}&text={}", encoded(topic), encoded(text))
}

#[test]
fn a_message_reaches_its_handler_with_all_that_it_has() {
    let messages = Messages::new("");
    messages.send("orders.new", "first");
    messages.says("handled orders.new text/plain first.", 1);
    messages
        .server
        .page("/?send=orders.old&text=second&meta=shop:north");
    messages.says("handled orders.old text/plain second shop=north.", 1);
    messages.says("done first.", 1);
    // What nobody subscribed to is nobody's.
    messages.send("dead.end", "third");
    messages.send("orders.new", "last");
    messages.says("done last.", 1);
    assert_eq!(messages.said("third"), 0);
}

#[test]
fn a_request_is_answered_by_the_handler() {
    let messages = Messages::new("");
    let asked = messages.server.page("/?ask=orders.price&text=reply%201");
    assert_eq!(asked, "answer 0\n");
    let asked = messages
        .server
        .page("/?ask=orders.price&text=reply%203&replies=3");
    assert_eq!(asked, "answer 0\nanswer 1\nanswer 2\n");
}

#[test]
fn a_request_that_nobody_answers_ends() {
    let messages = Messages::new("");
    let silent = "/?ask=orders.price&text=silent";
    assert_eq!(
        messages.refused(&format!("{silent}&timeout=50")),
        "Error::Timeout\n"
    );
    assert_eq!(messages.refused(silent), "Error::Timeout\n");
}

#[test]
fn a_request_takes_no_more_answers_than_it_may() {
    let messages = Messages::new("");
    let asked = "/?ask=orders.price&text=reply%20120&replies=1000";
    assert_eq!(messages.server.page(asked).lines().count(), 100);
}

#[test]
fn what_a_message_may_be_is_bounded() {
    let messages = Messages::new("");
    let told = messages.refused("/?send=orders.new&bytes=1048576");
    assert!(
        told.contains("larger than 1048576, the limit `message`"),
        "{told}"
    );
    let told = messages.refused("/?send=orders.new&meta=%0a:x");
    assert!(told.contains("cannot be a key of metadata"), "{told}");
    messages.server.page("/?send=orders.new&bytes=1000000");
}

#[test]
fn a_guest_publishes_to_topics_and_never_to_patterns() {
    let messages = Messages::new("");
    for topic in [
        "orders.*",
        ">",
        "orders.>",
        "orders/new",
        "orders. new",
        "",
        "orders..new",
        "$SYS.x",
    ] {
        for what in ["send", "ask"] {
            let told = messages.refused(&format!("/?{what}={}&text=x", encoded(topic)));
            assert!(told.contains("is not a topic"), "{what} {topic}: {told}");
        }
    }
    messages.send("orders.new", "last");
    messages.says("done last.", 1);
    assert_eq!(messages.said("handled"), 1);
}

#[test]
fn what_was_not_granted_is_denied_and_the_log_says_what_would_allow_it() {
    let messages = Messages::new("");
    for (target, told, logged) in [
        (
            "/?send=secret.plans&text=x",
            "permission-denied(\"the topic secret.plans is not granted\")",
            "messaging = { publish = [\"secret.plans\"] }",
        ),
        (
            "/?ask=dead.end&text=x",
            "permission-denied(\"the topic dead.end is not granted\")",
            "messaging = { request = [\"dead.end\"] }",
        ),
        (
            "/?send=orders.new&text=x&client=other",
            "permission-denied(\"this message broker is not granted\")",
            "messaging = { clients = [\"other\"] }",
        ),
    ] {
        let answer = messages.refused(target).to_lowercase();
        let plain = |text: &str| text.to_lowercase().replace('-', "");
        assert!(plain(&answer).contains(&plain(told)), "{answer}");
        messages.logs(logged);
    }
}

/// Dead letters go to a component of their own.
const UNDERTAKER: &str = r#"
deliveries = 2
dead_letter = "dead.orders"

[[message]]
topic = "dead.>"
component = "undertaker"

[component.undertaker]
source = "handler-p2.wasm"
"#;

#[test]
fn a_message_that_is_never_taken_goes_to_the_dead_letters() {
    let messages = Messages::new(UNDERTAKER);
    messages.send("orders.new", "fail");
    let letter =
        "handled dead.orders fail hostel-topic=orders.new hostel-group=web hostel-deliveries=2.";
    messages.says(letter, 1);
    messages.says("handled orders.new text/plain fail.", 2);
    messages.logs("it did not take a message: told to fail");
}

#[test]
fn a_guest_that_fails_gets_the_message_again() {
    let messages = Messages::new(UNDERTAKER);
    messages.send("orders.new", "trap");
    messages.says("handled orders.new text/plain trap.", 2);
    messages.says("hostel-deliveries=2.", 1);
    messages.logs("fault=trap component=web");
    messages.send("orders.new", "fine");
    messages.says("done fine.", 1);
}

#[test]
fn a_message_is_under_the_component_s_clock() {
    let limits = "deliveries = 1\n[component.web.limits]\ndeadline = \"100ms\"\n";
    let messages = Messages::new(limits);
    messages.send("orders.new", "sleep 10000");
    messages.logs("fault=deadline component=web");
    messages.send("orders.new", "fine");
    messages.says("done fine.", 1);
}

#[test]
fn no_more_messages_are_in_flight_than_the_trigger_says() {
    let messages = Messages::new("concurrency = 1");
    messages
        .server
        .page("/?send=orders.new&text=sleep%2020&times=5");
    messages.says("done sleep 20.", 5);
    let text = messages.server.stdout().text();
    let order: Vec<&str> = text
        .lines()
        .map(|line| {
            if line.contains("handled") {
                "begin"
            } else {
                "end"
            }
        })
        .collect();
    assert_eq!(order, ["begin", "end"].repeat(5));
}

#[test]
fn threads_share_what_may_be_in_flight() {
    let app = App::new(&format!("{WEB}concurrency = 5\n"));
    let messages = Messages::of(app, &["--threads", "2"]);
    messages
        .server
        .page("/?send=orders.new&text=sleep%20100&times=20");
    messages.says("done sleep 100.", 20);
    let text = messages.server.stdout().text();
    let mut in_flight = 0_usize;
    for line in text.lines() {
        match line.contains("handled") {
            true => in_flight += 1,
            false => in_flight -= 1,
        }
        assert!(in_flight <= 5, "{text}");
    }
    assert_eq!(messages.said("handled"), 20);
}

#[test]
fn a_message_survives_the_end_of_the_process() {
    let mut messages = Messages::new("concurrency = 1");
    messages.send("orders.new", "sleep 500");
    messages.says("handled orders.new text/plain sleep 500.", 1);
    for number in 0..10 {
        messages.send("orders.new", &format!("waiting {number}"));
    }
    messages.server.signal(Signal::KILL);
    let _killed = messages.server.end();
    assert_eq!(messages.said("waiting"), 0, "they were to wait");
    messages.again();
    // The one that was being handled comes again; what waited comes once.
    messages.says("done sleep 500.", 1);
    for number in 0..10 {
        messages.says(&format!("done waiting {number}."), 1);
    }
    assert_eq!(messages.said("handled"), 11);
}

#[test]
fn a_drain_waits_for_messages_that_are_being_handled() {
    let mut messages = Messages::new("concurrency = 1");
    messages
        .server
        .page("/?send=orders.new&text=sleep%20300&times=2");
    messages.says("handled orders.new text/plain sleep 300.", 1);
    messages.server.signal(Signal::TERM);
    assert_eq!(messages.server.end().code(), Some(0));
    assert_eq!((messages.said("handled"), messages.said("done")), (1, 1));
    messages.again();
    messages.says("done sleep 300.", 1);
    assert_eq!(messages.said("handled"), 1, "the other one was done");
}

#[test]
fn an_app_may_have_nothing_but_messages() {
    let app = App::new(
        "[app]\nname = \"test\"\n[component.web]\nsource = \"handler-p2.wasm\"\n[[message]]\ntopic = \"a\"\ncomponent = \"web\"\n",
    );
    let messages = Messages::of(app, &[]);
    assert_eq!(messages.server.get("/").status, 404);
}

#[test]
fn a_broker_that_comes_late_is_picked_up_and_requests_are_answered_meanwhile() {
    let nats = Nats::start();
    let address = nats.url();
    let app = App::new(WEB).with_file(
        "server.toml",
        format!("[messaging.default]\nurl = \"{address}\"\n"),
    );
    nats.pause();
    let config = app.path("server.toml").display().to_string();
    let messages = Messages::of(app, &["--config", &config]);
    assert_eq!(messages.server.get("/?send=bad%20topic").status, 500);
    messages.logs("no messages of orders.* yet");
    nats.resume();
    eventually("a message arrives", || {
        let sent = messages.server.get("/?send=orders.new&text=late");
        (sent.status == 200 && messages.said("done late.") > 0).then_some(())
    });
}
