//! `hostel run FILE [ARGS…]`: one command guest with the terminal's standard streams and exit code.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use hostel_app::{Resolved, ServerConfig, resolve_command};
use hostel_host::{Guest, LogSink, Role};

use crate::args::{ConfigFlag, DataFlags, GuestFlags, VariableFlags};
use crate::failure::{Failure, Kind};
use crate::output::Meanwhile;
use crate::runtime;

/// The flags of `hostel run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    variables: VariableFlags,
    #[command(flatten)]
    guest: GuestFlags,
    #[command(flatten)]
    data: DataFlags,
    /// A .wasm or .wat file, and the arguments of the program in it; flags after FILE are the program's.
    // One argument for both: only so does everything behind FILE belong to the program, flags of our own included.
    #[arg(required = true, trailing_var_arg = true, value_names = ["FILE", "ARGS"])]
    command: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let Some(file) = args.command.first() else {
        return Err(Failure::new(
            Kind::Component,
            "no file is named",
            "name a .wasm or .wat file",
        ));
    };
    let path = Path::new(file);
    let words = words(&args.command)?;
    let config = args.config.read(&args.variables)?;
    let operator = args.guest.operator(&args.variables, &config);
    let resolved = resolve_command(path, &operator)?;
    let meanwhile = Meanwhile::default();
    let guest = load(&args.data, &config, &resolved, &meanwhile);
    meanwhile.tell_people();
    let guest = guest.map_err(|failure| failure.in_file(path))?;
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                Kind::Host,
                format!("no event loop: {error}"),
                "check `ulimit -n` and `ulimit -u`",
            )
        })?;
    let outcome = executor.block_on(Box::pin(guest.run(&words)));
    // A thread may still sit in a read of standard input that nobody will answer.
    executor.shutdown_background();
    Ok(ExitCode::from(outcome?))
}

/// A guest's arguments are strings; so is its name, which is the first of them: where the file lies on this machine is
/// not the guest's business.
fn words(command: &[OsString]) -> Result<Vec<String>, Failure> {
    let word = |word: &OsString| {
        word.to_str().map(str::to_owned).ok_or_else(|| {
            let what =
                format!("the argument {word:?} is not UTF-8, and a guest's arguments have to be");
            Failure::new(
                Kind::Component,
                what,
                "pass it in another way, for example in a file",
            )
        })
    };
    let mut words = command
        .iter()
        .map(word)
        .collect::<Result<Vec<String>, Failure>>()?;
    if let Some(program) = words.first_mut()
        && let Some(name) = Path::new(program.as_str())
            .file_name()
            .and_then(|name| name.to_str())
    {
        *program = name.to_owned();
    }
    Ok(words)
}

fn load(
    data: &DataFlags,
    config: &Arc<ServerConfig>,
    resolved: &Resolved,
    meanwhile: &Meanwhile,
) -> Result<Guest, Failure> {
    let runtime = runtime::start(data, config, &LogSink::null(), meanwhile)?;
    let (Some(component), Some(code)) = (resolved.app.components.first(), resolved.code.first())
    else {
        return Err(Failure::new(
            Kind::Component,
            "the file holds no program",
            "name a .wasm or .wat file",
        ));
    };
    let scope = runtime.app(&resolved.app.name);
    Ok(scope.load(component, code, Role::Run, &|event| meanwhile.show(event))?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::{Cli, Command};

    fn command(words: &[&str]) -> Vec<String> {
        let cli =
            Cli::try_parse_from(["hostel", "run"].iter().chain(words)).expect("a command line");
        let Command::Run(args) = cli.command else {
            panic!("not `run`")
        };
        super::words(&args.command).expect("UTF-8")
    }

    #[test]
    fn what_follows_the_file_is_the_program_s() {
        assert_eq!(command(&["--env", "A=b", "x.wasm"]), ["x.wasm"]);
        for tail in [
            &["--env", "A=b"][..],
            &["--help"],
            &["-V"],
            &["--", "-x"],
            &["a", "--no-cache", "b"],
            &["-"],
        ] {
            let line: Vec<&str> = ["--no-cache", "x.wasm"]
                .iter()
                .chain(tail)
                .copied()
                .collect();
            assert_eq!(command(&line)[0], "x.wasm");
            assert_eq!(command(&line)[1..], *tail);
        }
        assert_eq!(
            command(&["--", "--odd-name.wasm", "a"]),
            ["--odd-name.wasm", "a"]
        );
    }

    #[test]
    fn a_misspelt_flag_in_front_of_the_file_is_a_usage_error() {
        for line in [&["--evn", "A=b", "x.wasm"][..], &["--env", "A"], &[]] {
            let error =
                Cli::try_parse_from(["hostel", "run"].iter().chain(line)).expect_err("usage");
            assert_eq!(error.exit_code(), 2, "{line:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn arguments_that_are_not_text_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let failure =
            super::words(&[std::ffi::OsString::from_vec(vec![0xff])]).expect_err("not UTF-8");
        assert!(failure.problems[0].what.contains("is not UTF-8"));
    }
}
