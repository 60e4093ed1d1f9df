//! Several components made one: what the imports of one are bound to becomes part of it. For `hostel compose`.
//!
//! The result is a component like any other, with one memory for each part but one set of grants, limits and log lines for
//! all. Each part is in it once, whoever imports from it. What nothing is bound to stays an import.

use std::collections::HashMap;

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use crate::bind::{is_compatible, is_meant};
use crate::compile::LoadError;
use crate::detect;

/// A component, and what its imports are bound to.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Its name in the app.
    pub name: &'a str,
    /// Its binary, or its text.
    pub code: &'a [u8],
    /// Imports, each with the name of the part that answers it.
    pub bind: &'a std::collections::BTreeMap<String, String>,
}

/// Makes one component of the part with this name and all that it needs of the others.
///
/// # Errors
/// A part is no component, or an import does not fit what it is bound to.
pub fn compose(parts: &[Part<'_>], name: &str) -> Result<Vec<u8>, LoadError> {
    let mut composition = Composition {
        parts,
        graph: CompositionGraph::new(),
        instances: HashMap::new(),
    };
    let (package, instance) = composition.instance(name)?;
    let Composition { mut graph, .. } = composition;
    let wanted = graph.types()[graph[package].ty()].exports.keys();
    let exports: Vec<String> = wanted.cloned().collect();
    for export in exports {
        let alias = graph.alias_instance_export(instance, &export);
        let alias = alias.map_err(|cause| error(name, &cause))?;
        let exported = graph.export(alias, &export);
        exported.map_err(|cause| error(name, &cause))?;
    }
    let encoded = graph.encode(EncodeOptions::default());
    encoded.map_err(|cause| error(name, &cause))
}

struct Composition<'a> {
    parts: &'a [Part<'a>],
    graph: CompositionGraph,
    instances: HashMap<&'a str, Placed>,
}

type Placed = (wac_graph::PackageId, NodeId);

impl<'a> Composition<'a> {
    /// The instance of this part, with all that it needs. Resolving has seen to it that no part needs itself.
    fn instance(&mut self, name: &str) -> Result<Placed, LoadError> {
        let found = self.parts.iter().find(|part| part.name == name);
        let part = found.ok_or_else(|| error(name, &"there is no such component"))?;
        if let Some(placed) = self.instances.get(part.name) {
            return Ok(*placed);
        }
        let binary = detect::to_binary(part.code)?;
        let read = Package::from_bytes(part.name, None, binary, self.graph.types_mut());
        let read = read.map_err(|cause| error(name, &format!("{cause:#}")))?;
        let registered = self.graph.register_package(read);
        let package = registered.map_err(|cause| error(name, &cause))?;
        let instance = self.graph.instantiate(package);
        self.instances.insert(part.name, (package, instance));
        for (written, callee) in part.bind {
            self.bind((package, instance), (part.name, written), callee)?;
        }
        Ok((package, instance))
    }

    fn bind(
        &mut self,
        (package, instance): Placed,
        (name, written): (&str, &str),
        callee: &str,
    ) -> Result<(), LoadError> {
        let (callee_package, callee_instance) = self.instance(callee)?;
        let types = self.graph.types();
        let imports = types[self.graph[package].ty()].imports.keys();
        let imports: Vec<String> = imports
            .filter(|one| is_meant(written, one))
            .cloned()
            .collect();
        if imports.is_empty() {
            let what =
                format!("`{written}` is bound to \"{callee}\", and is not among its imports");
            return Err(error(name, &what));
        }
        for import in imports {
            let types = self.graph.types();
            let mut exports = types[self.graph[callee_package].ty()].exports.keys();
            let same = exports.clone().find(|export| **export == import);
            let export = same.or_else(|| exports.find(|export| is_compatible(&import, export)));
            let Some(export) = export.cloned() else {
                let what = format!(
                    "its import `{import}` is bound to the component \"{callee}\", which does not export it"
                );
                return Err(error(name, &what));
            };
            let alias = self.graph.alias_instance_export(callee_instance, &export);
            let alias = alias.map_err(|cause| error(name, &cause))?;
            let set = self
                .graph
                .set_instantiation_argument(instance, &import, alias);
            set.map_err(|cause| error(name, &cause))?;
        }
        Ok(())
    }
}

fn error(component: &str, cause: &dyn std::fmt::Display) -> LoadError {
    LoadError {
        component: component.to_owned(),
        what: format!("it cannot be composed: {cause}"),
        help: "build both sides of an import from the same WIT; `hostel check` says more of what does not fit".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const CALLEE: &str = r#"(component
        (core module $m (func (export "f") (result i32) i32.const 7))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (instance $x (export "f" (func $f)))
        (export "a:b/c@1.2.0" (instance $x)))"#;
    const CALLER: &str = r#"(component
        (import "a:b/c@1.0.0" (instance $c (export "f" (func (result u32)))))
        (import "left:out/x" (instance $x (export "g" (func))))
        (alias export $c "f" (func $f))
        (export "run" (func $f)))"#;

    fn composed(callee: &str, import: &str) -> Result<Vec<u8>, LoadError> {
        let bind = BTreeMap::from([(import.to_owned(), "callee".to_owned())]);
        let none = BTreeMap::new();
        let parts = [
            Part {
                name: "callee",
                code: callee.as_bytes(),
                bind: &none,
            },
            Part {
                name: "caller",
                code: CALLER.as_bytes(),
                bind: &bind,
            },
        ];
        compose(&parts, "caller")
    }

    #[test]
    fn what_is_bound_is_inside_and_the_rest_stays_an_import() {
        let detected = detect::detect(&composed(CALLEE, "a:b/c").unwrap()).unwrap();
        assert_eq!(detected.imports, ["left:out/x"]);
        assert_eq!(detected.exports, ["run"]);
    }

    #[test]
    fn what_does_not_fit_is_said_with_both_names() {
        let told = composed(CALLEE, "a:b/d").unwrap_err().to_string();
        assert!(
            told.contains("`a:b/d`") && told.contains("not among its imports"),
            "{told}"
        );
        let told = composed(&CALLEE.replace("1.2.0", "2.0.0"), "a:b/c")
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("\"caller\"") && told.contains("\"callee\", which does not export it"),
            "{told}"
        );
        let wider = CALLEE.replace("(result u32)", "(result s32)");
        assert!(composed(&wider, "a:b/c").is_err());
        assert!(composed("(module)", "a:b/c").is_err());
    }
}
