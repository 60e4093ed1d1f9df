//! A defect of the host itself: one of the functions that it offers to guests panics. `hostel_host::inject` tries all of
//! them; here the real executable has one.

use crate::harness::app::App;
use crate::harness::guest;
use crate::harness::server::Server;

/// Two components, of which only `/bad` calls what panics.
fn app(bad: &str) -> App {
    App::new(&format!(
        "[app]\nname = \"two\"\n\
         [component.good]\nsource = \"hello-p2-small.wasm\"\n\
         [component.bad]\nsource = \"{bad}.wasm\"\n\
         [[http]]\nroute = \"/bad\"\ncomponent = \"bad\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"good\"\n"
    ))
}

#[test]
fn a_panic_in_a_host_function_is_one_500_and_the_next_request_is_served() {
    for (bad, function) in [
        (
            "slow-p2",
            "wasi:clocks/monotonic-clock@0.2#subscribe-duration",
        ),
        (
            "headers-p2",
            "later:wasi:http/types@0.2#[method]fields.entries",
        ),
        ("slow-p3", "wasi:clocks/monotonic-clock@0.3#wait-for"),
        (
            "headers-p3",
            "later:wasi:http/types@0.3#[method]fields.copy-all",
        ),
    ] {
        let server = Server::panicking_in(function, app(bad).folder());
        let mut connection = server.connect();
        for _ in 0..3 {
            let answer = connection.ask(&crate::harness::message::get("/bad?ms=1"));
            assert_eq!(answer.status, 500, "{function}: {}", answer.text());
            assert!(
                answer.text().starts_with("host: "),
                "{function}: {}",
                answer.text()
            );
            assert_eq!(
                connection.ask(&crate::harness::message::get("/")).status,
                200,
                "after {function}"
            );
        }
        server.stderr().wait_for("fault=host");
    }
}

#[test]
fn a_panic_under_run_has_the_exit_code_of_a_host_that_failed() {
    for (name, function) in [
        ("run-exit-p1", "wasi_snapshot_preview1#args_get"),
        ("run-exit-p1", "later:wasi_snapshot_preview1#args_get"),
        ("run-exit-p2", "wasi:cli/environment@0.2#get-arguments"),
        ("run-exit-p3", "wasi:cli/environment@0.3#get-arguments"),
    ] {
        let outcome = crate::harness::command::run_panicking_in(function, &guest(name));
        assert_eq!(outcome.code, Some(70), "{name} {function}: {outcome:?}");
        assert!(
            outcome.stderr.contains("injected into"),
            "{name}: {}",
            outcome.stderr
        );
    }
}
