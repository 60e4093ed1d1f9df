//! `hostel inspect FILE`: what a binary is, what it would need, and whether this host can serve it. Nothing is compiled.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hostel_app::{Digest, limits};
use hostel_host::Abi;
use hostel_host::detect::{self, Detected};
use hostel_host::imports::{self, GrantNeed};
use serde::Serialize;

use crate::args::FormatFlag;
use crate::failure::{Failure, Kind, unreadable};
use crate::output;

/// The flags of `hostel inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .wasm or .wat file.
    file: PathBuf,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// The result in JSON.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    bytes: usize,
    digest: String,
    /// `component` or `module`.
    form: String,
    abis: Vec<&'static str>,
    /// Whether this host can call it by at least one of `abis`.
    served: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'static str>,
    producers: Vec<String>,
    imports: Vec<String>,
    exports: Vec<String>,
    grants: Vec<Grant>,
}

/// Why it cannot be served, and the way out.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Refusal {
    what: String,
    help: String,
}

/// A grant that it would make use of.
#[derive(Debug, Serialize)]
struct Grant {
    grant: &'static str,
    import: String,
    table: String,
    manifest: &'static str,
    flag: &'static str,
}

impl From<GrantNeed> for Grant {
    fn from(need: GrantNeed) -> Self {
        let table = if need.table.is_empty() {
            "component.NAME".into()
        } else {
            format!("component.NAME.{}", need.table)
        };
        Self {
            grant: need.grant,
            import: need.import,
            table,
            manifest: need.manifest,
            flag: need.flag,
        }
    }
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let bytes = read(&args.file)?;
    let named = |failure: Failure| failure.in_file(&args.file);
    let binary = detect::to_binary(&bytes).map_err(|error| named(error.into()))?;
    let detected = detect::detect(&binary).map_err(|error| named(error.into()))?;
    let report = report(&args.file, &bytes, detected);
    output::data(args.format.format, &report, || in_words(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads no more than a component may have, whatever the path leads to: a device has no size and no end.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes_max = limits::COMPONENT_BYTES_MAX.size();
    let mut bytes = Vec::new();
    let at_most = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(at_most).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() > bytes_max {
        let what =
            format!("the file has more than the {bytes_max} bytes that a component may have");
        return Err(
            Failure::new(Kind::Component, what, "strip debug information from it").in_file(path),
        );
    }
    Ok(bytes)
}

fn report(path: &Path, bytes: &[u8], detected: Detected) -> Report {
    let refusal = refusal(&detected);
    let mut abis = detected.abis.clone();
    if detected.http_abi() == Some(Abi::Cgi) {
        abis.push(Abi::Cgi);
    }
    Report {
        file: path.display().to_string(),
        bytes: bytes.len(),
        digest: Digest::of(bytes).to_string(),
        form: detected.form.to_string(),
        abis: abis.into_iter().map(Abi::name).collect(),
        served: refusal.is_none(),
        refusal,
        system: detected.system,
        grants: imports::grants_needed(&detected)
            .into_iter()
            .map(Grant::from)
            .collect(),
        producers: detected.producers,
        imports: detected.imports,
        exports: detected.exports,
    }
}

/// `None` if one of its ABIs can be served; else what stands in the way of the first.
fn refusal(detected: &Detected) -> Option<Refusal> {
    let mut missing = Vec::new();
    for abi in &detected.abis {
        match imports::check(detected, *abi) {
            Ok(()) => return None,
            Err(error) => missing.push(error),
        }
    }
    Some(match missing.into_iter().next() {
        Some(error) => Refusal {
            what: error.what,
            help: error.help,
        },
        None => {
            let error = detected.refusal();
            Refusal {
                what: error.what,
                help: error.help,
            }
        }
    })
}

fn in_words(report: &Report) -> String {
    let mut text = format!("{}\n", report.file);
    let mut line = |name: &str, value: &str| {
        let _infallible = writeln!(text, "  {name:<9} {value}");
    };
    line(
        "what",
        &format!("{}, {}", report.form, output::size(report.bytes)),
    );
    line("digest", &report.digest);
    for abi in &report.abis {
        line("ABI", &format!("{abi} ({})", command(abi, &report.file)));
    }
    if !report.producers.is_empty() {
        line("made with", &report.producers.join(", "));
    }
    match &report.refusal {
        None => line("served", "yes"),
        Some(refusal) => {
            line("served", &format!("no: {}", refusal.what));
            line("", &format!("help: {}", refusal.help));
        }
    }
    list(&mut line, "imports", &report.imports);
    list(&mut line, "exports", &report.exports);
    let grants: Vec<String> = report.grants.iter().map(grant_in_words).collect();
    list(&mut line, "would use", &grants);
    text
}

fn list(line: &mut impl FnMut(&str, &str), name: &str, values: &[String]) {
    if values.is_empty() {
        line(name, "none");
    }
    for (index, value) in values.iter().enumerate() {
        line(if index == 0 { name } else { "" }, value);
    }
}

fn grant_in_words(grant: &Grant) -> String {
    format!(
        "{:<6} [{}] {}   or   {}",
        grant.grant, grant.table, grant.manifest, grant.flag
    )
}

fn command(abi: &str, file: &str) -> String {
    let known = Abi::ALL.iter().find(|known| known.name() == abi);
    match known {
        None if abi == Abi::Cgi.name() => {
            format!("`hostel up {file}`: what it prints answers requests, as CGI has it")
        }
        Some(abi) if abi.is_http() => format!("`hostel up {file}`"),
        Some(abi) if abi.is_message() => "[[message]] in a manifest".to_owned(),
        _ => format!("`hostel run {file}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspected(exports: &[&str], imports: &[&str], abis: &[Abi]) -> Report {
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let needs = imports.iter().map(|name| detect::Need {
            name: (*name).to_owned(),
            items: owned(&["f"]),
        });
        let detected = Detected {
            abis: abis.to_vec(),
            abi: abis.first().copied(),
            imports: owned(imports),
            needs: needs.collect(),
            exports: owned(exports),
            ..Detected::default()
        };
        report(Path::new("a.wasm"), b"bytes", detected)
    }

    #[test]
    fn one_abi_that_works_is_enough() {
        let both = [Abi::HttpP2, Abi::CommandP3];
        let report = inspected(&[], &["wasi:cli/stdin@0.3.0"], &both);
        assert!(report.served, "the command half has WASI 0.3");
        let report = inspected(&[], &["wasi:cli/stdin@0.3.0"], &both[..1]);
        assert!(
            !report.served
                && report
                    .refusal
                    .expect("why")
                    .what
                    .contains("wasi:cli/stdin@0.3.0")
        );
        let report = inspected(&["f"], &[], &[]);
        assert!(report.refusal.expect("why").what.contains("no `_start`"));
    }

    #[test]
    fn the_text_says_how_to_run_it_and_what_to_grant() {
        let report = inspected(
            &["e"],
            &["wasi:http/outgoing-handler@0.2.3"],
            &[Abi::HttpP2],
        );
        let text = in_words(&report);
        for part in [
            "a.wasm\n  what      module, 5 B\n",
            "  ABI       http-p2 (`hostel up a.wasm`)\n",
            "  served    yes\n",
            "  imports   wasi:http/outgoing-handler@0.2.3\n",
            "  exports   e\n",
            "  would use http   [component.NAME.grants] http = [\"https://api.example.com\"]   or   --grant http=",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        let report = inspected(&[], &[], &[Abi::CommandP1]);
        assert!(in_words(&report).contains("command-p1 (`hostel run a.wasm`)"));
        assert!(in_words(&report).contains("cgi (`hostel up a.wasm`: "));
        assert!(in_words(&report).contains("  imports   none\n"));
    }
}
