//! Which component answers an HTTP request.
//!
//! A route fits when its host, its path and its methods fit. Of the routes that fit, one with a host beats one
//! without; then the paths are compared segment by segment, and at the first difference the exact text beats
//! `:name`, which beats `...`. So the longest match wins, and no two routes of one app are ever equal: [`Routes::new`]
//! refuses them. This file does not change the request: the guest sees the path as the client sent it.

mod check;
pub mod discovered;
mod pattern;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::limits;
use check::bare_host;
use pattern::Segment;

/// The routes of one app, ready to be searched.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    all: Vec<Arc<Route>>,
    /// The pattern of each, as it was read.
    patterns: Vec<Vec<Segment>>,
    spelling: Spelling,
    /// The only route there is, when it takes everything.
    takes_all: Option<usize>,
    any_host: Paths,
    by_host: HashMap<String, Paths>,
}

/// How the text of patterns is read: other hosts' manifests have other words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spelling {
    /// `:name` is one segment of any text, `...` at the end the rest of the path.
    #[default]
    Named,
    /// Only `...` at the end stands for something else.
    Rest,
    /// Every segment is itself.
    Literal,
}

/// One `[[http]]` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// As written: `/api/...`.
    pub pattern: String,
    /// The only host it answers for, in lower case and without port; `None` = every host.
    pub host: Option<String>,
    /// The methods it answers, exactly as a request spells them; empty = every method.
    pub methods: Vec<String>,
    /// Index into [`crate::App::components`].
    pub component: usize,
    /// The export that answers, where the ABI leaves a choice; `None` = the one that it names itself.
    pub entrypoint: Option<String>,
    /// Line in the manifest, from 1; 0 where no manifest was written.
    pub line: usize,
}

/// The answer of [`Routes::find`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match<'a> {
    /// This route answers.
    Found(&'a Arc<Route>),
    /// The path has routes, but not for this method; these are their methods, sorted, for the `Allow` header.
    MethodNotAllowed(Vec<&'a str>),
    /// No route has this path.
    NotFound,
}

/// Why a route was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// Which of the routes given to [`Routes::new`].
    pub route: usize,
    /// Which part of it.
    pub fault: RouteFault,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub help: String,
}

/// The part of a route that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteFault {
    /// `route`.
    Pattern,
    /// `host`.
    Host,
    /// `methods`.
    Methods,
    /// The whole of it: an earlier route answers the same requests.
    Duplicate,
    /// There are too many.
    TooMany,
}

impl Routes {
    /// Checks the routes and makes them searchable. Hosts are brought to lower case; nothing else is changed.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the routes: malformed patterns, hosts and methods, and two routes
    /// that would answer the same request with equal right.
    pub fn new(all: Vec<Route>) -> Result<Self, Vec<RouteError>> {
        Self::spelled(all, Spelling::Named)
    }

    /// The same with patterns that are read in another way.
    ///
    /// # Errors
    /// As [`Routes::new`].
    pub fn spelled(mut all: Vec<Route>, spelling: Spelling) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        let mut patterns = Vec::with_capacity(all.len());
        for (index, route) in all.iter_mut().enumerate() {
            let mut refuse = |fault, (what, help)| {
                errors.push(RouteError {
                    route: index,
                    fault,
                    what,
                    help,
                })
            };
            if index == limits::ROUTES_MAX.size() {
                refuse(
                    RouteFault::TooMany,
                    (
                        format!("more than {index} routes"),
                        "use \"/...\" routes".to_owned(),
                    ),
                );
                break;
            }
            let host = check::host(route).map_err(|refusal| refuse(RouteFault::Host, refusal));
            let methods = check::methods(&route.methods)
                .map_err(|refusal| refuse(RouteFault::Methods, refusal));
            let segments = pattern::parse(&route.pattern, spelling)
                .map_err(|refusal| refuse(RouteFault::Pattern, refusal));
            if let (Ok(()), Ok(()), Ok(segments)) = (host, methods, segments) {
                patterns.push((index, segments));
            }
        }
        errors.extend(duplicates(&all, &patterns));
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.route);
            return Err(errors);
        }
        let all = all.into_iter().map(Arc::new).collect();
        let patterns = patterns.into_iter().map(|(_, segments)| segments).collect();
        Ok(Self::build(all, patterns, spelling))
    }

    /// One route that gives every request to one component.
    pub fn to_component(component: usize) -> Self {
        let route = Route {
            pattern: "/...".to_owned(),
            host: None,
            methods: Vec::new(),
            component,
            entrypoint: None,
            line: 0,
        };
        let (all, patterns) = (vec![Arc::new(route)], vec![vec![Segment::Rest]]);
        Self::build(all, patterns, Spelling::Named)
    }

    fn build(all: Vec<Arc<Route>>, patterns: Vec<Vec<Segment>>, spelling: Spelling) -> Self {
        let takes_all = match (all.as_slice(), patterns.as_slice()) {
            ([only], [segments]) if only.host.is_none() && only.methods.is_empty() => {
                (*segments == [Segment::Rest]).then_some(0)
            }
            _ => None,
        };
        let mut routes = Self {
            takes_all,
            spelling,
            ..Self::default()
        };
        for (index, (route, segments)) in all.iter().zip(&patterns).enumerate() {
            let paths = match &route.host {
                Some(host) => routes.by_host.entry(host.clone()).or_default(),
                None => &mut routes.any_host,
            };
            paths.insert(index, segments.clone());
        }
        (routes.all, routes.patterns) = (all, patterns);
        routes
    }

    /// The route for a request. `host` is the authority as the client sent it: port, case and a dot at its end make
    /// no difference. `path` is the path as sent, without the query; escaped unreserved characters make no
    /// difference. A path that does not start with a slash has no route.
    pub fn find(&self, host: Option<&str>, method: &str, path: &str) -> Match<'_> {
        let path = if path.is_empty() { "/" } else { path };
        if !path.starts_with('/') {
            return Match::NotFound;
        }
        if let Some(route) = self.takes_all.and_then(|index| self.all.get(index)) {
            return Match::Found(route);
        }
        let path = pattern::normal(path);
        let mut search = Search {
            all: &self.all,
            method,
            allowed: Vec::new(),
            path_fits: false,
        };
        let of_host = host
            .filter(|_| !self.by_host.is_empty())
            .and_then(|host| self.by_host.get(&*bare_host(host)));
        for paths in of_host.into_iter().chain([&self.any_host]) {
            if let Some(route) = paths.find(&mut search, &path) {
                return Match::Found(route);
            }
        }
        if !search.path_fits {
            return Match::NotFound;
        }
        search.allowed.sort_unstable();
        search.allowed.dedup();
        Match::MethodNotAllowed(search.allowed)
    }

    /// Every route, in the manifest's order.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.all
    }

    /// How their patterns are read.
    pub fn spelling(&self) -> Spelling {
        self.spelling
    }
}

/// The one spelling in which paths are compared: `/%61` is `/a`.
pub fn normal_path(path: &str) -> Cow<'_, str> {
    pattern::normal(path)
}

/// Checks a path that the host itself answers; it stands for no other.
pub(crate) fn check_path(path: &str) -> Result<(), (String, String)> {
    let segments = pattern::parse(path, Spelling::Named)?;
    let literal = |segment: &Segment| matches!(segment, Segment::Literal(_));
    match segments.iter().all(literal) {
        true => Ok(()),
        false => Err((
            format!("\"{path}\" stands for more than one path"),
            "write one path, such as \"/healthz\"".to_owned(),
        )),
    }
}

/// One request on its way through the routes.
struct Search<'r, 'q> {
    all: &'r [Arc<Route>],
    method: &'q str,
    path_fits: bool,
    /// The methods of the routes whose path fitted.
    allowed: Vec<&'r str>,
}

impl<'r> Search<'r, '_> {
    /// Of routes with equal paths, the one that has the method; at most one does.
    fn pick(&mut self, routes: &[usize]) -> Option<&'r Arc<Route>> {
        for route in routes.iter().filter_map(|index| self.all.get(*index)) {
            if route.methods.is_empty() || route.methods.iter().any(|method| method == self.method)
            {
                return Some(route);
            }
            self.path_fits = true;
            self.allowed
                .extend(route.methods.iter().map(String::as_str));
        }
        None
    }
}

/// The paths of one host.
#[derive(Debug, Clone, Default)]
struct Paths {
    /// Routes without `:name` and `...`: they beat all others, so one look-up comes first.
    exact: HashMap<String, Vec<usize>>,
    /// All others, as a tree of segments; the first node is the root.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    literals: HashMap<String, usize>,
    param: Option<usize>,
    /// Routes that end here.
    end: Vec<usize>,
    /// Routes that take the rest from here.
    rest: Vec<usize>,
}

impl Paths {
    fn insert(&mut self, route: usize, segments: Vec<Segment>) {
        let exact: Option<Vec<&str>> = segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => Some(text.as_str()),
                Segment::Param | Segment::Rest => None,
            })
            .collect();
        if let Some(texts) = exact {
            self.exact
                .entry(format!("/{}", texts.join("/")))
                .or_default()
                .push(route);
            return;
        }
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in segments {
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else {
                return;
            };
            at = match segment {
                Segment::Literal(text) => *node.literals.entry(text).or_insert(fresh),
                Segment::Param => *node.param.get_or_insert(fresh),
                Segment::Rest => return node.rest.push(route),
            };
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.end.push(route);
        }
    }

    fn find<'r>(&self, search: &mut Search<'r, '_>, path: &str) -> Option<&'r Arc<Route>> {
        if let Some(routes) = self.exact.get(path)
            && let Some(route) = search.pick(routes)
        {
            return Some(route);
        }
        self.walk(search, 0, path.strip_prefix('/'))
    }

    /// Looks for the rest of a path below a node, best match first. `rest` is `None` behind the last segment. Each
    /// node is visited at most once, and no deeper than the longest pattern.
    fn walk<'r>(
        &self,
        search: &mut Search<'r, '_>,
        node: usize,
        rest: Option<&str>,
    ) -> Option<&'r Arc<Route>> {
        let node = self.nodes.get(node)?;
        let below = match rest {
            None => search.pick(&node.end),
            Some(rest) => {
                let (segment, rest) = match rest.split_once('/') {
                    Some((segment, rest)) => (segment, Some(rest)),
                    None => (rest, None),
                };
                let literal = node
                    .literals
                    .get(segment)
                    .and_then(|child| self.walk(search, *child, rest));
                let param = node
                    .param
                    .filter(|_| literal.is_none() && !segment.is_empty());
                literal.or_else(|| self.walk(search, param?, rest))
            }
        };
        below.or_else(|| search.pick(&node.rest))
    }
}

/// Who answers one path of one host so far.
#[derive(Default)]
struct Taken<'r> {
    /// The route for every method.
    all: Option<&'r Route>,
    by_method: HashMap<&'r str, &'r Route>,
}

/// Routes that answer requests which an earlier route with the same host and path already answers.
fn duplicates(all: &[Route], patterns: &[(usize, Vec<Segment>)]) -> Vec<RouteError> {
    let mut seen: HashMap<(Option<&str>, &[Segment]), Taken<'_>> = HashMap::new();
    let mut errors = Vec::new();
    for (index, segments) in patterns {
        let Some(route) = all.get(*index) else {
            continue;
        };
        let taken = seen.entry((route.host.as_deref(), segments)).or_default();
        let methods = || route.methods.iter().map(String::as_str);
        let first = match route.methods.is_empty() {
            true => taken.all.or_else(|| {
                taken
                    .by_method
                    .values()
                    .min_by_key(|first| first.line)
                    .copied()
            }),
            false => taken
                .all
                .or_else(|| methods().find_map(|method| taken.by_method.get(method).copied())),
        };
        if let Some(first) = first {
            let what = format!(
                "the route \"{}\" answers the same requests as \"{}\" on line {}",
                route.pattern, first.pattern, first.line
            );
            let help = "remove one of the two, or tell them apart by host or methods".to_owned();
            errors.push(RouteError {
                route: *index,
                fault: RouteFault::Duplicate,
                what,
                help,
            });
        } else if route.methods.is_empty() {
            taken.all = Some(route);
        } else {
            taken
                .by_method
                .extend(methods().map(|method| (method, route)));
        }
    }
    errors
}

#[cfg(test)]
mod tests;
