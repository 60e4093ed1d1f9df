//! The path of a request as names of folders and files.

use hostel_app::unescaped;

/// One part of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A name that a file can have.
    Name(String),
    /// Nothing behind the last slash.
    End,
    /// What no file is found by: hidden names, names that lead elsewhere, and what is not text.
    Nameless,
}

/// The parts of a path, one after the other.
pub(super) struct Steps<'p>(Option<&'p str>);

/// The parts of a path as it was sent; none of one that does not begin with a slash.
pub(super) fn steps(path: &str) -> Steps<'_> {
    Steps(Some(path).filter(|path| path.starts_with('/')))
}

impl<'p> Steps<'p> {
    /// What is left.
    pub(super) fn rest(&self) -> &'p str {
        self.0.unwrap_or_default()
    }
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let path = self.0.take()?.strip_prefix('/')?;
        let (step, rest) = match path
            .find('/')
            .and_then(|slash| path.split_at_checked(slash))
        {
            Some((step, rest)) => (step, Some(rest)),
            None => (path, None),
        };
        self.0 = rest;
        Some(match (name(step), rest) {
            (Some(name), _) => Step::Name(name),
            (None, None) if step.is_empty() => Step::End,
            (None, _) => Step::Nameless,
        })
    }
}

/// The name that a part of a path stands for.
fn name(step: &str) -> Option<String> {
    let name = String::from_utf8(unescaped(step, |_| false).into_owned()).ok()?;
    // A backslash would be a slash to a browser that is sent there.
    let plain = !name.contains(['/', '\\', '\0']);
    (plain && !name.is_empty() && !name.starts_with('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Vec<Step> {
        steps(path).collect()
    }

    fn named(name: &str) -> Step {
        Step::Name(name.to_owned())
    }

    #[test]
    fn a_path_is_read_name_by_name() {
        assert_eq!(read("/"), [Step::End]);
        assert_eq!(read("/a%20b/c.php"), [named("a b"), named("c.php")]);
        assert_eq!(read("/a/"), [named("a"), Step::End]);
        assert_eq!(read("/100%/%zz"), [named("100%"), named("%zz")]);
        assert_eq!(read("*"), []);
        let mut steps = steps("/a.php/b%2Fc/");
        assert_eq!(steps.next(), Some(named("a.php")));
        assert_eq!(steps.rest(), "/b%2Fc/");
    }

    #[test]
    fn what_cannot_be_a_visible_file_has_no_name() {
        for path in [
            "/..",
            "/.",
            "/.git",
            "/%2e%2e",
            "/%2E/",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00.php",
            "/%ff",
            "//a",
        ] {
            assert_eq!(read(path).first(), Some(&Step::Nameless), "{path}");
        }
    }
}
