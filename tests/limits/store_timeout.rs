//! How long one operation of a store may take.

use std::net::TcpListener;

use hostel_app::limits::STORE_TIMEOUT_MS;

use crate::harness::app::App;
use crate::harness::command::hostel;

#[test]
fn a_backend_that_never_answers_is_given_up() {
    // The kernel accepts for it, and nobody ever reads.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = silent.local_addr().expect("an address");
    let text = |rest: &str| format!("[keyvalue.default]\nurl = \"redis://{address}\"\n{rest}");
    let app = App::new("");
    let config = app.path("server.toml");
    let check = |text: String| {
        std::fs::write(&config, text).expect("a file");
        let flag = config.display().to_string();
        hostel(&["check", "--config", &flag]).failure(1)
    };
    let error = check(text("timeout = \"300ms\"\n"));
    assert!(error.contains("within 300 ms"), "{error}");
    let error = check(text(""));
    let default = format!("within {} ms", STORE_TIMEOUT_MS.default);
    assert!(error.contains(&default), "{error}");
}
