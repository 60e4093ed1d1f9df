//! How components of the app reach each other: `[component.NAME.bind]`, and grants of `http://NAME.app.internal`.
//!
//! Whether a callee has what its caller imports is for the host to find out. Here: that there is such a component, and that
//! no import leads back to where it came from.

use std::collections::BTreeMap;

use super::{Assembly, some_of};
use crate::app::Component;
use crate::error::Kind;
use crate::fields::At;
use crate::limits;
use crate::nearest::nearest;

impl Assembly<'_, '_> {
    pub(super) fn bind(
        &mut self,
        written: Vec<(At<String>, At<String>)>,
        names: &[&str],
    ) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (import, callee) in written {
            if !import.value.contains(['/', ':']) {
                let what = format!("\"{}\" is not the name of an interface", import.value);
                let help = "write it as `hostel inspect FILE` lists it under imports: \"shop:pricing/api\"";
                self.report
                    .at(Kind::BadValue, import.span.clone(), what, help);
            }
            // One that does not exist is reported there.
            let _index = self.index(&callee, names);
            all.insert(import.value, callee.value);
        }
        all
    }

    /// Grants name components that there are.
    pub(super) fn check_neighbours(&mut self, components: &[Component]) {
        let exists = |name: &str| {
            let mut all = components.iter();
            name == "*" || all.any(|component| component.name.eq_ignore_ascii_case(name))
        };
        let names = || components.iter().map(|component| component.name.as_str());
        for component in components {
            let named = component
                .grants
                .http
                .iter()
                .filter_map(|grant| grant.neighbour());
            for name in named.filter(|name| !exists(name)) {
                let what = format!(
                    "[component.{}.grants] names http://{name}.app.internal, and there is no component \"{name}\"",
                    component.name
                );
                let help = match nearest(name, names()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("the components are {}", some_of(names())),
                };
                self.report.whole(Kind::UnknownComponent, &what, &help);
            }
        }
    }

    /// Imports lead from component to component, but never in a circle, and not too far.
    pub(super) fn check_binds(&mut self, components: &[Component]) {
        let mut walk = Walk {
            components,
            state: vec![State::Unknown; components.len()],
            path: Vec::new(),
        };
        let circle = (0..components.len()).find_map(|start| walk.visit(start).err());
        let most = limits::CALL_DEPTH.size();
        let (what, help) = match circle {
            Some(circle) => (
                format!("components are bound in a circle: {}", walk.shown(&circle)),
                "remove one of these lines of [component.NAME.bind], or let one of them call over HTTP",
            ),
            None => match walk.longest().filter(|path| path.len() > most + 1) {
                Some(path) => (
                    format!(
                        "components are bound in a chain of {} calls, and there can be at most {most}: {}",
                        path.len() - 1,
                        walk.shown(&path)
                    ),
                    "bind fewer components one behind the other",
                ),
                None => return,
            },
        };
        self.report.whole(Kind::BadValue, &what, help);
    }
}

/// What is known of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    /// On the way that is being walked.
    Open,
    /// No circle behind it; the callee with the longest way behind it, and how long that is.
    Done(Option<usize>, usize),
}

struct Walk<'a> {
    components: &'a [Component],
    state: Vec<State>,
    path: Vec<usize>,
}

impl Walk<'_> {
    /// How many calls lie behind a component; the circle if there is one. Components are a thousand at the most, and so deep
    /// is the recursion.
    fn visit(&mut self, at: usize) -> Result<usize, Vec<usize>> {
        match self.state.get(at) {
            Some(State::Done(_, depth)) => return Ok(*depth),
            Some(State::Open) => {
                let begin = self.path.iter().position(|on| *on == at).unwrap_or(0);
                let mut circle = self.path.split_off(begin);
                circle.push(at);
                return Err(circle);
            }
            Some(State::Unknown) | None => {}
        }
        self.set(at, State::Open);
        self.path.push(at);
        let (mut next, mut depth) = (None, 0);
        let components = self.components;
        let callees = components.get(at).into_iter();
        for callee in callees.flat_map(|component| component.bind.values()) {
            // Sorted by name.
            let found = components.binary_search_by(|component| component.name.cmp(callee));
            let Ok(callee) = found else { continue };
            let behind = self.visit(callee)? + 1;
            if behind > depth {
                (next, depth) = (Some(callee), behind);
            }
        }
        self.path.pop();
        self.set(at, State::Done(next, depth));
        Ok(depth)
    }

    fn set(&mut self, at: usize, state: State) {
        if let Some(slot) = self.state.get_mut(at) {
            *slot = state;
        }
    }

    /// The longest way, from its first component to its last.
    fn longest(&self) -> Option<Vec<usize>> {
        let depth = |at: &usize| match self.state.get(*at) {
            Some(State::Done(_, depth)) => *depth,
            _ => 0,
        };
        let mut at = (0..self.components.len()).max_by_key(depth)?;
        let mut path = vec![at];
        while let Some(State::Done(Some(next), _)) = self.state.get(at) {
            path.push(*next);
            at = *next;
        }
        Some(path)
    }

    fn shown(&self, path: &[usize]) -> String {
        let names = path.iter().filter_map(|at| self.components.get(*at));
        let names: Vec<&str> = names.map(|component| component.name.as_str()).collect();
        names.join(" -> ")
    }
}
