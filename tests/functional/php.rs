//! PHP, as others built it: the site of `examples/php`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::harness::app::App;
use crate::harness::interpreters::php;
use crate::harness::message::{Answer, request};
use crate::harness::server::Server;
use crate::harness::{data, root};

/// A copy of the example, and PHP beside it.
fn example() -> App {
    let from = root().join("examples/php");
    let read = |name: &str| fs::read(from.join(name)).expect(name);
    let mut app = App::of_manifest(&String::from_utf8_lossy(&read("hostel.toml")));
    for name in [
        "etc/php.ini",
        "fetch-php.sh",
        "site/about.php",
        "site/index.php",
        "site/style.css",
        "data/sessions/.gitignore",
    ] {
        app = app.with_file(name, read(name));
    }
    fs::copy(php(), app.path("php-cgi.wasm")).expect("a copy");
    app
}

/// An app of one script.
fn script(text: &str) -> App {
    example().with_file("site/test.php", text)
}

fn ask(server: &Server, method: &str, target: &str, cookies: &str, body: &str) -> Answer {
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let fields = [form, ("Cookie", cookies)];
    server
        .connect()
        .ask(&request(method, target, &fields, body))
}

/// The cookies that an answer sets, as a client sends them back.
fn cookies(answer: &Answer) -> String {
    let set = answer
        .fields
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    let pairs: Vec<&str> = set
        .filter_map(|(_, cookie)| cookie.split(';').next())
        .collect();
    pairs.join("; ")
}

#[test]
fn a_page_knows_its_query_its_form_and_its_cookies() {
    let app = example();
    let server = app.up_with(&["--build"]);
    let page = server.get("/?name=A%26B");
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(page.field("content-type"), Some("text/html; charset=UTF-8"));
    assert!(page.text().contains("Hello, A&amp;B!"), "{}", page.text());
    let session = cookies(&page);
    let signed = ask(
        &server,
        "POST",
        "/index.php",
        &session,
        "line=I+was+%3Chere%3E",
    );
    assert_eq!(signed.status, 303, "{}", signed.text());
    assert_eq!(signed.field("location"), Some("/index.php"));
    let known = format!("{session}; {}", cookies(&signed));
    let text = ask(&server, "GET", "/index.php", &known, "").text();
    for part in [
        "visit 3 of yours",
        "You have signed",
        "<li>I was &lt;here&gt;</li>",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let stranger = server.page("/");
    assert!(stranger.contains("visit 1 of yours"), "{stranger}");
    let told = server.page("/about.php/some/path?x=1");
    for line in [
        "REQUEST_URI = /about.php/some/path?x=1\n",
        "SCRIPT_NAME = /about.php\n",
        "PATH_INFO = /some/path\n",
        "PHP_SELF = /about.php/some/path\n",
    ] {
        assert!(told.contains(line), "{told}");
    }
    assert_eq!(server.get("/style.css").status, 200);
    assert_eq!(server.get("/php.ini").status, 404);
}

#[test]
fn a_script_that_is_edited_is_live_at_once() {
    let app = script("<?php echo 'before';");
    let server = app.up();
    assert_eq!(server.page("/test.php"), "before");
    fs::write(app.path("site/test.php"), "<?php echo 'behind';").expect("a file");
    assert_eq!(server.page("/test.php"), "behind");
}

#[test]
fn a_script_answers_in_any_way_that_http_has() {
    let app = script(
        "<?php http_response_code((int) $_GET['code']); header('X-One: 1'); header('X-One: 2', false);\
         setcookie('a', '1'); setcookie('b', '2'); echo $_SERVER['REQUEST_METHOD'], strlen(file_get_contents('php://input'));",
    );
    let server = app.up();
    for code in [200, 201, 404, 418, 503] {
        let answer = ask(
            &server,
            "PUT",
            &format!("/test.php?code={code}"),
            "",
            "12345",
        );
        assert_eq!((answer.status, answer.text().as_str()), (code, "PUT5"));
        let ones = answer.fields.iter().filter(|(name, _)| name == "x-one");
        assert_eq!(ones.count(), 2);
        assert_eq!(cookies(&answer), "a=1; b=2");
    }
    let head = ask(&server, "HEAD", "/test.php?code=200", "", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

/// A client's query must not be read as an interpreter's options, whatever the interpreter thinks of it.
#[test]
fn a_query_is_no_option() {
    let app = script("<?php echo 'ran ', $_SERVER['QUERY_STRING'], ' ', ini_get('date.timezone');");
    let server = app.up();
    for query in ["-s", "-d+display_errors%3d1", "-h", "--version", "-i"] {
        let page = server.page(&format!("/test.php?{query}"));
        assert_eq!(page, format!("ran {query} UTC"));
    }
}

#[test]
fn a_script_that_fails_costs_one_request() {
    let app = script(
        "<?php switch ($_GET['how']) {\
            case 'error': no_such_function();\
            case 'loop': while (true);\
            case 'memory': $a = 'x'; while (true) $a .= $a;\
            case 'recursion': function f($n) { return f($n + 1) + 1; } f(0);\
            case 'exit': echo 'early'; exit(3);\
         } echo 'fine';",
    );
    let limits = fs::read_to_string(app.path("hostel.toml")).expect("the manifest");
    let limits = limits.replace("deadline = \"10s\"", "cpu = \"1s\"");
    fs::write(app.path("hostel.toml"), limits).expect("a manifest");
    let server = app.up();
    for (how, status) in [
        ("error", 500),
        ("loop", 504),
        ("memory", 500),
        ("recursion", 500),
        ("exit", 200),
        ("", 200),
    ] {
        let answer = server.get(&format!("/test.php?how={how}"));
        assert_eq!(answer.status, status, "{how}: {}", answer.text());
    }
    assert_eq!(server.page("/test.php?how="), "fine");
}

#[test]
fn a_second_start_takes_the_code_from_the_cache() {
    let app = example();
    let compiled = data().join("compiled");
    // PHP is among the largest of what the tests compile; others come meanwhile.
    let large = || -> BTreeSet<(PathBuf, SystemTime)> {
        let entries = fs::read_dir(&compiled).expect("compiled code");
        let large = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let about = entry.metadata().ok()?;
            (about.len() > 20 << 20).then_some((entry.path(), about.modified().ok()?))
        });
        large.collect()
    };
    let before = large();
    assert!(!before.is_empty(), "PHP was compiled");
    app.up().is_alive("/");
    assert!(before.is_subset(&large()), "it was compiled again");
}
