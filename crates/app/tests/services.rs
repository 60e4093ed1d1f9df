//! What `[[service]]` sections become, and what they are told when they make no sense.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // the lints' exception for tests misses helpers

use std::time::Duration;

use hostel_app::error::ManifestErrors;
use hostel_app::{
    App, CalledBy, Digest, ListenOn, Operator, Ready, Resolved, Restart, ServerConfig, limits,
    resolve,
};

fn resolved(text: &str, vars: &[(&str, &str)]) -> Result<Resolved, ManifestErrors> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hostel.toml");
    std::fs::write(&path, text).expect("a file");
    let vars = vars.iter();
    let operator = Operator {
        vars: vars
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Operator::default()
    };
    resolve(&path, &operator)
}

/// Two components, and the services that they are.
fn text(services: &str) -> String {
    format!(
        "[app]\nname = \"test\"\n[variables]\nserver-address = \"127.0.0.1:9000\"\n\
         [component.broker]\nsource = \"(module)\"\n[component.ticker]\nsource = \"(module)\"\n{services}"
    )
}

fn app(services: &str) -> App {
    resolved(&text(services), &[]).expect("an app").app
}

/// What the first error says, and its way out.
fn refused(services: &str) -> (String, String) {
    let errors = resolved(&text(services), &[]).expect_err("refused").0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    (
        errors[0].what.clone(),
        errors[0].help.clone().expect("a way out"),
    )
}

fn place(text: &str) -> ListenOn {
    text.parse().expect("a place")
}

#[test]
fn a_component_s_name_is_all_that_a_service_needs() {
    let app = app("[[service]]\ncomponent = \"broker\"\n");
    let broker = &app.services[0];
    assert_eq!((broker.name.as_str(), broker.component), ("broker", 0));
    assert_eq!(broker.ready, Ready::Start, "nobody can connect to it");
    assert_eq!((broker.restart, broker.instances), (Restart::Always, 1));
    assert_eq!(broker.stop_timeout, limits::SERVICE_STOP_MS.duration());
    assert_eq!(broker.cpu_percent, None);
    assert!(broker.export.is_none() && broker.args.is_empty() && broker.listen.is_empty());
    assert_eq!(app.called_by(0), [CalledBy::Service]);
}

#[test]
fn everything_that_is_written_is_kept() {
    let settings = "[[service]]\ncomponent = \"broker\"\nname = \"pub-sub\"\nexport = \"serve\"\nargs = [\"--at\", \"{{ \
                    server-address }}\"]\nlisten = [\"{{ server-address }}\", \"localhost:0\", \"localhost:0\", \
                    \"fd:spare\"]\nready = \"line: I am up \"\nrestart = \"on-failure\"\nstop_timeout = \"2s\"\ninstances = 3\ncpu_percent = 50\n";
    let broker = &app(settings).services[0];
    assert_eq!(broker.name, "pub-sub");
    assert_eq!(broker.export.as_deref(), Some("serve"));
    assert_eq!(broker.args, ["--at", "127.0.0.1:9000"]);
    let any_port = place("127.0.0.1:0");
    assert_eq!(
        broker.listen,
        [
            place("127.0.0.1:9000"),
            any_port.clone(),
            any_port,
            place("fd:spare")
        ]
    );
    assert_eq!(broker.ready, Ready::Line("I am up".to_owned()));
    assert_eq!((broker.restart, broker.instances), (Restart::OnFailure, 3));
    assert_eq!(broker.cpu_percent, Some(50));
    assert_eq!(broker.stop_timeout, Duration::from_secs(2));
    let at = |address| {
        let app = resolved(&text(settings), &[("server-address", address)]);
        app.expect("an app").app.services[0].listen[0].clone()
    };
    assert_eq!(at("[::1]:7000"), place("[::1]:7000"));
}

#[test]
fn a_service_that_listens_is_ready_when_it_waits_for_clients() {
    let ready = |settings: &str| {
        let service =
            format!("[[service]]\ncomponent = \"broker\"\nlisten = [\"127.0.0.1:0\"]\n{settings}");
        app(&service).services[0].ready.clone()
    };
    assert_eq!(ready(""), Ready::Accept);
    assert_eq!(ready("ready = \"start\"\n"), Ready::Start);
}

#[test]
fn two_services_in_one_place_are_told_of_each_other() {
    let two = |one: &str, other: &str| {
        refused(&format!(
            "[[service]]\ncomponent = \"broker\"\n{one}\n[[service]]\ncomponent = \"ticker\"\n{other}\n"
        ))
    };
    let (what, help) = two(
        "listen = [\"127.0.0.1:9000\"]",
        "listen = [\"localhost:9000\"]",
    );
    assert_eq!(
        what,
        "a service listens on 127.0.0.1:9000 already: see line 11"
    );
    assert!(help.contains("another port"), "{help}");
    let (what, _) = two("listen = [\"fd:a\"]", "listen = [\"fd:a\"]");
    assert_eq!(what, "a service listens on fd:a already: see line 11");
    let (what, help) = two("name = \"one\"", "name = \"one\"");
    assert_eq!(what, "another service is called \"one\": see line 9");
    assert!(help.contains("another name"), "{help}");
    let (what, help) = refused(
        "[[service]]\ncomponent = \"broker\"\n[[service]]\ncomponent = \"broker\"\nname = \"other\"\n",
    );
    assert_eq!(
        what,
        "the component \"broker\" is a service already: see line 10"
    );
    assert!(help.contains("instances = 2"), "{help}");
}

#[test]
fn what_makes_no_sense_says_what_would() {
    let cases = [
        (
            "listen = [\"example.com:80\"]",
            "not an address",
            "127.0.0.1:9000",
        ),
        (
            "listen = [\"127.0.0.1\"]",
            "not an address",
            "127.0.0.1:9000",
        ),
        (
            "ready = \"soon\"",
            "not when a service is ready",
            "\"accept\"",
        ),
        (
            "ready = \"line:\"",
            "not when a service is ready",
            "line:TEXT",
        ),
        (
            "restart = \"maybe\"",
            "not when a service is restarted",
            "on-failure",
        ),
        ("stop_timeout = \"1h\"", "above its ceiling", "25s"),
        ("stop_timeout = \"1\"", "not a length of time", "add a unit"),
        ("cpu_percent = 101", "cannot be 101", "from 1 to 100"),
        ("instances = 0", "cannot be 0", "from 1 to 64"),
        ("instances = 65", "cannot be 65", "from 1 to 64"),
        ("export = \"\"", "names nothing", "leave the key out"),
        ("name = \"a b\"", "not a name for a service", "letters"),
        (
            "args = [\"{{ unknown }}\"]",
            "no variable \"unknown\"",
            "server-address",
        ),
        (
            "socket_option = 1",
            "unknown key \"socket_option\"",
            "the keys of [[service]]",
        ),
    ];
    for (line, what, help) in cases {
        let told = refused(&format!("[[service]]\ncomponent = \"broker\"\n{line}\n"));
        assert!(
            told.0.contains(what) && told.1.contains(help),
            "{line}: {told:?}"
        );
    }
    let (what, help) = refused("[[service]]\ncomponent = \"brokr\"\n");
    assert!(what.contains("no component \"brokr\""), "{what}");
    assert_eq!(help, "did you mean \"broker\"?");
}

#[test]
fn a_service_listens_on_so_many_addresses() {
    let service = |count: usize| {
        let listen = "\"127.0.0.1:0\",".repeat(count);
        format!("[[service]]\ncomponent = \"broker\"\nlisten = [{listen}]\n")
    };
    let most = limits::SERVICE_LISTEN.size();
    assert_eq!(app(&service(most)).services[0].listen.len(), most);
    let (what, _) = refused(&service(most + 1));
    assert!(what.contains("no more than 16 addresses"), "{what}");
}

#[test]
fn a_value_that_comes_later_cannot_be_an_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let text = "[app]\nname = \"test\"\n[variables]\nat = \"1\"\nkey = { secret = true }\n[component.broker]\n\
                source = \"(module)\"\n[component.broker.grants]\nsecrets = [\"key\"]\n[[service]]\n\
                component = \"broker\"\nlisten = [\"{{ at }}\"]\nargs = [\"{{ key }}\"]\n";
    let server = "[variables]\nat = { file = \"address\" }\nkey = \"x\"\n";
    std::fs::write(path("hostel.toml"), text).expect("a file");
    std::fs::write(path("server.toml"), server).expect("a file");
    let operator = Operator {
        server: ServerConfig::read(&path("server.toml"))
            .expect("a file")
            .into(),
        ..Operator::default()
    };
    let errors = resolve(&path("hostel.toml"), &operator)
        .expect_err("refused")
        .0;
    let told: Vec<_> = errors.iter().map(|error| error.what.as_str()).collect();
    assert_eq!(
        told,
        [
            "the value of a variable here must be known when the app is started",
            "the secret \"key\" is not granted to this component"
        ]
    );
    assert!(
        errors[0]
            .help
            .as_ref()
            .expect("a way out")
            .contains("--var")
    );
}

#[test]
fn every_setting_is_part_of_the_digest() {
    let digest = |settings: &str| -> Digest {
        app(&format!(
            "[[service]]\ncomponent = \"broker\"\n{settings}\n"
        ))
        .digest
    };
    let settings = [
        "",
        "name = \"other\"",
        "export = \"serve\"",
        "args = [\"a\"]",
        "listen = [\"127.0.0.1:1\"]",
        "listen = [\"fd:1\"]",
        "ready = \"accept\"",
        "ready = \"line:a\"",
        "restart = \"never\"",
        "cpu_percent = 1",
        "stop_timeout = \"1s\"",
        "instances = 2",
    ];
    let digests: std::collections::BTreeSet<_> = settings.iter().map(|line| digest(line)).collect();
    assert_eq!(digests.len(), settings.len());
}
