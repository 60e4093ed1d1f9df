//! What the exports of a guest are called, and what to say of a name that none of them has.

use std::fmt;

use hostel_app::nearest;

use crate::compile::LoadError;

/// A function that a guest exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its full name: `function`, or `ns:package/interface@1.0.0#function`.
    pub name: String,
    /// `interface.function`, where no other export is called that.
    pub short: Option<String>,
    /// Names and types, as WIT; a core module's parameters have no names.
    pub parameters: Vec<(String, String)>,
    /// The result's type, as WIT.
    pub result: Option<String>,
    /// Whether it is an async function.
    pub is_async: bool,
}

impl ExportInfo {
    /// Its types without names: `(string, list<u8>) -> result<_, string>`.
    pub fn types(&self) -> String {
        self.written(|_, ty| ty.to_owned())
    }

    pub(super) fn written(&self, parameter: impl Fn(&str, &str) -> String) -> String {
        let parameters = self.parameters.iter();
        let parameters: Vec<String> = parameters.map(|(name, ty)| parameter(name, ty)).collect();
        let result = self.result.as_ref();
        let result = result.map_or_else(String::new, |ty| format!(" -> {ty}"));
        format!("({}){result}", parameters.join(", "))
    }

    /// Whether this is one of its names.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name
            || self.short.as_deref() == Some(name)
            || split(&self.name).is_some_and(|(interface, function)| {
                let package = interface.split_once('@').map(|(package, _)| package);
                package.is_some_and(|package| {
                    name.strip_prefix(package)
                        .and_then(|rest| rest.strip_prefix('#'))
                        == Some(function)
                })
            })
    }
}

impl fmt::Display for ExportInfo {
    /// `function: func(topic: string) -> string`, as WIT writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.written(|name, ty| match name {
            "" => ty.to_owned(),
            name => format!("{name}: {ty}"),
        });
        let keyword = if self.is_async { "async func" } else { "func" };
        write!(f, "{}: {keyword}{named}", self.name)
    }
}

/// The interface and the function of a full name.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('#')
}

pub(super) fn unknown(name: &str, infos: &[&ExportInfo]) -> LoadError {
    let names = infos.iter().flat_map(|info| {
        let plain = split(&info.name).map(|(_, function)| function);
        [Some(info.name.as_str()), info.short.as_deref(), plain]
    });
    let near = nearest(name, names.flatten());
    let near = near.map(|near| {
        infos.iter().find(|info| {
            info.is_called(near) || split(&info.name).is_some_and(|(_, function)| function == near)
        })
    });
    let help = match (near.flatten(), infos) {
        (Some(near), _) => {
            let near = near.short.as_ref().unwrap_or(&near.name);
            format!("did you mean `{near}`?")
        }
        (None, []) => "it exports no function at all: check that it is the right file".to_owned(),
        (None, infos) => {
            let names = infos.iter().take(8);
            let names: Vec<String> = names
                .map(|info| format!("`{}`", info.short.as_ref().unwrap_or(&info.name)))
                .collect();
            let more = if infos.len() > names.len() {
                ", …"
            } else {
                ""
            };
            format!("it exports {}{more}", names.join(", "))
        }
    };
    error(format!("it exports no function `{name}`"), help)
}

pub(super) fn error(what: impl Into<String>, help: impl Into<String>) -> LoadError {
    LoadError {
        component: String::new(),
        what: what.into(),
        help: help.into(),
    }
}

/// The export of this name, by its place.
pub(super) fn find(infos: &[&ExportInfo], name: &str) -> Result<usize, LoadError> {
    if let Some(place) = infos.iter().position(|info| info.name == name) {
        return Ok(place);
    }
    let mut called = (0..).zip(infos).filter(|(_, info)| info.is_called(name));
    match (called.next(), called.next()) {
        (Some((place, _)), None) => Ok(place),
        (None, _) => Err(unknown(name, infos)),
        (Some((_, one)), Some((_, other))) => Err(error(
            format!(
                "`{name}` may be its export `{}` or `{}`",
                one.name, other.name
            ),
            "write the whole name",
        )),
    }
}
