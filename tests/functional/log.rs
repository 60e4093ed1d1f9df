//! What guests print under `hostel up`.

use crate::harness::app::App;
use crate::harness::capture::Capture;
use crate::harness::server::Server;

/// The lines of a stream once this text is in it.
fn lines_with(stream: &Capture, text: &str) -> Vec<String> {
    stream.wait_for(text);
    stream.text().lines().map(str::to_owned).collect()
}

/// Splits `[component request] text`.
fn untagged(line: &str) -> (&str, &str, &str) {
    let (tag, text) = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .unwrap_or_else(|| panic!("{line}"));
    let (component, request) = tag.split_once(' ').unwrap_or_else(|| panic!("{line}"));
    (component, request, text)
}

#[test]
fn every_line_carries_component_and_request() {
    let server = App::of("log-p2", "").up();
    let _page = server.page("/?what=plain");
    let lines = lines_with(server.stdout(), "out: a plain line\n");
    let (component, request, text) = untagged(&lines[0]);
    assert_eq!((component, text), ("web", "out: a plain line"));
    assert!(
        request.len() == 16 && request.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{request}"
    );
    // The other stream goes to the other stream, with the same request.
    let lines = lines_with(server.stderr(), "err: a plain line\n");
    assert_eq!(untagged(&lines[1]), ("web", request, "err: a plain line"));
}

#[test]
fn two_requests_have_two_names() {
    two_pages_have_two_names(&App::of("log-p2", "").up());
}

fn two_pages_have_two_names(server: &Server) {
    let _pages = [server.page("/?what=plain"), server.page("/?what=plain")];
    server.stdout().find("two lines", |text| {
        (text.lines().count() == 2).then_some(())
    });
    let text = server.stdout().text();
    let requests: Vec<&str> = text.lines().map(|line| untagged(line).1).collect();
    assert_ne!(requests[0], requests[1]);
}

#[test]
fn pieces_of_a_line_are_put_together_and_a_last_line_without_end_is_not_lost() {
    let server = App::of("log-p2", "").up();
    let _pages = [server.page("/?what=partial"), server.page("/?what=unended")];
    let lines = lines_with(server.stdout(), "out: no line end\n");
    let texts: Vec<&str> = lines.iter().map(|line| untagged(line).2).collect();
    assert_eq!(texts, ["out: one line in two pieces", "out: no line end"]);
}

#[test]
fn raw_output_has_no_tags_and_keeps_every_byte() {
    let server = App::of("log-p2", "").up_with(&["--raw-output"]);
    let _page = server.page("/?what=escapes");
    server.stdout().wait_for("\n");
    assert_eq!(
        server.stdout().bytes(),
        b"out: \x1b[31mred\x1b[0m\rback \x07bell \xff\xfe\n"
    );
}

#[test]
fn a_warm_instance_prints_under_the_name_of_the_request_it_answers() {
    let server = App::of("log-p2", "reuse = 10").up_with(&["--threads", "1"]);
    two_pages_have_two_names(&server);
}
