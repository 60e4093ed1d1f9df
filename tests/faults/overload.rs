//! More of everything than there is room for: the server turns away what it must, and goes on.

use crate::harness::http::Connection;
use crate::harness::message::get;
use crate::harness::server::Server;
use crate::harness::{PATIENCE, eventually};

#[test]
fn running_out_of_descriptors_is_survived() {
    let server = Server::of("hello-p2");
    server.is_alive("/");
    server.allow_more_files(20);
    // The kernel accepts them all; the process cannot.
    let crowd: Vec<Connection> = (0..60).map(|_| server.connect()).collect();
    server.comes_to_rest();
    server.stderr().wait_for("cannot accept a connection: ");
    drop(crowd);
    server.is_alive("/");
}

#[test]
fn half_open_clients_do_not_lock_out_the_others() {
    let server = Server::of("hello-p2");
    let mut crowd: Vec<Connection> = (0..400).map(|_| server.connect()).collect();
    crowd
        .iter_mut()
        .for_each(|client| client.send("GET / HTTP/1.1\r\nHost: loc"));
    for _ in 0..20 {
        server.is_alive("/");
    }
}

#[test]
fn an_output_that_nobody_reads_holds_nobody_up() {
    let server = Server::of("log-p2");
    server.stdout().hold();
    server.stderr().hold();
    let mut connection = server.connect();
    // Half a megabyte to each stream: much more than a pipe holds, and within the rate of one app.
    for _ in 0..16 {
        let answer = connection.ask(&get("/?what=long&bytes=30000"));
        assert_eq!(answer.status, 200);
    }
    server.stdout().release();
    server.stderr().release();
    let lines = |text: &str| text.lines().filter(|line| line.ends_with('x')).count();
    eventually("everything comes out in the end", || {
        (lines(&server.stdout().text()) == 16 && lines(&server.stderr().text()) == 16).then_some(())
    });
}

#[test]
fn an_output_that_is_closed_is_no_trouble() {
    let mut command = crate::harness::executable();
    command.args(["up", "--listen", "127.0.0.1:0", "--data"]);
    command
        .arg(crate::harness::data())
        .arg(crate::harness::guest("log-p2"));
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = crate::harness::command::Guarded(command.spawn().expect("it starts"));
    drop(child.0.stdout.take());
    let stderr = crate::harness::capture::Capture::of(child.0.stderr.take().expect("a pipe"));
    let address = stderr.find("the ready line", |text| {
        let (_, rest) = text.split_once("listening on http://")?;
        rest.split_once('\n')?.0.parse().ok()
    });
    for _ in 0..3 {
        let answer = Connection::open(address)
            .expect("it accepts")
            .ask(&get("/?what=plain"));
        assert_eq!(answer.status, 200, "within {PATIENCE:?}");
    }
    assert!(!stderr.text().contains("panicked"), "{}", stderr.text());
}
