//! `hostel call APP.COMPONENT.EXPORT [ARGS…]`: calls one export of a component, on a fresh instance, and prints what it returns.
//!
//! The instance has the component's grants, limits and configuration. What it logs goes to standard error, what the export
//! returns to standard output. The exit code is 0 where it returned, 1 where it returned the error of a `result`, 2 where it
//! cannot be called like this, and that of the fault where it failed.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hostel_app::{Component, Resolved, nearest, resolve};
use hostel_host::{AppScope, Argument, Arguments, ExportInfo, Guest, LogSink, RequestId, Role};
use serde::{Deserialize, Serialize};

use crate::args::{ConfigFlag, DataFlags, Format, FormatFlag, GuestFlags, VariableFlags};
use crate::failure::{Failure, Kind};
use crate::output::{self, Meanwhile};
use crate::runtime;

/// The flags of `hostel call`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app: its folder or manifest.
    #[arg(long, value_name = "PATH", default_value = ".")]
    app: PathBuf,
    /// Show every export with its types instead of calling one: of all components, or of what is named.
    #[arg(long)]
    list: bool,
    /// Call in the process that serves the app, where its stores and its broker are those of the others, also in memory.
    #[arg(long, conflicts_with_all = ["list", "app", "env", "dirs", "grants", "limits", "ceilings"])]
    running: bool,
    /// The arguments are JSON values, not WAVE.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) format: FormatFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    variables: VariableFlags,
    #[command(flatten)]
    guest: GuestFlags,
    #[command(flatten)]
    data: DataFlags,
    /// APP.COMPONENT.EXPORT, or a .wasm or .wat file and the EXPORT; then one argument for each parameter, in WAVE: 7, "text",
    /// [1, 2], {name: "x"}. A text without quotes is a string where one is wanted. Flags come before.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_names = ["EXPORT", "ARGS"])]
    command: Vec<String>,
}

/// What is to be called: where the app is, and names in it.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    path: &'a Path,
    app: Option<&'a str>,
    component: Option<&'a str>,
    export: Option<&'a str>,
    arguments: &'a [String],
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let target = target(args)?;
    if args.running {
        return call_running(args, &target);
    }
    let config = args.config.read(&args.variables)?;
    let operator = args.guest.operator(&args.variables, &config);
    let resolved = resolve(target.path, &operator)?;
    let components = components(&resolved, &target)?;
    let log = LogSink::tagged_apart();
    let meanwhile = Meanwhile::default();
    let runtime = runtime::start(&args.data, &config, &log, &meanwhile)?;
    let scope = runtime.app(&resolved.app.name);
    let progress = |event| meanwhile.show(event);
    let callees = hostel_server::load_callees(&scope, &resolved, &progress);
    let _callees = callees.map_err(|error| Failure::from(error).in_app(&resolved.app))?;
    let load = |(component, code): (&Component, &[u8])| {
        let guest = scope.load(component, code, Role::Call, &|event| meanwhile.show(event));
        guest.map_err(|error| Failure::from(error).in_app(&resolved.app))
    };
    let guests: Result<Vec<Guest>, Failure> = components.into_iter().map(load).collect();
    let _neighbours = match args.list {
        true => Vec::new(),
        false => neighbours(&resolved, &scope, &meanwhile)?,
    };
    meanwhile.tell_people();
    let guests = guests?;
    let outcome = match (args.list, guests.as_slice(), target.export) {
        (true, guests, _) => list(args, &resolved.app.name, guests),
        (false, [guest], Some(export)) => call(args, guest, export, target.arguments),
        _ => Err(incomplete()),
    };
    log.flush();
    outcome
}

fn incomplete() -> Failure {
    Failure::usage(
        "what is to be called is not named",
        "write `hostel call APP.COMPONENT.EXPORT ARGS…` or `hostel call FILE.wasm EXPORT ARGS…`; `hostel call --list` shows \
         what there is",
    )
}

/// A first word that ends in `.wasm` or `.wat` is a file; anything else is `APP.COMPONENT.EXPORT`.
fn target(args: &Args) -> Result<Target<'_>, Failure> {
    let words = args.command.as_slice();
    let target = match words {
        [file, rest @ ..] if [".wasm", ".wat"].iter().any(|end| file.ends_with(end)) => Target {
            path: Path::new(file),
            app: None,
            component: None,
            export: rest.first().map(String::as_str),
            arguments: rest.get(1..).unwrap_or_default(),
        },
        _ => {
            let name = words.first().map_or("", String::as_str);
            let mut parts = name.splitn(3, '.').filter(|part| !part.is_empty());
            Target {
                path: &args.app,
                app: parts.next(),
                component: parts.next(),
                export: parts.next(),
                arguments: words.get(1..).unwrap_or_default(),
            }
        }
    };
    match target.export {
        None if !args.list => Err(incomplete()),
        _ => Ok(target),
    }
}

/// Those that the others may call over HTTP, ready for that.
fn neighbours(
    resolved: &Resolved,
    scope: &AppScope,
    meanwhile: &Meanwhile,
) -> Result<Vec<Guest>, Failure> {
    let all = resolved.app.components.iter().zip(&resolved.code);
    let called = all
        .enumerate()
        .filter(|(index, _)| resolved.app.is_neighbour(*index));
    let load = |(_, (component, code)): (usize, (&Component, &Vec<u8>))| {
        let guest = scope.load(component, code, Role::Serve, &|event| meanwhile.show(event));
        guest.map_err(|error| Failure::from(error).in_app(&resolved.app))
    };
    called.map(load).collect()
}

/// The components that are named, with their code.
fn components<'a>(
    resolved: &'a Resolved,
    target: &Target<'_>,
) -> Result<Vec<(&'a Component, &'a [u8])>, Failure> {
    let app = resolved.app.name.as_str();
    if let Some(named) = target.app.filter(|named| *named != app) {
        return Err(Failure::usage(
            format!("the app is `{app}`, not `{named}`"),
            format!("write `{app}.COMPONENT.EXPORT`, or name another app with `--app PATH`"),
        ));
    }
    let all = resolved.app.components.iter();
    let all = all.zip(resolved.code.iter().map(Vec::as_slice));
    let Some(name) = target.component else {
        return Ok(all.collect());
    };
    let named: Vec<_> = all
        .filter(|(component, _)| component.name == name)
        .collect();
    if named.is_empty() {
        let names = || resolved.app.components.iter().map(|c| c.name.as_str());
        let help = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "its components are: {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        };
        let what = format!("the app `{app}` has no component `{name}`");
        return Err(Failure::usage(what, help));
    }
    Ok(named)
}

/// One export, for programs.
#[derive(Debug, Serialize)]
struct Listed {
    component: String,
    export: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<String>,
    parameters: Vec<Parameter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    #[serde(rename = "async")]
    is_async: bool,
}

#[derive(Debug, Serialize)]
struct Parameter {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "type")]
    ty: String,
}

fn list(args: &Args, app: &str, guests: &[Guest]) -> Result<ExitCode, Failure> {
    let listed = guests.iter().flat_map(|guest| {
        let exports = guest.exports().into_iter();
        exports.map(|export| listed(guest.name(), export))
    });
    let listed: Vec<Listed> = listed.collect();
    output::data(args.format.format, &listed, || {
        let lines = guests.iter().flat_map(|guest| {
            let name = format!("{app}.{}", guest.name());
            let exports = guest.exports().into_iter();
            let exports = exports.map(|export| format!("  {export}\n"));
            std::iter::once(format!("{name}\n")).chain(exports)
        });
        lines.collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn listed(component: &str, export: ExportInfo) -> Listed {
    let parameters = export.parameters.into_iter();
    Listed {
        component: component.to_owned(),
        export: export.name,
        short: export.short,
        parameters: parameters
            .map(|(name, ty)| Parameter { name, ty })
            .collect(),
        result: export.result,
        is_async: export.is_async,
    }
}

fn call(args: &Args, guest: &Guest, export: &str, words: &[String]) -> Result<ExitCode, Failure> {
    let call = guest.prepare(export, &arguments(args, words)?);
    let call = call.map_err(|error| Failure::usage(error.what, error.help))?;
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let what = format!("no event loop: {error}");
            Failure::new(Kind::Host, what, "check `ulimit -n` and `ulimit -u`")
        })?;
    let outcome = executor.block_on(Box::pin(guest.call_prepared(call, RequestId::next())));
    executor.shutdown_background();
    let returned = outcome?;
    let said = Said {
        json: returned.to_json(),
        wave: returned.to_wave(),
        error: returned.error(),
    };
    said.print(args.format.format, export)
}

/// What an export returned.
#[derive(Debug, Deserialize)]
struct Said {
    json: serde_json::Value,
    wave: Option<String>,
    error: Option<String>,
}

impl Said {
    fn print(self, format: Format, export: &str) -> Result<ExitCode, Failure> {
        match (format, self.error) {
            (Format::Human, Some(error)) => {
                let what = format!("`{export}` returned an error: {error}");
                Err(Failure::of(Kind::Fault, vec![what.into()]))
            }
            (format, error) => {
                output::data(format, &self.json, || {
                    self.wave.map_or_else(String::new, |text| text + "\n")
                })?;
                Ok(ExitCode::from(u8::from(error.is_some())))
            }
        }
    }
}

/// What comes back on the control socket.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Returned(Said),
    Refused { what: String, help: String },
    Fault { what: String, exit_code: u8 },
}

/// The same call in the process that serves the app.
fn call_running(args: &Args, target: &Target<'_>) -> Result<ExitCode, Failure> {
    let (Some(app), Some(component), Some(export)) = (target.app, target.component, target.export)
    else {
        return Err(incomplete());
    };
    let arguments = arguments(args, target.arguments)?.into_iter();
    let arguments: Vec<serde_json::Value> = arguments
        .map(|argument| match argument {
            Argument::Json(json) => json,
            Argument::Wave(text) | Argument::Text(text) => text.into(),
            Argument::Bytes(bytes) => bytes.to_vec().into(),
        })
        .collect();
    let kind = if args.json { "json" } else { "wave" };
    let request = serde_json::json!({ "component": component, "export": export, kind: arguments });
    let Some(data) = runtime::folder(&args.data) else {
        let help = "name the folder that the app was started with: `--data DIR`";
        return Err(Failure::new(Kind::Host, "there is no data folder", help));
    };
    let socket = hostel_server::control_socket(&data, app);
    let answer = exchange(&socket, &request).map_err(|error| {
        Failure::new(
            Kind::Host,
            format!("no app `{app}` answers at {}: {error}", socket.display()),
            "start it with `hostel up`, and name the same `--data DIR` here",
        )
    })?;
    match answer {
        Answer::Returned(said) => said.print(args.format.format, export),
        Answer::Refused { what, help } => Err(Failure::usage(what, help)),
        Answer::Fault { what, exit_code } => Err(Failure::fault(what, exit_code)),
    }
}

fn exchange(socket: &Path, request: &serde_json::Value) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    // A request that is too long is answered before it is read to its end.
    let sent = stream.write_all(format!("{request}\n").as_bytes());
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line);
    serde_json::from_str(&line).map_err(|error| match sent.and(read) {
        Ok(_) => error.into(),
        Err(error) => error,
    })
}

fn arguments(args: &Args, words: &[String]) -> Result<Arguments, Failure> {
    let argument = |word: &String| {
        if !args.json {
            return Ok(Argument::Wave(word.clone()));
        }
        serde_json::from_str(word).map(Argument::Json).map_err(|error| {
            Failure::usage(
                format!("the argument `{word}` is not JSON: {error}"),
                "quote strings twice, once for the shell: '\"text\"'; without `--json` an argument is WAVE",
            )
        })
    };
    words.iter().map(argument).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(words: &[&str]) -> Args {
        let cli =
            Cli::try_parse_from(["hostel", "call"].iter().chain(words)).expect("a command line");
        let Command::Call(args) = cli.command else {
            panic!("not `call`")
        };
        *args
    }

    #[test]
    fn a_file_is_told_from_a_name_by_its_ending() {
        let args = parsed(&["x/add.wat", "add", "-1", "--json"]);
        let found = target(&args).expect("a file");
        assert_eq!(
            (found.path, found.export, found.arguments),
            (
                Path::new("x/add.wat"),
                Some("add"),
                ["-1", "--json"].map(String::from).as_slice()
            )
        );
        let args = parsed(&["--app", "dir", "shop.price.shop:p/api@1.0.0#quote", "3"]);
        let found = target(&args).expect("a name");
        assert_eq!(
            (found.path, found.app, found.component, found.export),
            (
                Path::new("dir"),
                Some("shop"),
                Some("price"),
                Some("shop:p/api@1.0.0#quote")
            )
        );
    }

    #[test]
    fn a_name_has_to_be_whole_unless_it_is_listed() {
        for words in [&[][..], &["shop"], &["shop.price"], &["a.wasm"]] {
            assert!(target(&parsed(words)).is_err(), "{words:?}");
            let listing: Vec<&str> = ["--list"].iter().chain(words).copied().collect();
            assert!(target(&parsed(&listing)).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn an_argument_that_is_no_json_is_named() {
        let args = parsed(&["--json", "a.wasm", "f", "text"]);
        let failure = arguments(&args, &["text".to_owned()]).expect_err("no JSON");
        assert!(
            failure.problems[0]
                .what
                .starts_with("the argument `text` is not JSON"),
            "{failure:?}"
        );
    }
}
