//! The way inside an app is no way into another one, and no way around the network's rules.

use crate::harness::app::App;
use crate::harness::message::request;
use crate::harness::server::Server;

fn caller(guest: &str, grants: &str) -> Server {
    App::new(&format!(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"{guest}.wasm\"\n[component.web.grants]\nhttp = {grants}\n\
         [component.good]\nsource = \"hello-p2.wasm\"\n[component.bad]\nsource = \"hello-p3.wasm\"\n"
    ))
    .up()
}

#[test]
fn only_a_plain_name_of_the_own_app_leads_inside() {
    for guest in ["outgoing-p2", "outgoing-p3"] {
        let server = caller(guest, "[\"http://good.app.internal\", \"*://*:*\"]");
        assert_eq!(
            server.page("/?url=http://good.app.internal/"),
            "hello from wasi:http 0.2\n"
        );
        assert_eq!(
            server.page("/?url=http://GOOD.app.internal./"),
            "hello from wasi:http 0.2\n"
        );
        for url in [
            "http://bad.app.internal/",
            "http://bad.app.internal./",
            "http://bad.good.app.internal/",
            "http://good.other.app.internal/",
            "http://app.internal/",
            "https://good.app.internal/",
            "http://good.app.internal:8080/",
            "https://good.app.internal:80/",
            "http://good.app.internal:0/",
            "http://good.app.internal@bad.app.internal/",
            "http://bad.app.internal@good.app.internal/",
            "http://good.app.internal%252ebad.app.internal/",
            "http://good%252eapp.internal/",
            "http://*.app.internal/",
            "http://.app.internal/",
        ] {
            let answer = server.get(&format!("/?url={url}"));
            assert_eq!(answer.status, 502, "{guest} {url}: {}", answer.text());
        }
    }
}

#[test]
fn a_path_is_a_path_and_a_header_changes_nobody() {
    let server = caller("outgoing-p2", "[\"http://good.app.internal\"]");
    for path in [
        "//bad.app.internal/",
        "http://bad.app.internal/",
        "\\\\bad.app.internal",
    ] {
        let answer = server.get(&format!("/?url=http://good.app.internal/&path={path}"));
        assert_ne!(answer.text(), "hello from wasi:http 0.3\n", "{path}");
    }
    for header in [
        "x-forwarded-host:bad.app.internal",
        "forwarded:host=bad.app.internal",
    ] {
        let page = server.page(&format!("/?url=http://good.app.internal/&header={header}"));
        assert_eq!(page, "hello from wasi:http 0.2\n", "{header}");
    }
    let answer = server.get("/?url=http://good.app.internal/&header=host:bad.app.internal");
    assert_ne!(answer.text(), "hello from wasi:http 0.3\n");
}

#[test]
fn a_neighbour_cannot_pretend_to_be_a_schedule() {
    for caller in ["outgoing-p2", "outgoing-p3"] {
        let server = App::new(&format!(
            "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
             [component.web]\nsource = \"{caller}.wasm\"\n\
             [component.web.grants]\nhttp = [\"http://job.app.internal\"]\n\
             [component.job]\nsource = \"headers-p2.wasm\"\n"
        ))
        .up();
        let page = |header: &str| {
            server.page(&format!(
                "/?url=http://job.app.internal/&header={header}:said"
            ))
        };
        assert!(page("x-own").contains("x-own: said"), "{caller}");
        for header in ["hostel-cron", "Hostel-Cron-Time"] {
            let text = page(header);
            assert!(!text.contains("said"), "{caller} {header}: {text}");
        }
    }
}

#[test]
fn no_client_reaches_a_component_by_its_name_inside() {
    let server = App::new(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/web\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"outgoing-p2.wasm\"\n\
         [component.web.grants]\nhttp = [\"http://good.app.internal\"]\n\
         [component.good]\nsource = \"hello-p2.wasm\"\n",
    )
    .up();
    let text = "GET / HTTP/1.1\r\nHost: good.app.internal\r\n\r\n";
    assert_eq!(server.connect().ask(text.as_bytes()).status, 404);
    let text = "GET http://good.app.internal/ HTTP/1.1\r\nHost: good.app.internal\r\n\r\n";
    assert_eq!(server.connect().ask(text.as_bytes()).status, 404);
}

#[test]
fn how_deep_a_call_is_comes_from_the_host_and_not_from_a_message() {
    let grants = "[component.web.grants]\nhttp = [\"http://web.app.internal\"]";
    let server = App::of("outgoing-p2", grants).up();
    let path = "/?url=http://web.app.internal".repeat(8) + "/";
    for (name, value) in [
        ("x-hostel-depth", "0"),
        ("x-hostel-depth", "100"),
        ("max-forwards", "0"),
    ] {
        let fields = [(name, value)];
        let answer = server.connect().ask(&request("GET", &path, &fields, ""));
        assert_eq!(answer.text(), "say url\n", "{name}: {value}");
        let one_more = format!("/?url=http://web.app.internal{path}");
        let answer = server
            .connect()
            .ask(&request("GET", &one_more, &fields, ""));
        assert_eq!(answer.status, 502, "{name}: {value}");
    }
}

#[test]
fn the_name_of_a_component_is_no_name_for_sockets() {
    for guest in ["lookup-p3", "sockets-p2"] {
        let app = format!(
            "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
             [component.web]\nsource = \"{guest}.wasm\"\n[component.web.grants]\n\
             http = [\"http://good.app.internal\"]\ntcp = [\"*:*\"]\n\
             [component.good]\nsource = \"hello-p2.wasm\"\n"
        );
        let server = App::new(&app).up();
        let page = server.page("/?name=good.app.internal");
        assert!(
            page.starts_with("error: ") || page.starts_with("ok: 0 "),
            "{guest}: {page}"
        );
    }
}
