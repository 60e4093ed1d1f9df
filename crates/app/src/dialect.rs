//! Which host's language a manifest is written in, by what it holds and not by its name. Each dialect becomes the same
//! [`Manifest`] as a `hostel.toml`, and from there on nothing knows of it.
//!
//! Their files were written for hosts that are gone, so what those ignored is ignored, and said in a note; what they accepted is
//! accepted, or refused with a way out.

mod serverless_wasm;
mod wagi;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::error::{Kind, Report, shown};
use crate::fields::{At, Fields};
use crate::limits;
use crate::manifest::{self, ComponentText, Manifest, SourceText, syntax};
use crate::nearest::nearest;
use crate::read;

/// A language of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Hostel,
    ServerlessWasm,
    Wagi,
}

/// What a manifest may hold at the top, for each dialect that only it has.
const MARKS: [(Dialect, &[&str]); 3] = [
    (Dialect::Hostel, &manifest::KEYS),
    (Dialect::ServerlessWasm, &serverless_wasm::KEYS),
    (Dialect::Wagi, &wagi::KEYS),
];

/// The same in words.
const NEEDS: &str = "a hostel.toml has [app]; a config.toml of serverless-wasm has listen_address and [[applications]]; a \
                     modules.toml of WAGI has [[module]]";

/// Reads the manifest whose text the report has. `None` after errors that leave nothing to look at further.
pub(crate) fn parse(report: &mut Report<'_>, file: &Path) -> Option<Manifest> {
    let (document, errors) = DeTable::parse_recoverable(report.text());
    if !errors.is_empty() {
        syntax::report_all(report, errors);
        return None;
    }
    let document = document.get_ref();
    match marked(document).as_slice() {
        [Dialect::Hostel] => Some(manifest::read(report, document)),
        [Dialect::ServerlessWasm] => Some(serverless_wasm::read(report, document, file)),
        [Dialect::Wagi] => Some(wagi::read(report, document, file)),
        [] if file
            .file_name()
            .is_some_and(|name| name == read::MANIFESTS[0]) =>
        {
            Some(manifest::read(report, document))
        }
        [] if ["bindle", "bindleVersion", "parcel"]
            .iter()
            .any(|key| document.contains_key(*key)) =>
        {
            let what = "this is the invoice of a bindle, and bindles are not supported";
            let help = "fetch its modules and write a modules.toml with a [[module]] for each";
            report.whole(Kind::NotSupportedYet, what, help);
            None
        }
        [] => {
            report.whole(
                Kind::NotAManifest,
                "this is no manifest of a kind that is known",
                NEEDS,
            );
            None
        }
        [_, ..] => {
            let what = "this holds sections of manifests of different hosts";
            report.whole(Kind::NotAManifest, what, NEEDS);
            None
        }
    }
}

/// Whether a text is a manifest of another host, as far as it can be told.
pub(crate) fn is_foreign(text: &str) -> bool {
    let (document, _) = DeTable::parse_recoverable(text);
    marked(document.get_ref())
        .iter()
        .any(|dialect| *dialect != Dialect::Hostel)
}

/// The dialects of which there are marks. `[app]` leaves no doubt.
fn marked(document: &DeTable<'_>) -> Vec<Dialect> {
    if document.contains_key("app") {
        return vec![Dialect::Hostel];
    }
    let is_marked = |keys: &[&str]| keys.iter().any(|key| document.contains_key(*key));
    let marked = MARKS.iter().filter(|(_, keys)| is_marked(keys));
    marked.map(|(dialect, _)| *dialect).collect()
}

/// What the files of other hosts have in common.
struct Foreign<'r, 't, 'f> {
    report: &'r mut Report<'t>,
    file: &'f Path,
    /// The host's name.
    host: &'static str,
    components: BTreeMap<String, ComponentText>,
    /// Each with its line.
    notes: Vec<(usize, String)>,
}

impl<'r, 't, 'f> Foreign<'r, 't, 'f> {
    fn new(report: &'r mut Report<'t>, file: &'f Path, host: &'static str) -> Self {
        Self {
            report,
            file,
            host,
            components: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Something that is worth a line. Of a file that is full of it the first lines are enough.
    fn note(&mut self, at: &Range<usize>, what: &str) {
        if self.notes.len() < limits::MANIFEST_ERRORS_MAX.size() {
            let line = self.report.line(at.start);
            let file = shown(self.file);
            self.notes.push((line, format!("{file}:{line}: {what}")));
        }
    }

    /// Notes every key that is not among these.
    fn ignore_others(&mut self, fields: &Fields<'_, '_>, known: &[&str]) {
        for (key, _) in fields.entries() {
            if known.contains(&key.value.as_str()) {
                continue;
            }
            let near = nearest(&key.value, known.iter().copied());
            let near = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            self.note(
                &key.span,
                &format!("the key \"{}\" is ignored{near}", key.value),
            );
        }
    }

    /// A string that must be there.
    fn required(
        &mut self,
        fields: &Fields<'_, '_>,
        key: &str,
        example: &str,
    ) -> Option<At<String>> {
        fields.required(self.report, key, example)?;
        let text = fields.string(self.report, key)?;
        if text.value.is_empty() {
            let what = format!("\"{key}\" is empty");
            let help = format!("write {key} = {example}");
            self.report.at(Kind::BadValue, text.span, what, help);
            return None;
        }
        Some(text)
    }

    /// A path as the manifest means it.
    fn place(&mut self, written: &Path, at: &Range<usize>) -> PathBuf {
        let (path, elsewhere) = read::named_elsewhere(manifest::folder(self.file), written);
        if elsewhere {
            let what = format!(
                "\"{}\" is not beside this file; it is taken from the working directory, where {} looked",
                written.display(),
                self.host
            );
            self.note(at, &what);
        }
        path
    }

    /// One more component, for the file at `path`: named after it, completed by `make`.
    fn component(&mut self, path: At<PathBuf>, make: impl FnOnce(&mut ComponentText)) -> String {
        let stem = path.value.file_stem().unwrap_or_default();
        let stem = manifest::name_of(&stem.to_string_lossy());
        if self.components.len() > limits::COMPONENTS_MAX.size() {
            return stem; // There are too many, which is reported at the end.
        }
        let mut name = stem.clone();
        let mut number = 1;
        while self.components.contains_key(&name) {
            number += 1;
            let end = format!("-{number}");
            name = stem.chars().take(64 - end.len()).collect::<String>() + &end;
        }
        let mut component = ComponentText {
            source: Some(At::new(SourceText::Path(path.value), path.span)),
            ..ComponentText::new(&name)
        };
        make(&mut component);
        self.components.insert(name.clone(), component);
        name
    }

    /// The manifest with what was collected, and a name.
    fn manifest(mut self, rest: Manifest) -> Manifest {
        self.notes.sort_by_key(|(line, _)| *line);
        let most = limits::COMPONENTS_MAX.size();
        if self.components.len() > most {
            let what = format!("more than {most} modules, and an app has at most so many");
            let help = "split it into several files";
            self.report.whole(Kind::TooMany, &what, help);
        }
        Manifest {
            name: app_name(self.file),
            components: self.components.into_values().collect(),
            notes: self.notes.into_iter().map(|(_, note)| note).collect(),
            ..rest
        }
    }
}

/// The name of an app whose file has none: the file's, unless every such file is called like that; then the folder's.
fn app_name(file: &Path) -> String {
    let is_usual = file
        .file_name()
        .is_some_and(|name| read::MANIFESTS.iter().any(|usual| name == *usual));
    let folder = is_usual.then(|| read::folder_name(file)).flatten();
    let stem = || {
        file.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    manifest::name_of(&folder.unwrap_or_else(stem))
}
