//! How often running guests are interrupted.

use crate::harness::app::App;
use crate::harness::command::run;
use crate::harness::guest;
use crate::harness::message::get;

#[test]
fn a_loop_is_interrupted_soon_after_its_time_is_over() {
    let outcome = run(
        &["--limit", "deadline=10ms"],
        &guest("start-loop"),
        &[],
        b"",
    );
    assert_eq!(outcome.code, Some(124), "{}", outcome.stderr);
}

#[test]
fn a_loop_lets_its_own_thread_serve_others_between_two_ticks() {
    let app = App::new(
        "[app]\nname = \"two\"\n\
         [component.loop]\nsource = \"loop-p2.wasm\"\n[component.loop.limits]\ncpu = \"10m\"\ndeadline = \"1h\"\n\
         [component.good]\nsource = \"hello-p2.wasm\"\n\
         [[http]]\nroute = \"/loop\"\ncomponent = \"loop\"\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"good\"\n",
    );
    let server = app.up_with(&["--threads", "1"]);
    let mut looping = server.connect();
    looping.send(get("/loop"));
    let mut good = server.connect();
    for _ in 0..20 {
        assert_eq!(good.ask(&get("/")).status, 200);
    }
}
