//! Faults inside an instance that several requests share (`concurrent`).

use crate::harness::app::App;
use crate::harness::message::get;
use crate::harness::server::Server;

/// One guest whose single instance takes all requests.
fn shared(guest: &str, limits: &str) -> Server {
    let settings = format!("reuse = 1000\nconcurrent = 4\n{limits}");
    App::of(guest, &settings).up_with(&["--threads", "1"])
}

#[test]
fn a_trap_before_the_head_is_500_and_the_instance_is_not_used_again() {
    let server = shared("trap-p3", "");
    for _ in 0..3 {
        assert_eq!(server.get("/?when=before").status, 500);
        assert_eq!(server.page("/?when=never"), "a whole answer\n");
    }
}

#[test]
fn a_trap_after_the_head_does_not_end_like_a_whole_answer() {
    let server = shared("trap-p3", "");
    for _ in 0..5 {
        let mut connection = server.connect();
        connection.send(get("/?when=after-head"));
        match connection.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 500, "{}", answer.text()),
            Err(cut) => {
                let part = cut.part.expect("at least a head");
                assert!("half an ans".starts_with(&part.text()), "{}", part.text());
            }
        }
        server.is_alive("/?when=never");
    }
}

#[test]
fn a_loop_is_stopped_and_the_next_request_has_a_fresh_instance() {
    let server = shared("loop-p3", "limits = { cpu = \"100ms\" }");
    let answer = server.get("/");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(
        answer.text().starts_with("cpu: request "),
        "{}",
        answer.text()
    );
    server.stderr().wait_for("fault=cpu");
    assert_eq!(server.get("/").status, 504, "again, and not a refusal");
}

#[test]
fn an_instance_whose_client_left_takes_no_further_requests() {
    let server = shared("counter-p3", "");
    assert_eq!(server.page("/"), "seen 1 running 1\n");
    let mut connection = server.connect();
    connection.send(get("/?ms=60000"));
    crate::harness::eventually("the slow request is running", || {
        server.page("/").ends_with("running 2\n").then_some(())
    });
    drop(connection);
    crate::harness::eventually("a fresh instance", || {
        (server.page("/") == "seen 1 running 1\n").then_some(())
    });
}

#[test]
fn what_goes_on_after_the_last_answer_has_the_time_of_a_call_and_holds_its_permit() {
    let limits = "limits = { deadline = \"300ms\", concurrency = 2 }";
    let settings = format!("reuse = 2\nconcurrent = 2\n{limits}");
    let server = App::of("counter-p3", &settings).up_with(&["--threads", "1"]);
    // Each pair uses up an instance and leaves two tasks behind, which would never end by themselves.
    for _ in 0..8 {
        assert!(server.page("/?linger=3600000").starts_with("seen "));
    }
    server.stderr().wait_for("fault=deadline");
    assert!(server.page("/").starts_with("seen "));
}

#[test]
fn a_loop_goes_on_in_the_slow_lane() {
    let server = shared("loop-p3", "limits = { cpu = \"1s\" }");
    assert_eq!(server.get("/").status, 504);
    let (slow, fast) = (server.cpu_ticks_of("slow"), server.cpu_ticks_of("serve"));
    assert!(slow > 50, "of 100 ticks, {slow} were in the slow lane");
    assert!(fast < 50, "{fast} ticks were in the fast lane");
}

#[test]
fn instances_whose_clients_all_left_give_their_permits_back() {
    let settings = "reuse = 1000\nconcurrent = 4\nlimits = { concurrency = 2 }";
    let server = App::of("slow-p3", settings).up_with(&["--threads", "2"]);
    for _ in 0..10 {
        let mut leaving: Vec<_> = (0..2).map(|_| server.connect()).collect();
        for connection in &mut leaving {
            connection.send(get("/?ms=60000"));
        }
        server.comes_to_rest();
        drop(leaving);
    }
    crate::harness::eventually("a permit is free", || {
        (server.get("/?ms=1").status == 200).then_some(())
    });
}
