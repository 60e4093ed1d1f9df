//! Who may depend on whom: the arrows between the rooms, and what a room must never have heard of.
//!
//! Read from `cargo metadata`, so a dependency that comes in through another crate counts as well.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Findings;
use crate::shell;

/// The rooms from the bottom up. A room may depend on rooms of a lower floor, never on its own.
const FLOORS: &[&[&str]] = &[
    &["hostel-app", "hostel-stores"],
    &["hostel-host"],
    &["hostel-server"],
    &["hostel"],
];

/// What a room must not depend on, even through others. A name ending in `*` stands for all that begin so.
const STRANGERS: &[(&str, &[&str])] = &[
    ("hostel-app", &["tokio", "wasmtime*", "cranelift*", "hyper"]),
    (
        "hostel-stores",
        &["wasmtime*", "cranelift*", "wasmparser", "wat"],
    ),
];

/// Packages of the workspace and everything that they are built from.
struct Tree {
    /// Package id to name.
    names: BTreeMap<String, String>,
    /// Package id to the ids that it depends on, tests left out.
    edges: BTreeMap<String, Vec<String>>,
}

/// Checks the arrows of the workspace.
pub(super) fn check(findings: &mut Findings) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["metadata", "--format-version", "1", "--quiet"]);
    let metadata = serde_json::from_str(&shell::output(&mut cargo)?)?;
    judge(&Tree::read(&metadata)?, findings);
    Ok(())
}

impl Tree {
    /// Reads the resolved graph of `cargo metadata`.
    fn read(metadata: &Value) -> Result<Self> {
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
        let mut names = BTreeMap::new();
        for package in list(metadata.get("packages")).context("metadata without packages")? {
            names.insert(text(&package, "id"), text(&package, "name"));
        }
        let nodes = list(metadata.pointer("/resolve/nodes")).context("metadata without a graph")?;
        let edges = nodes.iter().map(|node| {
            let deps = list(node.get("deps")).unwrap_or_default();
            let built = deps.iter().filter(|dep| is_built(dep));
            (
                text(node, "id"),
                built.map(|dep| text(dep, "pkg")).collect(),
            )
        });
        Ok(Self {
            edges: edges.collect(),
            names,
        })
    }

    /// The id of a package of the workspace.
    fn id(&self, name: &str) -> Option<&String> {
        self.names
            .iter()
            .find(|(_, own)| *own == name)
            .map(|(id, _)| id)
    }

    /// The names that a package depends on, directly.
    fn direct(&self, id: &str) -> BTreeSet<&str> {
        let edges = self.edges.get(id).into_iter().flatten();
        edges
            .filter_map(|dep| self.names.get(dep))
            .map(String::as_str)
            .collect()
    }

    /// The names that a package depends on, through any number of others.
    fn all(&self, id: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![id];
        while let Some(next) = open.pop() {
            for dep in self.edges.get(next).into_iter().flatten() {
                if seen.insert(dep.as_str()) {
                    open.push(dep);
                }
            }
        }
        seen.iter()
            .filter_map(|id| self.names.get(*id))
            .map(String::as_str)
            .collect()
    }
}

/// Complains about every arrow that points up or sideways, and about every stranger.
fn judge(tree: &Tree, findings: &mut Findings) {
    for (floor, rooms) in FLOORS.iter().enumerate() {
        for room in *rooms {
            // A room that is not built yet breaks no promise.
            let Some(id) = tree.id(room) else { continue };
            for dep in tree.direct(id) {
                let above = FLOORS.iter().skip(floor).flat_map(|names| names.iter());
                if above.clone().any(|name| *name == dep) {
                    findings.complaints.push(format!(
                        "{room} depends on {dep}: arrows point down only \
                         (cli, server, host, then app and stores); move what is needed down"
                    ));
                }
            }
        }
    }
    for (room, strangers) in STRANGERS {
        let Some(id) = tree.id(room) else { continue };
        for dep in tree.all(id) {
            if strangers.iter().any(|pattern| matches(pattern, dep)) {
                findings.complaints.push(format!(
                    "{room} depends on {dep}, perhaps through another crate \
                     (`cargo tree -p {room} -i {dep}`): it must not know it"
                ));
            }
        }
    }
}

/// Whether a dependency is more than a tool of the tests.
fn is_built(dep: &Value) -> bool {
    let kinds = dep.get("dep_kinds").and_then(Value::as_array);
    kinds.is_none_or(|kinds| {
        kinds
            .iter()
            .any(|kind| kind.get("kind") != Some(&"dev".into()))
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn text(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn complaints(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let mut names = BTreeSet::new();
        let mut nodes: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (from, to, kind) in edges {
            names.extend([*from, *to]);
            let dep = json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] });
            nodes.entry(*from).or_default().push(dep);
        }
        let packages: Vec<Value> = names
            .iter()
            .map(|n| json!({ "id": n, "name": n }))
            .collect();
        let nodes: Vec<Value> = nodes
            .iter()
            .map(|(id, deps)| json!({ "id": id, "deps": deps }))
            .collect();
        let metadata = json!({ "packages": packages, "resolve": { "nodes": nodes } });
        let mut findings = Findings::default();
        judge(&Tree::read(&metadata).unwrap(), &mut findings);
        findings.complaints
    }

    #[test]
    fn arrows_that_point_down_are_fine() {
        let edges = [
            ("hostel", "hostel-server", None),
            ("hostel-server", "hostel-host", None),
            ("hostel-server", "hostel-app", None),
            ("hostel-host", "hostel-app", None),
            ("hostel-host", "wasmtime", None),
            ("hostel-app", "serde", None),
        ];
        assert_eq!(complaints(&edges), [""; 0]);
    }

    #[test]
    fn arrows_up_and_sideways_are_named() {
        let up = complaints(&[("hostel-host", "hostel-server", None)]);
        assert!(
            up[0].starts_with("hostel-host depends on hostel-server: "),
            "{up:?}"
        );
        let sideways = complaints(&[("hostel-app", "hostel-stores", None)]);
        assert_eq!(sideways.len(), 1, "{sideways:?}");
    }

    #[test]
    fn strangers_are_found_through_others_but_not_through_tests() {
        let through = complaints(&[("hostel-app", "other", None), ("other", "tokio", None)]);
        assert!(
            through[0].starts_with("hostel-app depends on tokio, "),
            "{through:?}"
        );
        let family = complaints(&[("hostel-stores", "wasmtime-wasi", None)]);
        assert_eq!(family.len(), 1);
        let tests = complaints(&[("hostel-app", "tokio", Some("dev"))]);
        assert_eq!(tests, [""; 0]);
    }
}
