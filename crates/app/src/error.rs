//! What is wrong with a manifest: file, line, column, what, and how to mend it.
//!
//! Every error of this room that an author or operator can cause ends here, in one shape, for people
//! ([`std::fmt::Display`], laid out as rustc does) and for programs (`serde::Serialize`). The texts may quote a
//! manifest that nobody has vetted, so control characters never leave this file and nothing is longer than a screen.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::limits;

/// Declares each kind once, so that [`Kind::ALL`] cannot forget one.
macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident,)+) => {
        /// The kind of an error, for programs; `kebab-case` in JSON. Each has a golden file in `tests/golden`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Kind {
            $($(#[$doc])+ $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];
        }
    };
}

kinds! {
    /// The path, or the manifest in the folder, does not exist or cannot be read.
    Unreadable,
    /// The path is neither a folder, a manifest nor a component.
    NotAManifest,
    /// The manifest is larger than its limit.
    TooLarge,
    /// The manifest is not UTF-8.
    NotUtf8,
    /// The manifest is not TOML.
    Syntax,
    /// A key or table that does not exist.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A value of another type than the key takes.
    WrongType,
    /// A value of the right type that makes no sense.
    BadValue,
    /// Part of the manifest's language, but not of this version.
    NotSupportedYet,
    /// A limit that is malformed, below its floor or above its ceiling.
    BadLimit,
    /// A grant that is malformed.
    BadGrant,
    /// A granted directory that does not exist or lies outside the manifest's folder.
    BadDirectory,
    /// The file of a component cannot be read or is too large.
    BadSource,
    /// A component that the manifest does not have.
    UnknownComponent,
    /// A manifest without anything that could run.
    NothingToRun,
    /// A route whose path, host or methods are malformed.
    BadRoute,
    /// Two routes that answer the same requests.
    DuplicateRoute,
    /// `{{` without an end or with something that is no name.
    BadTemplate,
    /// A variable that is not declared.
    UnknownVariable,
    /// A required variable without a value.
    MissingVariable,
    /// More of something than its limit allows.
    TooMany,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestError {
    /// The kind of error.
    pub kind: Kind,
    /// The file as the user named it, or the option of the command line.
    pub file: String,
    /// Line from 1; `None` when the error is about the file as a whole.
    pub line: Option<usize>,
    /// Column in characters from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub help: Option<String>,
    /// The text around the error.
    #[serde(skip)]
    pub(crate) excerpt: Option<Excerpt>,
}

/// A part of the line with the error, ready to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    text: String,
    /// Characters in front of the marked ones.
    indent: usize,
    /// Marked characters, at least one.
    marked: usize,
}

impl ManifestError {
    /// An error about a file, or an option of the command line, as a whole.
    pub(crate) fn whole(kind: Kind, file: impl Into<String>, what: &str, help: &str) -> Self {
        Self {
            kind,
            file: clean(&file.into()),
            line: None,
            column: None,
            what: clean(what),
            help: (!help.is_empty()).then(|| clean(help)),
            excerpt: None,
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.line.map_or(2, |line| line.to_string().len());
        let pad = " ".repeat(width);
        writeln!(f, "error: {}", self.what)?;
        write!(f, "{pad}--> {}", self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if let (Some(line), Some(excerpt)) = (self.line, &self.excerpt) {
            let indent = " ".repeat(excerpt.indent);
            let marks = "^".repeat(excerpt.marked);
            write!(
                f,
                "\n{pad} |\n{line} | {}\n{pad} | {indent}{marks}",
                excerpt.text
            )?;
        }
        match &self.help {
            Some(help) => write!(f, "\n{pad} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ManifestError {}

/// Everything that is wrong with a manifest, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestErrors(pub Vec<ManifestError>);

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestErrors {}

impl From<ManifestError> for ManifestErrors {
    fn from(error: ManifestError) -> Self {
        Self(vec![error])
    }
}

/// Collects what is wrong with one manifest while it is read.
#[derive(Debug)]
pub(crate) struct Report<'t> {
    file: String,
    text: &'t str,
    /// The text may hold secrets: nothing of it is quoted but keys.
    private: bool,
    /// Where each line of the text starts; empty when there is no text to point into.
    lines: Vec<usize>,
    found: Vec<Found>,
    /// Errors without a place in the file; they come last.
    elsewhere: Vec<ManifestError>,
}

#[derive(Debug)]
struct Found {
    span: Range<usize>,
    kind: Kind,
    what: String,
    help: String,
}

impl<'t> Report<'t> {
    pub(crate) fn new(file: &Path, text: &'t str) -> Self {
        let newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        let lines = [0].into_iter().chain(newlines).collect();
        Self {
            file: shown(file),
            text,
            private: false,
            lines,
            found: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// For a file that is no text: every error is about the whole of it.
    pub(crate) fn without_text(file: &Path) -> Self {
        Self {
            file: shown(file),
            text: "",
            private: false,
            lines: Vec::new(),
            found: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// For a file that may hold secrets: errors say where, and quote no values.
    pub(crate) fn private(file: &Path, text: &'t str) -> Self {
        Self {
            private: true,
            ..Self::new(file, text)
        }
    }

    /// A value as it was written, for a message; `None` where it may be secret.
    pub(crate) fn written(&self, span: Range<usize>) -> Option<&'t str> {
        self.text.get(span).filter(|_| !self.private)
    }

    /// Notes an error at these bytes of the text. `help` may be empty.
    pub(crate) fn at(
        &mut self,
        kind: Kind,
        span: Range<usize>,
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.lines.is_empty() {
            self.whole(kind, &what.into(), &help.into());
        } else {
            self.found.push(Found {
                span,
                kind,
                what: what.into(),
                help: help.into(),
            });
        }
    }

    /// Notes an error about the whole file; in a text it is placed at the beginning.
    pub(crate) fn whole(&mut self, kind: Kind, what: &str, help: &str) {
        let first = self.lines.first().map(|_| 1);
        let error = ManifestError::whole(kind, &self.file, what, help);
        self.elsewhere.push(ManifestError {
            line: first,
            column: first,
            ..error
        });
    }

    /// Notes an error in an option of the command line, such as `--var title=x`.
    pub(crate) fn option(&mut self, kind: Kind, option: String, what: &str, help: &str) {
        self.elsewhere
            .push(ManifestError::whole(kind, option, what, help));
    }

    /// The text of the manifest.
    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// Whether anything was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.elsewhere.is_empty()
    }

    /// How much was noted.
    pub(crate) fn len(&self) -> usize {
        self.found.len() + self.elsewhere.len()
    }

    /// The line, from 1, that holds this byte of the text; 0 when there is no text.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// Everything noted, in the order of the file.
    pub(crate) fn into_errors(mut self) -> ManifestErrors {
        self.found.sort_by_key(|found| found.span.start);
        let most = limits::MANIFEST_ERRORS_MAX.size();
        let total = self.found.len() + self.elsewhere.len();
        let placed = self.found.iter().take(most).map(|found| self.place(found));
        let mut errors: Vec<ManifestError> = placed
            .chain(self.elsewhere.iter().cloned())
            .take(most)
            .collect();
        if total > most {
            let what = format!("{} more errors are not shown", total - most);
            errors.push(ManifestError::whole(
                Kind::TooMany,
                &self.file,
                &what,
                "mend these first",
            ));
        }
        ManifestErrors(errors)
    }

    /// An error with its line, its column and the text around it.
    fn place(&self, found: &Found) -> ManifestError {
        let start = floor_boundary(self.text, found.span.start);
        let number = self.line(start);
        let line_start = self
            .lines
            .get(number.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let line = self
            .text
            .get(line_start..)
            .unwrap_or("")
            .lines()
            .next()
            .unwrap_or("");
        let before = self
            .text
            .get(line_start..start)
            .unwrap_or("")
            .trim_start_matches('\u{feff}');
        let indent = before.chars().count();
        let rest = line.get(start - line_start..).unwrap_or("");
        let span = floor_boundary(rest, found.span.end.saturating_sub(start));
        let marked = rest.get(..span).unwrap_or(rest).chars().count().max(1);
        ManifestError {
            line: Some(number),
            column: Some(indent + 1),
            excerpt: (!self.private)
                .then(|| Excerpt::new(line.trim_start_matches('\u{feff}'), indent, marked)),
            ..ManifestError::whole(found.kind, &self.file, &found.what, &found.help)
        }
    }
}

impl Excerpt {
    /// Cuts a long line around the marked characters; one character stays one column.
    fn new(line: &str, indent: usize, marked: usize) -> Self {
        const WIDTH: usize = 120;
        let cut = if indent + marked > WIDTH {
            indent.saturating_sub(WIDTH / 3)
        } else {
            0
        };
        let text: String = line.chars().skip(cut).take(WIDTH).map(printable).collect();
        let indent = indent - cut;
        Self {
            text: text.trim_end().to_owned(),
            indent,
            marked: marked.min(WIDTH - indent.min(WIDTH - 1)),
        }
    }
}

/// A path as the user wrote it; `./hostel.toml` came from `.` and reads better without it.
pub(crate) fn shown(path: &Path) -> String {
    match path.strip_prefix(".") {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        _ => path.display().to_string(),
    }
}

/// One line of printable text, cut where it would fill the screen.
fn clean(text: &str) -> String {
    const LONGEST: usize = 500;
    let mut out: String = text.chars().take(LONGEST).map(printable).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push_str("...");
    }
    out
}

/// The character, or a replacement for those that steer a terminal or reorder text.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    }
}

/// The last character boundary that is not behind `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, span: Range<usize>) -> ManifestError {
        let mut report = Report::new(Path::new("hostel.toml"), text);
        report.at(Kind::Syntax, span, "wrong", "mend it");
        report.into_errors().0.remove(0)
    }

    #[test]
    fn the_layout_is_that_of_rustc() {
        let text = format!("{}rout = \"/...\"\n", "\n".repeat(13));
        assert_eq!(
            one(&text, 13..17).to_string(),
            "error: wrong\n  --> hostel.toml:14:1\n   |\n14 | rout = \"/...\"\n   | ^^^^\n   = help: mend it"
        );
        let text = "ü = 'x'";
        assert_eq!(
            one(text, 5..8).to_string(),
            "error: wrong\n --> hostel.toml:1:5\n  |\n1 | ü = 'x'\n  |     ^^^\n  = help: mend it"
        );
        let whole = ManifestError::whole(Kind::Unreadable, "x/hostel.toml", "gone", "");
        assert_eq!(whole.to_string(), "error: gone\n  --> x/hostel.toml");
    }

    #[test]
    fn places_at_every_edge() {
        for (text, span, line, column) in [
            ("", 0..0, 1, 1),
            ("a", 1..1, 1, 2),
            ("a\n", 2..2, 2, 1),
            ("a\nb", 2..3, 2, 1),
            ("a\r\nb", 3..4, 2, 1),
            ("\u{feff}a", 3..4, 1, 1),
            ("ü", 1..2, 1, 1),
            ("a", 9..12, 1, 2),
            ("a\nb\nc", 0..5, 1, 1),
        ] {
            let error = one(text, span.clone());
            assert_eq!(
                (error.line, error.column),
                (Some(line), Some(column)),
                "{text:?} {span:?}"
            );
        }
        let several_lines = one("ab = [\n1]", 5..9);
        assert!(
            several_lines.to_string().contains("\n  |      ^\n"),
            "{several_lines}"
        );
    }

    #[test]
    fn nothing_steers_the_terminal_or_fills_it() {
        let text = format!("a = 1 # \u{1b}[31m\u{202e}{}", "x".repeat(100_000));
        let mut report = Report::new(Path::new("a\u{1b}.toml"), &text);
        report.at(
            Kind::Syntax,
            0..1,
            format!("\u{1b}[2J\n{}", "y".repeat(100_000)),
            "\u{7}",
        );
        report.at(Kind::Syntax, 50_000..90_000, "far out", "");
        let shown = report.into_errors().to_string();
        assert!(
            shown
                .chars()
                .all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')),
            "{shown:?}"
        );
        assert!(
            shown.lines().all(|line| line.chars().count() < 520),
            "{shown}"
        );
        assert!(
            shown
                .lines()
                .filter(|line| line.contains('^'))
                .all(|line| line.chars().count() < 140),
            "{shown}"
        );
    }

    #[test]
    fn errors_come_in_the_order_of_the_file_and_end_somewhere() {
        let text = "x\n".repeat(500);
        let mut report = Report::new(Path::new("hostel.toml"), &text);
        for at in (0..500).rev() {
            report.at(Kind::UnknownKey, at * 2..at * 2 + 1, "wrong", "");
        }
        let errors = report.into_errors().0;
        let lines: Vec<usize> = errors.iter().filter_map(|error| error.line).collect();
        assert_eq!(
            lines,
            (1..=limits::MANIFEST_ERRORS_MAX.size()).collect::<Vec<_>>()
        );
        assert_eq!(
            errors.last().map(|error| error.what.as_str()),
            Some("400 more errors are not shown")
        );
    }

    #[test]
    fn json_names_the_fields() {
        let json = serde_json::to_value(ManifestErrors::from(one("a = 1", 0..1))).expect("JSON");
        let expected = serde_json::json!([{
            "kind": "syntax", "file": "hostel.toml", "line": 1, "column": 1, "what": "wrong", "help": "mend it",
        }]);
        assert_eq!(json, expected);
    }
}
