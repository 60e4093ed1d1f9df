//! `--env-file`: environment variables of guests, one on each line of a file.
//!
//! `NAME=VALUE`, with blanks around both and quotes around the value taken away; empty lines and lines that begin with `#` say
//! nothing. Nothing in a value is expanded. Messages name lines and no values, which may be secret.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use hostel_app::limits;

/// The variables of one file, in its order.
#[derive(Clone, Default)]
pub(crate) struct EnvFile(Vec<(String, String)>);

impl EnvFile {
    /// Reads a file.
    ///
    /// # Errors
    /// In words: it cannot be read, is too large, or has a line that is no variable.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let most = limits::MANIFEST_BYTES_MAX;
        let text = start(path, most.default + 1).map_err(|error| {
            let help = "name a file with a line NAME=VALUE for each variable";
            format!("cannot read it: {error}\n  help: {help}")
        })?;
        match text.len() as u64 > most.default {
            true => {
                let most = most.shown();
                let help = "is this really a file of variables?";
                Err(format!("it is larger than {most}\n  help: {help}"))
            }
            false => Self::of(&text),
        }
    }

    fn of(text: &str) -> Result<Self, String> {
        let lines = (1..).zip(text.trim_start_matches('\u{feff}').lines());
        let said = lines.filter(|(_, line)| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#')
        });
        let pairs: Result<_, String> = said
            .map(|(number, line)| {
                let pair = line.split_once('=');
                let pair = pair.map(|(name, value)| (name.trim(), unquoted(value.trim())));
                match pair {
                    _ if line.contains('\0') => Err(format!(
                        "line {number} holds a NUL character\n  help: remove it: no variable can hold one"
                    )),
                    Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
                    _ => Err(format!(
                        "line {number} is not NAME=VALUE\n  help: write NAME=VALUE, or # in front of a remark"
                    )),
                }
            })
            .collect();
        Ok(Self(pairs?))
    }

    /// Its variables; of two with one name the last counts.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.0
    }
}

/// The text of a file, but no more than so many bytes of it.
fn start(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

/// Values stay out of messages.
impl std::fmt::Debug for EnvFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} variables", self.0.len())
    }
}

/// A value without the quotes around it.
fn unquoted(value: &str) -> &str {
    let between = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    between('"').or_else(|| between('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_variable() {
        let text = "\u{feff}# who\nTEST_NAME = \"test value\"\r\n\n  A=b=c \nQ='it''s'\n\tE=\nH=a # b\nL=\"\n";
        let file = EnvFile::of(text).unwrap();
        let pairs: Vec<(&str, &str)> = file
            .variables()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let expected = [
            ("TEST_NAME", "test value"),
            ("A", "b=c"),
            ("Q", "it''s"),
            ("E", ""),
            ("H", "a # b"),
            ("L", "\""),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(format!("{file:?}"), "6 variables");
    }

    #[test]
    fn what_is_no_variable_is_named_by_its_line() {
        for (text, what) in [
            ("A=1\nhunter2\n", "line 2 is not NAME=VALUE"),
            ("\n=hunter2", "line 2 is not NAME=VALUE"),
            ("A=hunter2\0", "line 1 holds a NUL"),
        ] {
            let message = EnvFile::of(text).unwrap_err();
            assert!(
                message.contains(what) && message.contains("help: "),
                "{message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
        let missing = EnvFile::read(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(missing.contains("cannot read it"), "{missing}");
    }

    #[test]
    fn a_file_has_an_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let line = [b'#'; 1024];
        for _ in 0..=1024 {
            io::Write::write_all(&mut file, &line).unwrap();
        }
        let message = EnvFile::read(file.path()).unwrap_err();
        assert!(message.contains("larger than 1MiB"), "{message}");
    }
}
