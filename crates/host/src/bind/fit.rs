//! Whether an import of one component fits an export of another: seen at load, and said with both names.

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type};
use wasmtime::component::{Component, types};

use crate::compile::LoadError;
use crate::detect::Version;
use hostel_app::nearest;

/// An import with the export that answers it.
#[derive(Debug)]
pub(super) struct Fit {
    /// As the caller names it.
    pub(super) import: String,
    /// As the callee does.
    pub(super) export: String,
    /// The functions that the caller wants, and whether it calls them asynchronously.
    pub(super) functions: Vec<(String, bool)>,
}

/// Every import of the caller that `written` in its manifest stands for. Without a version that is every version.
pub(super) fn fits(
    caller: &Component,
    written: &str,
    callee: &Component,
    name: &str,
) -> Result<Vec<Fit>, LoadError> {
    let engine = caller.engine();
    let ty = caller.component_type();
    let mut all = Vec::new();
    let mut instances = Vec::new();
    for (import, item) in ty.imports(engine) {
        let ComponentItem::ComponentInstance(wanted) = item.ty else {
            continue;
        };
        if is_meant(written, import) {
            let answer = Answer {
                import,
                callee: name,
            };
            all.push(answer.fit(engine, &wanted, callee)?);
        }
        instances.push(import);
    }
    match all.is_empty() {
        false => Ok(all),
        true => Err(not_imported(written, name, &instances)),
    }
}

/// Whether the manifest means this import: by its whole name, or by its name without the version.
pub(crate) fn is_meant(written: &str, import: &str) -> bool {
    let interface = import
        .split_once('@')
        .map_or(import, |(interface, _)| interface);
    written == import || written == interface
}

/// One import on its way to an export.
struct Answer<'a> {
    import: &'a str,
    callee: &'a str,
}

impl Answer<'_> {
    fn fit(
        &self,
        engine: &Engine,
        wanted: &ComponentInstance,
        callee: &Component,
    ) -> Result<Fit, LoadError> {
        let ty = callee.component_type();
        let (export, offered) = self.export(callee.engine(), &ty)?;
        let mut functions = Vec::new();
        for (name, item) in wanted.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(want) => {
                    let has = offered.get_export(callee.engine(), name);
                    self.same(name, &want, has.map(|item| item.ty).as_ref())?;
                    functions.push((name.to_owned(), want.async_()));
                }
                ComponentItem::Resource(_) => {
                    return Err(self.by_value(&format!("the resource `{name}`")));
                }
                // Types are the functions' business.
                _ => {}
            }
        }
        Ok(Fit {
            import: self.import.to_owned(),
            export,
            functions,
        })
    }

    /// The callee's interface of this name: in the same version, or in another one of its track.
    fn export(
        &self,
        engine: &Engine,
        ty: &types::Component,
    ) -> Result<(String, ComponentInstance), LoadError> {
        let mut names = Vec::new();
        let mut found = None;
        for (name, item) in ty.exports(engine) {
            let ComponentItem::ComponentInstance(instance) = item.ty else {
                continue;
            };
            if name == self.import || (found.is_none() && is_compatible(self.import, name)) {
                found = Some((name.to_owned(), instance));
            }
            names.push(name.to_owned());
        }
        found.ok_or_else(|| {
            let Self { import, callee } = self;
            let help = match nearest(import, names.iter().map(String::as_str)) {
                Some(near) => format!("the nearest of its exports is `{near}`: bind the import to a component that exports it"),
                None if names.is_empty() => "it exports no interface at all".to_owned(),
                None => format!("it exports {}: bind the import to a component that exports it", some(&names)),
            };
            error(
                format!("its import `{import}` is bound to the component \"{callee}\", which does not export it"),
                help,
            )
        })
    }

    /// Whether what the callee has under this name is what the caller wants, and can be handed over.
    fn same(
        &self,
        name: &str,
        want: &ComponentFunc,
        has: Option<&ComponentItem>,
    ) -> Result<(), LoadError> {
        let Self { import, callee } = self;
        let types = || want.params().map(|(_, ty)| ty).chain(want.results());
        if let Some(kind) = types().find_map(|ty| handle_in(&ty)) {
            return Err(self.by_value(&format!("{kind} in `{name}`")));
        }
        let misfit = |why: &str| {
            error(
                format!("its import `{import}` is bound to the component \"{callee}\", {why}"),
                "build both from the same WIT; `hostel inspect FILE` lists what each imports and exports",
            )
        };
        let Some(ComponentItem::ComponentFunc(has)) = has else {
            return Err(misfit(&format!(
                "whose `{import}` has no function `{name}`"
            )));
        };
        let same = want.params().len() == has.params().len()
            && want.results().len() == has.results().len()
            && want
                .params()
                .zip(has.params())
                .all(|((_, one), (_, other))| one == other)
            && want
                .results()
                .zip(has.results())
                .all(|(one, other)| one == other);
        match same {
            true => Ok(()),
            false => Err(misfit(&format!(
                "whose `{name}` has other parameters or another result"
            ))),
        }
    }

    /// What belongs to one instance stays there.
    fn by_value(&self, what: &str) -> LoadError {
        let Self { import, callee } = self;
        error(
            format!(
                "its import `{import}` is bound to the component \"{callee}\", and {what} cannot be handed from one instance \
                 to another"
            ),
            "put both into one component: `hostel compose`; or build them without resources, streams and futures in between",
        )
    }
}

/// Whether one version stands for the other, as the engine's linker sees it.
pub(crate) fn is_compatible(import: &str, export: &str) -> bool {
    let parts = |name: &str| {
        let (interface, version) = name.split_once('@')?;
        let track = Version::parse(version)?.track()?;
        Some((interface.to_owned(), track))
    };
    matches!((parts(import), parts(export)), (Some(one), Some(other)) if one == other)
}

/// What cannot be handed over as a value, if there is any in the type.
fn handle_in(ty: &Type) -> Option<&'static str> {
    match ty {
        Type::Own(_) | Type::Borrow(_) => Some("a resource"),
        Type::Future(_) => Some("a future"),
        Type::Stream(_) => Some("a stream"),
        Type::ErrorContext => Some("an error context"),
        Type::List(list) => handle_in(&list.ty()),
        Type::FixedLengthList(list) => handle_in(&list.ty()),
        Type::Map(map) => handle_in(&map.key()).or_else(|| handle_in(&map.value())),
        Type::Option(option) => handle_in(&option.ty()),
        Type::Tuple(tuple) => tuple.types().find_map(|ty| handle_in(&ty)),
        Type::Record(record) => record.fields().find_map(|field| handle_in(&field.ty)),
        Type::Variant(variant) => {
            let mut cases = variant.cases();
            cases.find_map(|case| case.ty.as_ref().and_then(handle_in))
        }
        Type::Result(result) => {
            let mut both = [result.ok(), result.err()].into_iter().flatten();
            both.find_map(|ty| handle_in(&ty))
        }
        _ => None,
    }
}

pub(super) fn not_imported(written: &str, callee: &str, imports: &[&str]) -> LoadError {
    let help = match nearest(written, imports.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let names: Vec<String> = imports.iter().map(|name| (*name).to_owned()).collect();
            format!("it imports {}", some(&names))
        }
    };
    error(
        format!("`{written}` is bound to the component \"{callee}\", and is not among its imports"),
        help,
    )
}

/// A core module has no exports of this kind.
pub(super) fn no_component(written: &str, callee: &str) -> LoadError {
    error(
        format!(
            "its import `{written}` is bound to \"{callee}\", which is a core module and no component"
        ),
        "build that one as a component; `hostel inspect FILE` says what a file is",
    )
}

pub(super) fn unlinked(written: &str, cause: &wasmtime::Error) -> LoadError {
    error(
        format!("its import `{written}` cannot be bound: {cause:#}"),
        "a component that imports async functions has to be built for WASI 0.3, its handler too",
    )
}

/// The first few names of a list that may be long.
fn some(names: &[String]) -> String {
    const MOST: usize = 10;
    let shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if names.len() > MOST { ", ..." } else { "" };
    shown.join(", ") + more
}

fn error(what: String, help: impl Into<String>) -> LoadError {
    LoadError {
        component: String::new(),
        what,
        help: help.into(),
    }
}
