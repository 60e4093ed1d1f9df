//! The values of variables, as they are at this moment: in files, in `.env` files, in the environment.
//!
//! What may change is looked at whenever it is used: a file costs one `stat` as long as it is the same. Every value is
//! handled as if it were secret, so that no message here quotes one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use hostel_app::{Origin, Secret, Variable, limits};

use crate::lock::lock;

/// A file that was written so shortly before it was read may be written again without looking different.
const YOUNG: Duration = Duration::from_secs(1);

/// A place where a value may be.
trait Source: fmt::Debug + Send + Sync {
    /// The value as it is now; `None` where the place has none. An error is a sentence for the operator.
    fn read(&self) -> Result<Option<Secret>, String>;
}

/// The variables that a component, or the operator's file, uses.
#[derive(Debug, Default)]
pub(crate) struct Variables(BTreeMap<String, Vec<Box<dyn Source>>>);

/// A variable has no value at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoValue {
    pub(crate) name: String,
    /// What is wrong with the places where it could be; for the operator. Empty where it is in none of them.
    pub(crate) why: String,
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the variable \"{}\" has no value", self.name)?;
        match self.why.as_str() {
            "" => Ok(()),
            why => write!(f, ": {why}"),
        }
    }
}

impl NoValue {
    /// How to mend it.
    pub(crate) fn help(&self) -> String {
        format!(
            "give it one: --var {}=..., or [variables] in the file of --config",
            self.name
        )
    }
}

impl Variables {
    pub(crate) fn new<'v>(variables: impl IntoIterator<Item = (&'v String, &'v Variable)>) -> Self {
        let open = |(name, variable): (&String, &Variable)| {
            let sources = variable.origins.iter().map(open);
            (name.clone(), sources.collect())
        };
        Self(variables.into_iter().map(open).collect())
    }

    /// The value of a variable, from the first place that has one.
    pub(crate) fn get(&self, name: &str) -> Result<Secret, NoValue> {
        let mut why = Vec::new();
        for source in self.0.get(name).into_iter().flatten() {
            match source.read() {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(problem) => why.push(problem),
            }
        }
        Err(NoValue {
            name: name.to_owned(),
            why: why.join("; "),
        })
    }
}

fn open(origin: &Origin) -> Box<dyn Source> {
    match origin {
        Origin::Given(value) => Box::new(Given(value.clone())),
        Origin::Env(name) => Box::new(Environment(name.clone())),
        Origin::File(path) => Box::new(Watched::new(path, None)),
        Origin::Dotenv { path, key } => Box::new(Watched::new(path, Some(key.clone()))),
    }
}

#[derive(Debug)]
struct Given(Secret);

impl Source for Given {
    fn read(&self) -> Result<Option<Secret>, String> {
        Ok(Some(self.0.clone()))
    }
}

/// It cannot change while the process runs.
#[derive(Debug)]
struct Environment(String);

impl Source for Environment {
    fn read(&self) -> Result<Option<Secret>, String> {
        match std::env::var_os(&self.0).map(|value| value.into_string()) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(Secret::new(value))),
            Some(Err(_)) => Err(format!("the environment variable {} is not UTF-8", self.0)),
        }
    }
}

/// A file, or one line of a `.env` file.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    key: Option<String>,
    seen: Mutex<Option<Seen>>,
}

/// What was read of a file, and how that looked.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    young: bool,
    value: Result<Option<Secret>, String>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([i64; 7]);

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self([
            found.dev().cast_signed(),
            found.ino().cast_signed(),
            found.size().cast_signed(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ])
    }
}

impl Watched {
    fn new(path: &Path, key: Option<String>) -> Self {
        Self {
            path: path.to_owned(),
            key,
            seen: Mutex::new(None),
        }
    }

    fn most(&self) -> u64 {
        match self.key {
            None => limits::VARIABLE_BYTES_MAX.default,
            Some(_) => limits::MANIFEST_BYTES_MAX.default,
        }
    }

    /// The value that is in this text.
    fn value(&self, text: &str) -> Result<Option<Secret>, String> {
        let value = match &self.key {
            None => {
                let text = text.strip_suffix('\n').unwrap_or(text);
                Some(text.strip_suffix('\r').unwrap_or(text).to_owned())
            }
            Some(key) => line_of(text, key),
        };
        match value {
            Some(value) if value.contains('\0') => {
                Err(self.problem("the value holds a NUL character"))
            }
            Some(value) if value.len() as u64 > limits::VARIABLE_BYTES_MAX.default => {
                Err(self.too_large(limits::VARIABLE_BYTES_MAX.shown()))
            }
            value => Ok(value.map(Secret::new)),
        }
    }

    fn read_now(&self) -> Result<Option<Secret>, String> {
        let most = self.most();
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(|error| self.problem(plain(&error)))?;
        let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes);
        let read = read.map_err(|error| self.problem(plain(&error)))?;
        if read as u64 > most {
            return Err(self.too_large(self.key.as_ref().map_or_else(
                || limits::VARIABLE_BYTES_MAX.shown(),
                |_| limits::MANIFEST_BYTES_MAX.shown(),
            )));
        }
        let text = String::from_utf8(bytes).map_err(|_| self.problem("it is not UTF-8"))?;
        self.value(&text)
    }

    fn too_large(&self, most: String) -> String {
        self.problem(format!("the value is larger than {most}"))
    }

    fn problem(&self, what: impl fmt::Display) -> String {
        format!("cannot use \"{}\": {what}", self.path.display())
    }
}

impl Source for Watched {
    fn read(&self) -> Result<Option<Secret>, String> {
        let found = match fs::metadata(&self.path) {
            Ok(found) if found.is_file() => found,
            // Opening a pipe would wait for its writer.
            Ok(_) => return Err(self.problem("it is not a file")),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.problem(plain(&error))),
        };
        let stamp = Stamp::of(&found);
        let mut seen = lock(&self.seen);
        if let Some(seen) = seen
            .as_ref()
            .filter(|seen| seen.stamp == stamp && !seen.young)
        {
            return seen.value.clone();
        }
        let value = self.read_now();
        *seen = Some(Seen {
            stamp,
            young: is_young(&found),
            value: value.clone(),
        });
        value
    }
}

/// A clock that was set back makes every file young, which costs a read.
fn is_young(found: &Metadata) -> bool {
    let age = found
        .modified()
        .map(|written| SystemTime::now().duration_since(written));
    !matches!(age, Ok(Ok(age)) if age >= YOUNG)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// An error in the system's words, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

/// The value of a key in a `.env` file: `KEY=value`, with `export ` in front or not, the last one if there are several. In
/// double quotes `\n`, `\"` and `\\` are what they are in a shell; in single quotes nothing is special; without quotes a `#`
/// after a blank begins a comment.
fn line_of(text: &str, key: &str) -> Option<String> {
    let mut value = None;
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        if let Some((name, rest)) = line.split_once('=')
            && name.trim() == key
        {
            value = Some(unquoted(rest.trim()));
        }
    }
    value
}

fn unquoted(text: &str) -> String {
    if let Some(rest) = text.strip_prefix('\'')
        && let Some((inside, _)) = rest.split_once('\'')
    {
        return inside.to_owned();
    }
    if let Some(rest) = text.strip_prefix('"') {
        let mut out = String::new();
        let mut rest = rest.chars();
        while let Some(c) = rest.next() {
            match c {
                '"' => return out,
                '\\' => match rest.next() {
                    Some('n') => out.push('\n'),
                    Some(other) => out.push(other),
                    None => break,
                },
                c => out.push(c),
            }
        }
    }
    match text.split_once(" #") {
        Some((before, _)) => before.trim_end().to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(origins: &[Origin]) -> Variables {
        let variable = Variable {
            secret: true,
            origins: origins.to_vec(),
        };
        Variables::new([(&"v".to_owned(), &variable)])
    }

    fn value(variables: &Variables) -> Result<String, String> {
        let value = variables.get("v").map_err(|error| error.to_string())?;
        Ok(value.expose().to_owned())
    }

    #[test]
    fn the_first_place_that_has_a_value_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let dotenv = dir.path().join(".env");
        let all = variables(&[
            Origin::File(path.clone()),
            Origin::Dotenv {
                path: dotenv.clone(),
                key: "V".to_owned(),
            },
            Origin::Env("HOSTEL_NO_SUCH_VARIABLE".to_owned()),
            Origin::Given(Secret::new("default")),
        ]);
        assert_eq!(value(&all).as_deref(), Ok("default"));
        fs::write(&dotenv, "U=1\nV=dotenv\n").unwrap();
        assert_eq!(value(&all).as_deref(), Ok("dotenv"));
        fs::write(&path, "file\r\n").unwrap();
        assert_eq!(value(&all).as_deref(), Ok("file"));
        fs::remove_file(&path).unwrap();
        assert_eq!(value(&all).as_deref(), Ok("dotenv"));
    }

    #[test]
    fn a_change_is_seen_at_once_however_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("v"), dir.path().join("w"));
        let all = variables(&[Origin::File(path.clone())]);
        assert_eq!(value(&all).unwrap_err(), "the variable \"v\" has no value");
        for round in 0..50 {
            // The same length each time, so that only the times tell them apart, if anything does.
            let text = format!("{round:04}");
            fs::write(&path, &text).unwrap();
            assert_eq!(value(&all), Ok(text));
        }
        let old = File::options().write(true).open(&path).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(60))
            .unwrap();
        assert_eq!(value(&all).as_deref(), Ok("0049"));
        fs::write(&other, "moved").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(value(&all).as_deref(), Ok("moved"));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        let all = variables(&[Origin::File(path.clone())]);
        let most = limits::VARIABLE_BYTES_MAX.size();
        fs::write(&path, "x".repeat(most)).unwrap();
        assert_eq!(value(&all).map(|value| value.len()), Ok(most));
        for (bytes, why) in [
            (vec![b'x'; most + 1], "the value is larger than 64KiB"),
            (b"hunter2\xff".to_vec(), "it is not UTF-8"),
            (b"hunter2\0".to_vec(), "the value holds a NUL character"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = value(&all).unwrap_err();
            assert!(error.ends_with(why), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let all = variables(&[Origin::File(dir.path().to_owned())]);
        assert!(value(&all).unwrap_err().ends_with("it is not a file"));
    }

    #[test]
    fn lines_of_a_dotenv_file() {
        let text = "# A=0\nA=1\n export B = two words # comment\nC=\"x\\n\\\"y\\\" # no comment\"\nD='$x \\n'\nE=\nAB=2\nF=a#b\nA=3\n";
        for (key, expected) in [
            ("A", Some("3")),
            ("B", Some("two words")),
            ("C", Some("x\n\"y\" # no comment")),
            ("D", Some("$x \\n")),
            ("E", Some("")),
            ("AB", Some("2")),
            ("F", Some("a#b")),
            ("# A", None),
            ("G", None),
        ] {
            assert_eq!(line_of(text, key).as_deref(), expected, "{key}");
        }
    }
}
