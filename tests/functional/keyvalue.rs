//! Key-value stores of a guest, through all three packages and through the executable.

use std::time::Duration;

use crate::harness::app::App;
use crate::harness::command::hostel_in;
use crate::harness::eventually;
use crate::harness::keyvalue::KeyValue;
use crate::harness::server::Server;

const APIS: [&str; 3] = ["draft", "draft2", "hostel"];

#[test]
fn each_package_reads_and_writes_the_same_store() {
    let kv = KeyValue::new();
    for (writer, reader) in [
        ("draft", "draft2"),
        ("draft2", "hostel"),
        ("hostel", "draft"),
    ] {
        let key = format!("from-{writer}");
        assert_eq!(kv.default(reader, &format!("do=get&key={key}")), "ok: none");
        assert_eq!(
            kv.default(reader, &format!("do=exists&key={key}")),
            "ok: false"
        );
        let set = kv.default(
            writer,
            &format!("do=set&key={key}&value=one%20of%20{writer}"),
        );
        assert!(set == "ok: set" || set == "ok: true", "{set}");
        assert_eq!(
            kv.default(reader, &format!("do=get&key={key}")),
            format!("ok: one of {writer}")
        );
        assert_eq!(
            kv.default(reader, &format!("do=exists&key={key}")),
            "ok: true"
        );
    }
    for api in APIS {
        assert_eq!(
            kv.default(api, "do=list"),
            "ok: from-draft from-draft2 from-hostel in 1",
            "{api}"
        );
        let deleted = kv.default(api, &format!("do=delete&key=from-{api}"));
        assert!(
            deleted == "ok: deleted" || deleted == "ok: true",
            "{deleted}"
        );
        assert_eq!(
            kv.default(api, &format!("do=get&key=from-{api}")),
            "ok: none"
        );
        kv.default(api, &format!("do=set&key=from-{api}&value=x"));
    }
}

#[test]
fn numbers_are_added_to_and_what_is_none_is_an_error() {
    let kv = KeyValue::new();
    assert_eq!(kv.default("draft", "do=increment&key=n&value=40"), "ok: 40");
    assert_eq!(kv.default("draft2", "do=increment&key=n&value=2"), "ok: 42");
    assert_eq!(
        kv.default("hostel", "do=increment&key=n&value=-50"),
        "ok: -8"
    );
    let unsigned = kv.default("draft", "do=increment&key=n&value=1");
    assert!(
        unsigned.starts_with("error: Error::Other(\"the value is not a number"),
        "{unsigned}"
    );
    kv.default("draft2", "do=set&key=n&value=many");
    assert_eq!(
        kv.default("hostel", "do=increment&key=n"),
        "error: Error::NotANumber"
    );
}

#[test]
fn batches_keep_their_order() {
    let kv = KeyValue::new();
    for (api, found) in [
        ("draft", "ok: b=v none a=v"),
        ("draft2", "ok: b=v missing=none a=v"),
        ("hostel", "ok: v none v"),
    ] {
        assert_eq!(kv.default(api, "do=set-many&key=a,b,c&value=v"), "ok: set");
        assert_eq!(kv.default(api, "do=get-many&key=b,missing,a"), found);
        assert_eq!(
            kv.default(api, "do=delete-many&key=a,c,missing"),
            "ok: deleted"
        );
        assert_eq!(kv.default(api, "do=list"), "ok: b in 1", "{api}");
    }
}

#[test]
fn a_swap_succeeds_unless_somebody_came_between() {
    let kv = KeyValue::new();
    assert_eq!(
        kv.default("draft2", "do=swap&key=k&value=1"),
        "ok: swapped none"
    );
    assert_eq!(
        kv.default("draft2", "do=swap&key=k&value=2"),
        "ok: swapped 1"
    );
    assert_eq!(
        kv.default("draft2", "do=swap&key=k&value=3&between=other"),
        "ok: failed on other then swapped"
    );
    assert_eq!(kv.default("draft2", "do=get&key=k"), "ok: 3");
}

#[test]
fn conditions_prefixes_and_times_to_live() {
    let kv = KeyValue::new();
    let ask = |query: &str| kv.default("hostel", query);
    assert_eq!(ask("do=set&key=a/1&value=x&when=absent"), "ok: true");
    assert_eq!(ask("do=set&key=a/1&value=y&when=absent"), "ok: false");
    assert_eq!(ask("do=set&key=a/1&value=z&when=unchanged"), "ok: true");
    assert_eq!(
        ask("do=set&key=a/1&value=q&when=unchanged&between=p"),
        "ok: false"
    );
    assert_eq!(ask("do=read&key=a/1"), "ok: p");
    assert_eq!(
        ask("do=delete&key=a/1&when=unchanged&between=r"),
        "ok: false"
    );
    ask("do=set-many&key=a/2,a%25,b/1,A/1&value=v");
    assert_eq!(ask("do=list&prefix=a/"), "ok: a/1 a/2 in 1");
    assert_eq!(ask("do=list&cursor=made%20up"), "error: Error::BadCursor");
    assert_eq!(ask("do=set&key=short&value=v&ttl=1"), "ok: true");
    eventually("its time is over", || {
        (ask("do=get&key=short") == "ok: none").then_some(())
    });
    assert_eq!(
        ask("do=set&key=long&value=v&ttl=18446744073709551615"),
        "ok: true"
    );
    assert_eq!(ask("do=get&key=long"), "ok: v");
}

#[test]
fn a_store_that_is_not_granted_is_denied_and_the_log_names_the_line() {
    let kv = KeyValue::new();
    for _ in 0..2 {
        for api in APIS {
            let denied = kv.ask(&format!("api={api}&do=open&store=carts"));
            assert_eq!(denied, "error: Error::AccessDenied", "{api}");
            let unknown = kv.ask(&format!("api={api}&do=open&store=no%20label"));
            assert_eq!(unknown, "error: Error::NoSuchStore", "{api}");
        }
    }
    let line = "hostel: component \"web\": key-value store \"carts\" is not granted; add keyvalue = [\"carts\"] to \
                [component.web.grants], or start with --grant keyvalue=carts";
    let count = kv.server.stderr().find("the line", |text| {
        let count = text.lines().filter(|told| *told == line).count();
        (count > 0).then_some(count)
    });
    assert_eq!(count, 1);
    // Said on the command line, it is allowed.
    let kv = KeyValue::with(&["--grant", "keyvalue=carts"]);
    assert_eq!(kv.ask("api=draft&do=open&store=carts"), "ok: opened");
}

#[test]
fn check_names_a_store_that_is_imported_and_not_granted() {
    let app = App::of("kv-p2", "");
    let refused = hostel_in(app.folder(), &["check"]).failure(1);
    assert!(
        refused.contains("no grant of `keyvalue` lets it use that"),
        "{refused}"
    );
    assert!(
        refused.contains("add a line such as keyvalue = [\"default\"] to [component.web.grants]"),
        "{refused}"
    );
    let granted = App::of("kv-p2", "[component.web.grants]\nkeyvalue = [\"other\"]");
    hostel_in(granted.folder(), &["check"]).success();
    // It is served all the same, and told when it asks.
    let kv = KeyValue::app(&app, &[]);
    assert_eq!(kv.default("draft", "do=open"), "error: Error::AccessDenied");
}

#[test]
fn two_labels_of_one_component_are_two_stores_wherever_they_are() {
    let grants = "[component.web.grants]\nkeyvalue = [\"default\", \"sessions\"]";
    let app = App::of("kv-p2", grants)
        .with_file("server.toml", "[keyvalue.sessions]\nurl = \"memory:\"\n");
    let config = app.path("server.toml").display().to_string();
    let data = tempfile::tempdir().expect("a folder");
    let page = |server: &Server, query: &str| server.page(&format!("/?api=draft2&{query}"));
    {
        let server = Server::launch(app.folder(), data.path(), &["--config", &config]);
        page(&server, "store=default&do=set&key=k&value=kept");
        page(&server, "store=sessions&do=set&key=k&value=for%20now");
        assert_eq!(page(&server, "store=default&do=get&key=k"), "ok: kept\n");
        assert_eq!(
            page(&server, "store=sessions&do=get&key=k"),
            "ok: for now\n"
        );
    }
    let server = Server::launch(app.folder(), data.path(), &["--config", &config]);
    assert_eq!(page(&server, "store=default&do=get&key=k"), "ok: kept\n");
    assert_eq!(page(&server, "store=sessions&do=get&key=k"), "ok: none\n");
}

#[test]
fn apps_that_share_a_data_directory_do_not_see_each_other() {
    let data = tempfile::tempdir().expect("a folder");
    let app = |name: &str| {
        App::new(&format!(
            "[app]\nname = \"{name}\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
             [component.web]\nsource = \"kv-p2.wasm\"\n[component.web.grants]\nkeyvalue = [\"default\"]\n"
        ))
    };
    let apps = [app("shop"), app("shop-default"), app("s")];
    let servers: Vec<Server> = apps
        .iter()
        .map(|app| Server::launch(app.folder(), data.path(), &[]))
        .collect();
    let keys = [
        "k",
        "shop/k",
        "../shop/default/k",
        "shop.default.k",
        "%00k",
        "*",
    ];
    for (number, server) in servers.iter().enumerate() {
        for key in keys {
            let answer = server.page(&format!(
                "/?store=default&api=draft&do=set&key={key}&value={number}"
            ));
            assert_eq!(answer, "ok: set\n");
        }
    }
    for (number, server) in servers.iter().enumerate() {
        for key in keys {
            let answer = server.page(&format!("/?store=default&api=hostel&do=get&key={key}"));
            assert_eq!(answer, format!("ok: {number}\n"), "{key}");
        }
    }
}

#[test]
fn a_store_whose_server_is_gone_is_an_error_within_its_time() {
    let grants = "[component.web.grants]\nkeyvalue = [\"default\", \"sessions\"]";
    let app = App::of("kv-p2", grants).with_file(
        "server.toml",
        // Nothing listens on the port of the discard service.
        "[keyvalue.sessions]\nurl = \"redis://user:hunter2@127.0.0.1:9\"\ntimeout = \"500ms\"\n",
    );
    let config = app.path("server.toml").display().to_string();
    let kv = KeyValue::app(&app, &["--config", &config]);
    let begin = std::time::Instant::now();
    let answer = kv.ask("store=sessions&api=hostel&do=get&key=k");
    assert!(answer.starts_with("error: Error::Unavailable"), "{answer}");
    assert!(
        !answer.contains("127.0.0.1") && !answer.contains("hunter2"),
        "{answer}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    kv.server.stderr().find("a line of the log", |text| {
        text.contains("key-value store \"sessions\": ")
            .then_some(())
    });
    assert!(!kv.server.stderr().text().contains("hunter2"));
    // What does not need it is served.
    assert_eq!(kv.default("draft", "do=set&key=k&value=v"), "ok: set");
}
