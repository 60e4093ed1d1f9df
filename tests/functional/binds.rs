//! Imports that another component of the app answers: `[component.NAME.bind]`.

use crate::harness::app::App;
use crate::harness::command::hostel;
use crate::harness::server::refused_start;
use crate::harness::upstream::Upstream;
use crate::harness::{eventually, guest};

/// `shop` serves everything and asks `pricing`. The settings are further lines of each component's.
fn shop(shop: &str, pricing: &str) -> App {
    App::new(&manifest(shop, pricing))
}

fn manifest(shop: &str, pricing: &str) -> String {
    format!(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"shop\"\n\
         [component.pricing]\nsource = \"pricing-p2.wasm\"\n{pricing}\n\
         [component.shop]\nsource = \"shop-p2.wasm\"\n{shop}\n\
         [component.shop.bind]\n\"shop:pricing/api\" = \"pricing\"\n"
    )
}

#[test]
fn an_import_is_answered_by_another_component() {
    let server = shop("", "").up();
    assert_eq!(server.page("/?item=tea"), "300\n");
    assert_eq!(server.page("/?item=unicorn"), "sold out: no unicorn\n");
    let total = "900: 2 x tea for nobody, 2 tags; 1 x mug for Ada, 1 tags\n";
    assert_eq!(server.page("/?total=1"), total);
    assert!(server.page("/?times=1000").trim().parse::<u64>().is_ok());
}

#[test]
fn caller_and_callee_may_be_of_different_releases_of_wasi() {
    for shop in ["shop-p2", "shop-p3"] {
        for pricing in ["pricing-p2", "pricing-p3"] {
            for settings in ["", "reuse = 10", "reuse = 100\nconcurrent = 4"] {
                let manifest = manifest(settings, "")
                    .replace("shop-p2", shop)
                    .replace("pricing-p2", pricing);
                let server = App::new(&manifest).up();
                for _ in 0..3 {
                    let page = server.page("/?item=tea");
                    assert_eq!(page, "300\n", "{shop} {pricing} {settings}");
                }
                let answer = server.get("/?act=trap");
                assert_eq!(answer.status, 500, "{shop} {pricing} {settings}");
                assert_eq!(
                    server.page("/?item=mugs"),
                    "400\n",
                    "{shop} {pricing} {settings}"
                );
            }
        }
    }
}

#[test]
fn the_callee_s_instance_is_made_for_the_caller_s_and_lives_as_long() {
    // Two calls of one request meet the same instance; the next request has a fresh one.
    let server = shop("", "").up();
    for _ in 0..3 {
        assert_eq!(server.page("/?asked=1"), "1, 2\n");
    }
    let server = shop("reuse = 2", "").up_with(&["--threads", "1"]);
    // The next request has the same instance, unless it comes before that one is free again; no third one has it.
    let pages: Vec<String> = (0..30).map(|_| server.page("/?asked=1")).collect();
    let of_both = |page: &String| ["1, 2\n", "3, 4\n"].contains(&page.as_str());
    assert!(pages.iter().all(of_both), "{pages:?}");
    assert!(pages.iter().any(|page| page == "3, 4\n"), "{pages:?}");
}

#[test]
fn the_callee_has_its_own_environment_grants_and_log() {
    let upstream = Upstream::http("from upstream");
    let grant = format!(
        "[component.pricing.grants]\nhttp = [\"http://{}\"]",
        upstream.address()
    );
    let url = format!("/?act=get:http://{}/", upstream.address());
    let app = shop(
        "env = { WHO = \"shop\" }",
        &format!("env = {{ WHO = \"pricing\" }}\n{grant}"),
    );
    let config = "[network]\nallow = [\"127.0.0.1\"]\n";
    let app = app.with_file("server.toml", config);
    let file = app.path("server.toml");
    let server = app.up_with(&["--config", file.to_str().expect("a path")]);
    assert_eq!(server.page("/?act=env:WHO"), "pricing\n");
    assert_eq!(server.page(&url), "203\n");
    assert_eq!(server.page("/?act=print:hello"), "done\n");
    let out = server.stdout();
    eventually("its line carries its name", || {
        let text = out.text();
        let mut lines = text.lines();
        lines
            .find(|line| line.contains("pricing") && line.ends_with("hello"))
            .map(drop)
    });
    // What the caller was granted is not the callee's.
    let app = shop(&grant.replace("pricing", "shop"), "").with_file("server.toml", config);
    let file = app.path("server.toml");
    let server = app.up_with(&["--config", file.to_str().expect("a path")]);
    let page = server.page(&url);
    assert!(page.contains("HttpRequestDenied"), "{page}");
}

#[test]
fn a_callee_that_fails_traps_its_caller_and_the_log_names_both() {
    let server = shop("reuse = 10", "").up();
    for _ in 0..2 {
        let answer = server.get("/?act=trap");
        assert_eq!(
            (answer.status, answer.text().starts_with("trap: ")),
            (500, true)
        );
        assert!(!answer.text().contains("pricing"), "{}", answer.text());
    }
    let log = server.stderr();
    eventually("both faults are told", || {
        let text = log.text();
        let callee = text.contains("component=pricing") && text.contains("as it was told");
        let caller = text
            .contains("component `pricing`, which answers `shop:pricing/api@1.0.0`, failed: trap");
        (callee && caller).then_some(())
    });
    assert_eq!(server.page("/?item=tea"), "300\n");
}

#[test]
fn the_callee_s_limits_are_its_own() {
    let limited = "[component.pricing.limits]\nmemory = \"16MiB\"\ncpu = \"100ms\"";
    let server = shop("", limited).up();
    assert_eq!(server.page("/?act=grow:4"), format!("{} bytes\n", 4 << 20));
    assert_eq!(server.get("/?act=grow:32").status, 500);
    let answer = server.get("/?act=loop");
    assert_eq!(
        (answer.status, answer.text().starts_with("cpu: ")),
        (504, true)
    );
    let server = shop("", "[component.pricing.limits]\ndeadline = \"300ms\"").up();
    let answer = server.get("/?act=sleep:60000");
    assert_eq!(
        (answer.status, answer.text().starts_with("deadline: ")),
        (504, true)
    );
    assert_eq!(server.page("/?item=tea"), "300\n");
}

#[test]
fn what_the_callee_uses_is_the_caller_s_too() {
    let server = shop(
        "[component.shop.limits]\ncpu = \"100ms\"\ndeadline = \"500ms\"",
        "",
    )
    .up();
    assert_eq!(server.get("/?act=loop").status, 504);
    assert_eq!(server.get("/?act=sleep:60000").status, 504);
    assert_eq!(server.page("/?item=tea"), "300\n");
}

#[test]
fn a_busy_callee_makes_its_caller_busy() {
    let limits = "[component.pricing.limits]\nconcurrency = 1\nqueue_wait = \"10ms\"";
    let server = shop("", limits).up();
    let mut first = server.connect();
    first.send(crate::harness::message::get("/?act=sleep:2000"));
    let answer = eventually("the permit is taken", || {
        let answer = server.get("/?item=tea");
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(
        (answer.status, answer.text().starts_with("busy: ")),
        (503, true)
    );
    assert_eq!(first.answer().status, 200);
    assert_eq!(server.page("/?item=tea"), "300\n");
}

#[test]
fn what_does_not_fit_is_refused_at_the_start_with_both_names() {
    let cases = [
        // An import that the caller does not have.
        (
            manifest("", "").replace("\"shop:pricing/api\" =", "\"shop:pricing/apis\" ="),
            vec![
                "shop:pricing/apis",
                "did you mean `shop:pricing/api@1.0.0`?",
            ],
        ),
        // A callee that lacks the export.
        (
            manifest("", "").replace("pricing-p2.wasm", "hello-p2.wasm"),
            vec![
                "\"shop\"",
                "shop:pricing/api@1.0.0",
                "\"pricing\", which does not export it",
            ],
        ),
        // A callee that is a module.
        (
            manifest("", "").replace("pricing-p2.wasm", "run-exit-p1.wasm"),
            vec!["core module"],
        ),
        // Nobody of this name.
        (
            manifest("", "").replace("= \"pricing\"", "= \"pricin\""),
            vec!["did you mean \"pricing\"?"],
        ),
        // Another version.
        (
            manifest("", "").replace("\"shop:pricing/api\" =", "\"shop:pricing/api@2.0.0\" ="),
            vec!["shop:pricing/api@2.0.0", "shop:pricing/api@1.0.0"],
        ),
        // Not an interface.
        (
            manifest("", "").replace("\"shop:pricing/api\" =", "api ="),
            vec!["is not the name of an interface"],
        ),
        // A circle.
        (
            manifest("", "[component.pricing.bind]\n\"a:b/c\" = \"shop\""),
            vec!["bound in a circle: pricing -> shop -> pricing"],
        ),
    ];
    for (manifest, told) in cases {
        let app = App::new(&manifest);
        let text = refused_start(app.folder(), &[]);
        let checked = hostel(&["check".as_ref(), app.folder().as_os_str()]).failure(1);
        for part in told {
            assert!(text.contains(part), "{part}: {text}");
            assert!(checked.contains(part), "{part}: {checked}");
        }
    }
}

#[test]
fn an_import_that_nobody_answers_names_the_way_to_bind_it() {
    let all = manifest("", "");
    let (unbound, _) = all.split_once("[component.shop.bind]").expect("a section");
    let (head, _) = unbound
        .split_once("[component.pricing]")
        .expect("a section");
    let (_, shop) = unbound.split_once("[component.shop]").expect("a section");
    let app = App::new(&format!("{head}[component.shop]{shop}"));
    let text = refused_start(app.folder(), &[]);
    assert!(
        text.contains("shop:pricing/api@1.0.0") && text.contains(".bind]"),
        "{text}"
    );
}

/// A component that exports, and one that serves and imports, a function of this type.
fn of_type(result: &str) -> App {
    let (ty, core) = match result {
        "u32" => ("u32", "i32.const 7"),
        _ => ("u64", "i64.const 7"),
    };
    let core_ty = if ty == "u32" { "i32" } else { "i64" };
    App::new(
        "[app]\nname = \"test\"\n[[http]]\nroute = \"/...\"\ncomponent = \"shop\"\n\
         [component.pricing]\nsource = \"pricing.wat\"\n[component.shop]\nsource = \"shop-p2.wasm\"\n\
         [component.shop.bind]\n\"shop:pricing/api\" = \"pricing\"\n",
    )
    .with_file(
        "pricing.wat",
        format!(
            "(component (core module $m (func (export \"asked\") (result {core_ty}) {core}))\n\
             (core instance $i (instantiate $m))\n\
             (func $f (result {ty}) (canon lift (core func $i \"asked\")))\n\
             (instance $x (export \"asked\" (func $f)))\n\
             (export \"shop:pricing/api@1.2.0\" (instance $x)))"
        ),
    )
}

#[test]
fn every_function_that_is_wanted_has_to_be_there_with_its_type() {
    // Of a newer version of the same track, but without most of it.
    let text = refused_start(of_type("u64").folder(), &[]);
    assert!(
        text.contains("\"pricing\", whose `shop:pricing/api@1.0.0` has no function"),
        "{text}"
    );
    let text = refused_start(of_type("u32").folder(), &[]);
    assert!(text.contains("shop:pricing/api@1.0.0"), "{text}");
}

#[test]
fn a_bound_callee_is_replaced_while_the_app_is_served_if_it_still_fits() {
    let app = shop("", "");
    let server = app.up_with(&["--watch"]);
    assert_eq!(server.page("/?act=none"), "cannot none\n");
    let rebuild = |name: &str| {
        std::fs::copy(guest(name), app.path("new")).expect("a copy");
        std::fs::rename(app.path("new"), app.path("pricing-p2.wasm")).expect("a file");
    };
    rebuild("hello-p2");
    let log = server.stderr();
    eventually("the misfit is told", || {
        let told = log.text().contains("\"pricing\", which does not export it");
        told.then_some(())
    });
    assert_eq!(server.page("/?act=none"), "cannot none\n");
    rebuild("pricing-p3");
    eventually("the new build answers", || {
        let page = server.page("/?act=none");
        page.starts_with("cannot none, at ").then_some(())
    });
}
