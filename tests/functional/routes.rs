//! Which component answers which request.

use crate::harness::app::App;
use crate::harness::message::request;
use crate::harness::server::Server;

/// Five components that can be told apart by what they answer.
const SEVERAL: &str = r#"
[app]
name = "several"

[component.p2]
source = "hello-p2.wasm"

[component.p3]
source = "hello-p3.wasm"

[component.count]
source = "counter-p2.wasm"

[component.headers]
source = "headers-p2.wasm"

[[http]]
route = "/..."
component = "p2"

[[http]]
route = "/users/:id"
component = "p3"

[[http]]
route = "/users/me"
component = "count"

[[http]]
route = "/only-get"
methods = ["GET", "HEAD"]
component = "count"

[[http]]
route = "/here/..."
host = "shop.example.com"
component = "headers"
"#;

const P2: &str = "hello from wasi:http 0.2\n";
const P3: &str = "hello from wasi:http 0.3\n";
const COUNT: &str = "1\n";

fn page(server: &Server, target: &str, host: &str) -> String {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    server.connect().ask(head.as_bytes()).text()
}

#[test]
fn exact_text_beats_a_parameter_beats_the_rest() {
    let server = App::new(SEVERAL).up();
    for (path, expected) in [
        ("/", P2),
        ("/users", P2),
        ("/users/me", COUNT),
        ("/users/%6de", COUNT),
        ("/users/7", P3),
        ("/users/7/posts", P2),
        ("/users/Me", P3),
    ] {
        assert_eq!(page(&server, path, "localhost"), expected, "{path}");
    }
}

#[test]
fn a_host_has_routes_of_its_own() {
    let server = App::new(SEVERAL).up();
    for host in ["shop.example.com", "SHOP.example.com:8080"] {
        let text = page(&server, "/here/now", host);
        assert!(text.contains("\npath: /here/now\n"), "{host}: {text}");
    }
    assert_eq!(page(&server, "/here/now", "other.example.com"), P2);
}

#[test]
fn a_method_that_no_route_has_is_405_and_says_which_there_are() {
    let manifest = SEVERAL.replace("route = \"/...\"", "route = \"/elsewhere\"");
    let server = App::new(&manifest).up();
    let answer = server
        .connect()
        .ask(&request("DELETE", "/only-get", &[], ""));
    assert_eq!(
        (answer.status, answer.field("allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(server.page("/only-get"), COUNT);
}

#[test]
fn a_route_without_the_method_is_passed_over() {
    let server = App::new(SEVERAL).up();
    let answer = server
        .connect()
        .ask(&request("DELETE", "/only-get", &[], ""));
    assert_eq!((answer.status, answer.text().as_str()), (200, P2));
}

#[test]
fn a_path_that_no_route_has_is_404() {
    let manifest = SEVERAL.replace("route = \"/...\"", "route = \"/elsewhere\"");
    let answer = App::new(&manifest).up().get("/nowhere");
    assert_eq!(answer.status, 404);
    assert!(
        answer
            .text()
            .starts_with("no route has this path: request "),
        "{}",
        answer.text()
    );
}

#[test]
fn a_client_that_reads_json_is_answered_in_json() {
    let manifest = SEVERAL.replace("route = \"/...\"", "route = \"/elsewhere\"");
    let server = App::new(&manifest).up();
    let answer = server.connect().ask(&request(
        "GET",
        "/nowhere",
        &[("Accept", "application/json")],
        "",
    ));
    let value: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(value["error"], "no route has this path");
    assert_eq!(value["request"].as_str().map(str::len), Some(16));
}
