use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

fn route(pattern: &str, host: Option<&str>, methods: &[&str], component: usize) -> Route {
    Route {
        pattern: pattern.to_owned(),
        host: host.map(str::to_owned),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        component,
        entrypoint: None,
        line: component + 1,
    }
}

/// Routes whose components are numbered in the order given.
fn routes(patterns: &[&str]) -> Routes {
    let all = patterns
        .iter()
        .enumerate()
        .map(|(index, pattern)| route(pattern, None, &[], index))
        .collect();
    Routes::new(all).expect("good routes")
}

fn component(found: &Match<'_>) -> Option<usize> {
    match found {
        Match::Found(route) => Some(route.component),
        _ => None,
    }
}

#[test]
fn the_most_specific_path_wins() {
    let routes = routes(&[
        "/...",
        "/api/...",
        "/api/users",
        "/api/:id",
        "/api/:id/posts",
        "/api/users/...",
        "/",
    ]);
    for (path, expected) in [
        ("/", 6),
        ("", 6),
        ("/x", 0),
        ("/api", 1),
        ("/api/", 1),
        ("/api/a/b", 1),
        ("/api/users", 2),
        ("/api/7", 3),
        ("/api/7/posts", 4),
        ("/api/users/posts", 5),
        ("/api/users/", 5),
        ("/api/7/posts/", 1),
        ("/apix", 0),
        ("//api/users", 0),
        ("/api//posts", 1),
        ("/%61pi/user%73", 2),
        ("/api%2Fusers", 0),
        ("/API/users", 0),
        ("/api/../api/users", 1),
    ] {
        assert_eq!(
            component(&routes.find(None, "GET", path)),
            Some(expected),
            "{path}"
        );
    }
    assert_eq!(routes.find(None, "OPTIONS", "*"), Match::NotFound);
}

#[test]
fn a_name_takes_exactly_one_segment_that_is_not_empty() {
    let routes = routes(&["/users/:id"]);
    assert_eq!(component(&routes.find(None, "GET", "/users/7")), Some(0));
    for path in ["/users/", "/users", "/users/7/", "/users/7/8"] {
        assert_eq!(routes.find(None, "GET", path), Match::NotFound, "{path}");
    }
}

#[test]
fn a_dead_end_is_left_again() {
    let routes = routes(&["/a/b/c", "/a/:x/d", "/:y/b/e", "/a/b/:z/f"]);
    for (path, expected) in [
        ("/a/b/d", Some(1)),
        ("/a/b/e", Some(2)),
        ("/a/b/c/f", Some(3)),
        ("/a/b/x", None),
    ] {
        assert_eq!(
            component(&routes.find(None, "GET", path)),
            expected,
            "{path}"
        );
    }
}

#[test]
fn a_host_beats_no_host() {
    let routes = Routes::new(vec![
        route("/...", Some("Shop.example.com."), &[], 0),
        route("/api", None, &[], 1),
        route("/only", Some("[::1]"), &[], 2),
    ])
    .expect("good routes");
    for (host, path, expected) in [
        (Some("shop.example.com"), "/api", Some(0)),
        (Some("SHOP.Example.Com:8080"), "/api", Some(0)),
        (Some("shop.example.com."), "/api", Some(0)),
        (Some("shop.example.com.:80"), "/api", Some(0)),
        (Some("shop.example.com:"), "/api", Some(0)),
        (Some("xshop.example.com"), "/api", Some(1)),
        (Some("shop.example.com.evil"), "/api", Some(1)),
        (None, "/api", Some(1)),
        (None, "/other", None),
        (Some("[::1]:80"), "/only", Some(2)),
        (Some("[::1]"), "/only", Some(2)),
        (Some("::1"), "/only", None),
        (Some(""), "/only", None),
    ] {
        assert_eq!(
            component(&routes.find(host, "GET", path)),
            expected,
            "{host:?} {path}"
        );
    }
}

#[test]
fn a_method_that_does_not_fit_leaves_the_request_to_the_next_best() {
    let routes = Routes::new(vec![
        route("/a", None, &["POST", "GET"], 0),
        route("/a", None, &["DELETE"], 1),
        route("/:x", None, &["PUT", "GET"], 2),
        route("/b/...", Some("h"), &["GET"], 3),
    ])
    .expect("good routes");
    for (method, path, expected) in [
        ("GET", "/a", Some(0)),
        ("DELETE", "/a", Some(1)),
        ("PUT", "/a", Some(2)),
        ("HEAD", "/a", None),
        ("get", "/a", None),
    ] {
        assert_eq!(
            component(&routes.find(None, method, path)),
            expected,
            "{method} {path}"
        );
    }
    let allowed = vec!["DELETE", "GET", "POST", "PUT"];
    assert_eq!(
        routes.find(None, "PATCH", "/a"),
        Match::MethodNotAllowed(allowed)
    );
    assert_eq!(
        routes.find(None, "PATCH", "/z"),
        Match::MethodNotAllowed(vec!["GET", "PUT"])
    );
    assert_eq!(
        routes.find(Some("h"), "PATCH", "/b"),
        Match::MethodNotAllowed(vec!["GET", "PUT"])
    );
    assert_eq!(routes.find(None, "PATCH", "/b/c"), Match::NotFound);
}

#[test]
fn one_route_for_everything() {
    for routes in [
        Routes::to_component(3),
        Routes::new(vec![route("/...", None, &[], 3)]).expect("a route"),
    ] {
        assert_eq!(routes.takes_all, Some(0));
        for path in ["/", "", "/a/b", "/%00", "//"] {
            assert_eq!(
                component(&routes.find(Some("x"), "PURGE", path)),
                Some(3),
                "{path}"
            );
        }
        assert_eq!(routes.find(None, "GET", "no-slash"), Match::NotFound);
    }
    let one_method = Routes::new(vec![route("/...", None, &["GET"], 3)]).expect("a route");
    assert_eq!(
        one_method.find(None, "PUT", "/"),
        Match::MethodNotAllowed(vec!["GET"])
    );
    assert_eq!(Routes::default().find(None, "GET", "/"), Match::NotFound);
}

#[test]
fn duplicates_are_named_both() {
    for (one, other) in [
        (route("/a", None, &[], 0), route("/a", None, &["GET"], 1)),
        (
            route("/:a/x", None, &["GET", "PUT"], 0),
            route("/:b/x", None, &["PUT"], 1),
        ),
        (route("/%61", None, &[], 0), route("/a", None, &[], 1)),
        (
            route("/...", Some("A.b"), &[], 0),
            route("/...", Some("a.B."), &[], 1),
        ),
    ] {
        let patterns = (one.pattern.clone(), other.pattern.clone());
        let errors = Routes::new(vec![one, other]).expect_err("duplicates");
        assert_eq!(errors.len(), 1);
        assert_eq!(
            (errors[0].route, errors[0].fault),
            (1, RouteFault::Duplicate)
        );
        let what = format!(
            "the route \"{}\" answers the same requests as \"{}\" on line 1",
            patterns.1, patterns.0
        );
        assert_eq!(errors[0].what, what);
    }
}

#[test]
fn what_differs_is_no_duplicate() {
    Routes::new(vec![
        route("/a", None, &["GET"], 0),
        route("/a", None, &["PUT"], 1),
        route("/a", Some("h"), &["GET"], 2),
        route("/a/", None, &["GET"], 3),
        route("/:a", None, &["GET"], 4),
        route("/...", None, &["GET"], 5),
        route("/%2e%2e%2e", None, &["GET"], 6),
    ])
    .expect("seven different routes");
}

#[test]
fn every_malformed_route_is_reported() {
    let bad = [
        (
            route("a", None, &[], 0),
            RouteFault::Pattern,
            "write \"/a\"",
        ),
        (
            route("/a?b", None, &[], 0),
            RouteFault::Pattern,
            "leave out query",
        ),
        (
            route("/.../b", None, &[], 0),
            RouteFault::Pattern,
            "\"...\" takes the rest",
        ),
        (
            route("/a...", None, &[], 0),
            RouteFault::Pattern,
            "write \"/...\" for the rest",
        ),
        (
            route("/a/*", None, &[], 0),
            RouteFault::Pattern,
            "write \"/...\" for the rest",
        ),
        (
            route("/{id}", None, &[], 0),
            RouteFault::Pattern,
            "write \":id\"",
        ),
        (
            route("/:", None, &[], 0),
            RouteFault::Pattern,
            "write a colon and letters",
        ),
        (
            route("/:a.b", None, &[], 0),
            RouteFault::Pattern,
            "write a colon and letters",
        ),
        (
            route("/50%", None, &[], 0),
            RouteFault::Pattern,
            "write the character itself",
        ),
        (
            route("/a\0", None, &[], 0),
            RouteFault::Pattern,
            "leave it out",
        ),
        (
            route(&"/a".repeat(65), None, &[], 0),
            RouteFault::Pattern,
            "a route has at most 64",
        ),
        (
            route("/a", Some("h:80"), &[], 0),
            RouteFault::Host,
            "write \"h\": every port fits",
        ),
        (
            route("/a", Some(""), &[], 0),
            RouteFault::Host,
            "write one name",
        ),
        (
            route("/a", Some("*.h"), &[], 0),
            RouteFault::Host,
            "write one name",
        ),
        (
            route("/a", Some("http://h"), &[], 0),
            RouteFault::Host,
            "write one name",
        ),
        (
            route("/a", Some("[x]"), &[], 0),
            RouteFault::Host,
            "write one name",
        ),
        (
            route("/a", None, &["get"], 0),
            RouteFault::Methods,
            "write \"GET\"",
        ),
        (
            route("/a", None, &[""], 0),
            RouteFault::Methods,
            "write for example",
        ),
        (
            route("/a", None, &["GET,PUT"], 0),
            RouteFault::Methods,
            "write for example",
        ),
        (
            route("/a", None, &["GET", "GET"], 0),
            RouteFault::Methods,
            "leave one out",
        ),
    ];
    for (route, fault, help) in &bad {
        let errors = Routes::new(vec![route.clone()]).expect_err(&route.pattern);
        assert_eq!((errors.len(), errors[0].fault), (1, *fault), "{errors:?}");
        assert!(errors[0].help.starts_with(help), "{errors:?}");
    }
    let all = Routes::new(bad.iter().map(|(route, ..)| route.clone()).collect())
        .expect_err("all of them");
    let named: Vec<usize> = all
        .iter()
        .filter(|e| e.fault != RouteFault::Duplicate)
        .map(|e| e.route)
        .collect();
    assert_eq!(named, (0..bad.len()).collect::<Vec<_>>());
}

// The specification, written as plainly as possible: keep the routes that fit, take the greatest.

fn fits(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        (["..."], _) => true,
        ([], []) => true,
        ([first, pattern @ ..], [segment, path @ ..]) => {
            (first == segment || (first.starts_with(':') && !segment.is_empty()))
                && fits(pattern, path)
        }
        _ => false,
    }
}

fn rank(pattern: &[&str]) -> Vec<u8> {
    let class = |segment: &&str| match *segment {
        "..." => 0,
        name if name.starts_with(':') => 1,
        _ => 2,
    };
    pattern.iter().map(class).chain([3]).collect()
}

fn split(path: &str) -> Vec<&str> {
    path.strip_prefix('/')
        .expect("a slash")
        .split('/')
        .collect()
}

fn specified<'a>(all: &'a [Arc<Route>], host: Option<&str>, method: &str, path: &str) -> Match<'a> {
    let on_path: Vec<&Arc<Route>> = all
        .iter()
        .filter(|route| route.host.is_none() || route.host.as_deref() == host)
        .filter(|route| fits(&split(&route.pattern), &split(path)))
        .collect();
    let better = |one: &&&Arc<Route>, other: &&&Arc<Route>| -> Ordering {
        let key = |route: &Route| (route.host.is_some(), rank(&split(&route.pattern)));
        key(one).cmp(&key(other))
    };
    let best = on_path
        .iter()
        .filter(|route| route.methods.is_empty() || route.methods.iter().any(|own| own == method))
        .max_by(better);
    if let Some(route) = best {
        return Match::Found(route);
    }
    let mut methods: Vec<&str> = on_path
        .iter()
        .flat_map(|route| &route.methods)
        .map(String::as_str)
        .collect();
    methods.sort_unstable();
    methods.dedup();
    if methods.is_empty() {
        Match::NotFound
    } else {
        Match::MethodNotAllowed(methods)
    }
}

fn any_pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![4 => Just("a"), 2 => Just("b"), 2 => Just(":x"), 1 => Just(":y"), 1 => Just("")];
    (proptest::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(mut segments, rest)| {
        if rest || segments.is_empty() {
            segments.push("...");
        }
        format!("/{}", segments.join("/"))
    })
}

fn any_route() -> impl Strategy<Value = Route> {
    let host = prop_oneof![3 => Just(None), 1 => Just(Some("h")), 1 => Just(Some("i"))];
    let methods = prop_oneof![2 => Just(vec![]), 1 => Just(vec!["GET"]), 1 => Just(vec!["PUT"]), 1 => Just(vec!["GET", "PUT"])];
    (any_pattern(), host, methods)
        .prop_map(|(pattern, host, methods)| route(&pattern, host, &methods, 0))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_chosen_route_is_the_specified_one(
        drafts in proptest::collection::vec(any_route(), 0..12),
        host in prop_oneof![Just(None), Just(Some("h")), Just(Some("j"))],
        method in prop_oneof![Just("GET"), Just("PUT"), Just("DELETE")],
        path in "(/(a|b|c|)){1,5}",
    ) {
        // Duplicates are an error, so each draft is kept only if the routes so far have room for it.
        let mut all: Vec<Route> = Vec::new();
        for mut draft in drafts {
            draft.component = all.len();
            all.push(draft);
            if Routes::new(all.clone()).is_err() {
                all.pop();
            }
        }
        let routes = Routes::new(all.clone()).expect("no duplicates");
        prop_assert_eq!(routes.find(host, method, &path), specified(routes.all(), host, method, &path));
    }

    #[test]
    fn nothing_panics(pattern in "/?.{0,30}", host in ".{0,20}", method in ".{0,6}", path in "/?.{0,30}") {
        if let Ok(routes) = Routes::new(vec![route(&pattern, None, &[], 0), route("/:a/...", Some("h"), &["GET"], 1)]) {
            routes.find(Some(&host), &method, &path);
        }
        let _ = Routes::new(vec![route("/a", Some(&host), &[&method], 0)]);
    }
}
