//! Guests that never end.

use crate::harness::app::App;
use crate::harness::message::get;
use crate::harness::server::Server;

const LOOPS: [&str; 2] = ["loop-p2", "loop-p3"];

#[test]
fn a_loop_is_504_when_its_cpu_is_spent() {
    for guest in LOOPS {
        let server = Server::with(guest, &["--limit", "cpu=100ms"]);
        let answer = server.get("/");
        assert_eq!(answer.status, 504, "{guest}");
        assert!(
            answer.text().starts_with("cpu: request "),
            "{guest}: {}",
            answer.text()
        );
        server.stderr().wait_for("fault=cpu");
    }
}

#[test]
fn a_loop_is_504_at_its_deadline() {
    for guest in LOOPS {
        let answer = Server::with(guest, &["--limit", "deadline=100ms"]).get("/");
        assert_eq!(answer.status, 504, "{guest}");
        assert!(
            answer.text().starts_with("deadline: request "),
            "{guest}: {}",
            answer.text()
        );
    }
}

#[test]
fn a_loop_after_the_head_is_cut_off() {
    for guest in LOOPS {
        let server = Server::with(guest, &["--limit", "cpu=100ms"]);
        let mut connection = server.connect();
        connection.send(get("/?when=after-head"));
        match connection.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 504, "{guest}: {}", answer.text()),
            Err(cut) => assert_eq!(cut.part.map(|part| part.status), Some(200), "{guest}"),
        }
        server.stderr().wait_for("fault=cpu");
    }
}

#[test]
fn a_neighbour_on_the_same_thread_answers_meanwhile() {
    for guest in LOOPS {
        let app = App::new(&format!(
            "[app]\nname = \"two\"\n\
             [component.loop]\nsource = \"{guest}.wasm\"\nlimits = {{ cpu = \"2s\" }}\n\
             [component.good]\nsource = \"hello-p2.wasm\"\n\
             [[http]]\nroute = \"/loop\"\ncomponent = \"loop\"\n\
             [[http]]\nroute = \"/...\"\ncomponent = \"good\"\n"
        ));
        let server = app.up_with(&["--threads", "1"]);
        let mut looping = server.connect();
        looping.send(get("/loop"));
        let mut good = server.connect();
        for _ in 0..20 {
            assert_eq!(good.ask(&get("/")).status, 200, "{guest}");
        }
        // It was still at it while the other one answered.
        assert!(!server.stderr().text().contains("fault=cpu"), "{guest}");
        assert_eq!(looping.answer().status, 504, "{guest}");
    }
}

#[test]
fn a_loop_whose_client_left_ends_and_frees_the_cpu() {
    for guest in LOOPS {
        let server = Server::with(guest, &["--limit", "cpu=10m", "--limit", "deadline=1h"]);
        let mut connection = server.connect();
        connection.send(get("/"));
        // It spins: the process uses CPU.
        let begin = server.cpu_ticks();
        crate::harness::eventually("the guest spins", || {
            (server.cpu_ticks() > begin + 5).then_some(())
        });
        drop(connection);
        server.comes_to_rest();
    }
}
