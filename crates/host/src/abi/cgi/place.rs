//! Where a request's path is cut in two: what leads to the program, and what is left for it.

use std::borrow::Cow;

use crate::abi::cgi::environment::decoded;

/// A route and a path that it takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// As written.
    pub(super) route: &'a str,
    /// What leads to the program: the route without `...`; where the route has a `:name`, the path's own text.
    pub(super) script: Cow<'a, str>,
    /// The path behind that, as it was sent.
    pub(super) rest: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn of(route: &'a str, path: &'a str) -> Self {
        let Some(prefix) = route.strip_suffix("/...") else {
            return Self {
                route,
                script: script(route, path),
                rest: "",
            };
        };
        // A path may spell the same segments in other ways, so it is cut by their number.
        let segments = prefix.matches('/').count();
        let mut slashes = path.match_indices('/').map(|(index, _)| index);
        let cut = slashes.nth(segments).unwrap_or(path.len());
        let (taken, rest) = path.split_at_checked(cut).unwrap_or((path, ""));
        Self {
            route,
            script: match prefix {
                "" => Cow::Borrowed("/"),
                prefix => script(prefix, taken),
            },
            rest,
        }
    }
}

fn script<'a>(pattern: &'a str, path: &str) -> Cow<'a, str> {
    match pattern.contains("/:") {
        true => Cow::Owned(decoded(path)),
        false => Cow::Borrowed(pattern),
    }
}
