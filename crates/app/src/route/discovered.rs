//! Routes that a guest prints itself: lines of a path and an entry point, which `_routes` of a WAGI module writes.
//!
//! The paths lie below the guest's own route. In the original the line that was printed last and fits a request answers it, and
//! any line before the guest's own route. Here the most specific route answers, so whatever a later line would always be chosen
//! for is left out: the result is the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pattern::{self, Segment};
use super::{Route, RouteFault, Routes, Spelling, duplicates};
use crate::limits;

/// One line that a guest printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The path below the guest's own route; `...` at its end is the rest.
    pub path: String,
    /// The export that answers.
    pub entrypoint: String,
    /// Its place in the text, from 1.
    pub line: usize,
}

/// Why what a guest printed is no list of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrintedError {
    /// The component that printed it, by its index, where it is not the only one that was asked.
    pub component: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub help: String,
}

/// Reads what `_routes` printed.
///
/// # Errors
/// A line that is not a path and an entry point, no line at all, or too many of them.
pub fn read(text: &str) -> Result<Vec<Printed>, PrintedError> {
    let most = limits::DISCOVERED_ROUTES.size();
    let mut all = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        if all.len() == most {
            return Err(PrintedError {
                component: None,
                what: format!("`_routes` printed more than {most} routes"),
                help: "print one that ends in \"/...\" and look at PATH_INFO".to_owned(),
            });
        }
        all.push(line(number, text)?);
    }
    match all.is_empty() {
        false => Ok(all),
        true => Err(PrintedError {
            component: None,
            what: "`_routes` printed nothing".to_owned(),
            help: "print at least one line, such as \"/hello hello\", or do not export `_routes`"
                .to_owned(),
        }),
    }
}

fn line(number: usize, text: &str) -> Result<Printed, PrintedError> {
    let shown: String = text.trim().chars().take(80).collect();
    let wrong = |why: &str, help: &str| PrintedError {
        component: None,
        what: format!("line {number} of what `_routes` printed, {shown:?}, {why}"),
        help: help.to_owned(),
    };
    let mut columns = text.split_whitespace();
    let (Some(path), Some(entrypoint), None) = (columns.next(), columns.next(), columns.next())
    else {
        return Err(wrong(
            "is not a path and an entry point",
            "print both with a space between them: \"/hello hello\"",
        ));
    };
    pattern::parse(&below("", path), Spelling::Rest)
        .map_err(|(what, help)| wrong(&format!("has no path: {what}"), &help))?;
    Ok(Printed {
        path: path.to_owned(),
        entrypoint: entrypoint.to_owned(),
        line: number,
    })
}

/// A route and what a guest printed below it, with one slash between them.
fn below(route: &str, path: &str) -> String {
    let route = route.strip_suffix("/...").unwrap_or(route);
    let route = route.strip_suffix('/').unwrap_or(route);
    format!("{route}/{}", path.strip_prefix('/').unwrap_or(path))
}

/// Routes with those that guests have printed.
#[derive(Debug)]
pub struct Extended {
    /// All of them.
    pub routes: Routes,
    /// What was printed in vain, because an earlier route answers the same requests.
    pub notes: Vec<String>,
}

/// A route on its way.
type Draft = (Arc<Route>, Vec<Segment>);

impl Routes {
    /// These routes and those that the components behind them have printed.
    ///
    /// # Errors
    /// A path that is too long below its route, or too many routes.
    pub fn with_printed(
        &self,
        printed: &BTreeMap<usize, Vec<Printed>>,
    ) -> Result<Extended, PrintedError> {
        let most = limits::ROUTES_MAX.size();
        let mut drafts: Vec<Draft> = Vec::with_capacity(self.all.len());
        for (route, segments) in self.all.iter().zip(&self.patterns) {
            let mut group = vec![(route.clone(), segments.clone())];
            for line in printed.get(&route.component).into_iter().flatten() {
                group.push(draft(route, segments, line)?);
            }
            drafts.extend(last_words(group));
            if drafts.len() > most {
                return Err(PrintedError {
                    component: Some(route.component),
                    what: format!(
                        "with what `_routes` printed, the app has more than {most} routes"
                    ),
                    help: "print routes that end in \"/...\"".to_owned(),
                });
            }
        }
        let vain = answered_before(&drafts);
        for (index, _) in vain.iter().rev() {
            drafts.remove(*index);
        }
        let notes = noted(&vain);
        let (all, patterns) = drafts.into_iter().unzip();
        Ok(Extended {
            routes: Self::build(all, patterns, self.spelling),
            notes,
        })
    }
}

/// A line for each route that was printed in vain. Guests print them, so there are no more lines than a manifest has errors.
fn noted(vain: &[(usize, String)]) -> Vec<String> {
    let most = limits::MANIFEST_ERRORS_MAX.size();
    let notes = vain.iter().take(most);
    let notes = notes
        .map(|(_, what)| format!("of what `_routes` printed, {what}: the first of them is used"));
    let rest = vain.len().saturating_sub(most);
    let rest = (rest > 0)
        .then(|| format!("of what `_routes` printed, {rest} more routes are answered by others"));
    notes.chain(rest).collect()
}

/// The route for one printed line.
fn draft(own: &Route, segments: &[Segment], line: &Printed) -> Result<Draft, PrintedError> {
    let refused = |(what, help)| PrintedError {
        component: Some(own.component),
        what: format!("line {} of what `_routes` printed: {what}", line.line),
        help,
    };
    let mut joined = segments.to_vec();
    // Without its wildcard, and with one slash where the two meet.
    if joined.last() == Some(&Segment::Rest) {
        joined.pop();
    }
    if joined.last() == Some(&Segment::Literal(String::new())) {
        joined.pop();
    }
    joined.extend(pattern::parse(&below("", &line.path), Spelling::Rest).map_err(refused)?);
    let pattern = below(&own.pattern, &line.path);
    pattern::check_length(&pattern, joined.len()).map_err(refused)?;
    let route = Route {
        pattern,
        entrypoint: Some(line.entrypoint.clone()),
        ..own.clone()
    };
    Ok((Arc::new(route), joined))
}

/// Without the routes for which a later one would always be chosen.
fn last_words(group: Vec<Draft>) -> Vec<Draft> {
    let mut kept: Vec<Draft> = Vec::with_capacity(group.len());
    for draft in group.into_iter().rev() {
        if !kept.iter().any(|later| covers(&later.1, &draft.1)) {
            kept.push(draft);
        }
    }
    kept.reverse();
    kept
}

/// Whether every path that fits `narrow` fits `wide`, too. Both begin with the same route.
fn covers(wide: &[Segment], narrow: &[Segment]) -> bool {
    match wide.split_last() {
        Some((Segment::Rest, start)) => narrow.starts_with(start),
        _ => wide == narrow,
    }
}

/// The routes that an earlier one leaves nothing to answer, in their order, each with what is wrong.
fn answered_before(drafts: &[Draft]) -> Vec<(usize, String)> {
    let routes: Vec<Route> = drafts.iter().map(|(route, _)| (**route).clone()).collect();
    let segments = drafts.iter().map(|(_, segments)| segments.clone());
    let patterns: Vec<_> = segments.enumerate().collect();
    let errors = duplicates(&routes, &patterns);
    let errors = errors
        .into_iter()
        .filter(|error| error.fault == RouteFault::Duplicate);
    errors.map(|error| (error.route, error.what)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Match;
    use super::*;

    fn route(pattern: &str, component: usize) -> Route {
        Route {
            pattern: pattern.to_owned(),
            host: None,
            methods: Vec::new(),
            component,
            entrypoint: None,
            line: component + 1,
        }
    }

    /// The routes of these patterns, each to a component of its own, the first of which printed this.
    fn extended(patterns: &[&str], spelling: Spelling, text: &str) -> Extended {
        let routes = patterns.iter().enumerate();
        let routes = routes.map(|(component, pattern)| route(pattern, component));
        let routes = Routes::spelled(routes.collect(), spelling).expect("routes");
        let printed = [(0, read(text).expect("routes"))].into();
        routes.with_printed(&printed).expect("routes")
    }

    /// The pattern, the entry point and the component that answer a path.
    fn found<'r>(routes: &'r Routes, path: &str) -> Option<(&'r str, Option<&'r str>, usize)> {
        match routes.find(None, "GET", path) {
            Match::Found(route) => {
                Some((&route.pattern, route.entrypoint.as_deref(), route.component))
            }
            _ => None,
        }
    }

    #[test]
    fn lines_are_a_path_and_an_entry_point() {
        let text = "\n/exact on_exact\r\n\t /wild/...   on_wild \n\nbare _start";
        let lines = read(text).expect("routes");
        let seen: Vec<_> = lines
            .iter()
            .map(|one| (one.path.as_str(), one.entrypoint.as_str(), one.line))
            .collect();
        assert_eq!(
            seen,
            [
                ("/exact", "on_exact", 2),
                ("/wild/...", "on_wild", 3),
                ("bare", "_start", 5)
            ]
        );
    }

    #[test]
    fn anything_else_is_an_error_with_its_line() {
        let many = "/a a\n".repeat(limits::DISCOVERED_ROUTES.size() + 1);
        let long = "/a".repeat(limits::ROUTE_SEGMENTS_MAX.size() + 1) + " a";
        for (text, what) in [
            ("", "`_routes` printed nothing"),
            (" \n\r\n", "`_routes` printed nothing"),
            (
                "/a a\n/b\n",
                "line 2 of what `_routes` printed, \"/b\", is not a path",
            ),
            (
                "/a a b",
                "line 1 of what `_routes` printed, \"/a a b\", is not a path",
            ),
            (
                "/a?b a",
                "has no path: the route \"/a?b\" is more than a path",
            ),
            (&many, "`_routes` printed more than 1000 routes"),
            (&long, "has no path: the route"),
        ] {
            let error = read(text).expect_err(what);
            assert!(error.what.contains(what), "{error:?}");
            assert!(!error.help.is_empty());
        }
    }

    #[test]
    fn printed_paths_lie_below_the_guest_s_own_route() {
        let text = "/exact on_exact\n/wildcard/... on_wildcard\nmain _start";
        for (own, below) in [
            ("/", ""),
            ("/p", "/p"),
            ("/p/", "/p"),
            ("/p/...", "/p"),
            ("/...", ""),
        ] {
            let routes = extended(&[own], Spelling::Rest, text).routes;
            for (path, pattern, entrypoint) in [
                ("/exact", "/exact", "on_exact"),
                ("/wildcard", "/wildcard/...", "on_wildcard"),
                ("/wildcard/a/b", "/wildcard/...", "on_wildcard"),
                ("/main", "/main", "_start"),
            ] {
                let (path, pattern) = (format!("{below}{path}"), format!("{below}{pattern}"));
                let expected = Some((pattern.as_str(), Some(entrypoint), 0));
                assert_eq!(found(&routes, &path), expected, "{own}");
            }
            let path = own.strip_suffix("...").unwrap_or(own);
            assert_eq!(found(&routes, path), Some((own, None, 0)));
        }
    }

    #[test]
    fn of_several_lines_that_fit_the_last_answers() {
        let narrow_last = "/one/... one\n/one/two/... two\n/one/two/three/... three";
        let wide_last = "/one/two/three/... three\n/one/two/... two\n/one/... one";
        let path = "/e/one/two/three/four";
        for (text, entrypoint) in [(narrow_last, "three"), (wide_last, "one")] {
            let routes = extended(&["/e"], Spelling::Rest, text).routes;
            assert_eq!(
                found(&routes, path).and_then(|found| found.1),
                Some(entrypoint)
            );
        }
        let routes = extended(&["/e"], Spelling::Rest, "/a first\n/a second").routes;
        assert_eq!(
            found(&routes, "/e/a").and_then(|found| found.1),
            Some("second")
        );
        let routes = extended(&["/e/..."], Spelling::Rest, "/... all").routes;
        assert_eq!(
            found(&routes, "/e/a").and_then(|found| found.1),
            Some("all")
        );
    }

    #[test]
    fn of_several_components_the_first_answers_and_that_is_said() {
        let Extended { routes, notes } = extended(&["/...", "/a"], Spelling::Rest, "/a a\n/b b");
        assert_eq!(found(&routes, "/a"), Some(("/a", Some("a"), 0)));
        assert_eq!(found(&routes, "/b"), Some(("/b", Some("b"), 0)));
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].contains("\"/a\" answers the same requests as \"/a\" on line 1"),
            "{notes:?}"
        );
    }

    #[test]
    fn what_is_said_of_routes_that_are_printed_in_vain_has_an_end() {
        let most = limits::MANIFEST_ERRORS_MAX.size();
        let text: String = (0..most + 2)
            .map(|number| format!("/{number} a\n"))
            .collect();
        let own = (0..most + 2).map(|number| format!("/{number}"));
        let own: Vec<String> = ["/...".to_owned()].into_iter().chain(own).collect();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let Extended { routes, notes } = extended(&own, Spelling::Rest, &text);
        assert_eq!(routes.all().len(), own.len());
        assert_eq!(notes.len(), most + 1);
        assert_eq!(
            notes[most],
            "of what `_routes` printed, 2 more routes are answered by others"
        );
    }

    #[test]
    fn names_in_the_own_route_stay_and_printed_ones_are_none() {
        let routes = extended(&["/users/:id/..."], Spelling::Named, "/:x/... a").routes;
        assert_eq!(
            found(&routes, "/users/7/:x/y").and_then(|found| found.1),
            Some("a")
        );
        assert_eq!(
            found(&routes, "/users/7/other").and_then(|found| found.1),
            None
        );
    }

    #[test]
    fn the_routes_of_an_app_have_an_end() {
        let own = (0..20)
            .map(|number| route(&format!("/{number}"), 0))
            .collect();
        let routes = Routes::new(own).expect("routes");
        let text: String = (0..1000).map(|number| format!("/{number} a\n")).collect();
        let printed = [(0, read(&text).expect("routes"))].into();
        let error = routes.with_printed(&printed).expect_err("too many");
        assert!(error.what.contains("more than 10000 routes"), "{error:?}");
    }
}
