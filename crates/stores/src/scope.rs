//! [`Scope`]: whose data it is.

use std::fmt;

/// One app's label: everything that a driver keeps belongs to one.
///
/// Both names are plain (letters, digits, `-` and `_`, at most 64 of them), so `APP.LABEL` and `APP/LABEL` can be taken apart
/// in one way only, whatever keys, topics or object names a guest makes up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    app: String,
    label: String,
}

impl Scope {
    /// `None` unless both names are plain.
    pub fn new(app: &str, label: &str) -> Option<Self> {
        (is_plain(app) && is_plain(label)).then(|| Self {
            app: app.to_owned(),
            label: label.to_owned(),
        })
    }

    /// The app's name.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The label that the app gave the store.
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.app, self.label)
    }
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_plain_names_only() {
        assert_eq!(
            Scope::new("shop", "default").unwrap().to_string(),
            "shop.default"
        );
        for (app, label) in [
            ("", "a"),
            ("a", ""),
            ("a.b", "c"),
            ("a", "b/c"),
            ("a", "b*"),
            ("a", "\u{e9}"),
            ("a:b", "c"),
        ] {
            assert_eq!(Scope::new(app, label), None, "{app} {label}");
        }
        assert_eq!(Scope::new(&"a".repeat(65), "a"), None);
    }
}
