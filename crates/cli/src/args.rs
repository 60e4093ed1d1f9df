//! The command line: the commands, and the flags that several of them share.
//!
//! Values are parsed into the types of `hostel_app` here, so that a misspelt grant is a usage error (exit code 2) with
//! the same text as in a manifest. What a flag means is decided where it is used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hostel_app::grant::{FileGrant, GrantArg, GrantError};
use hostel_app::{ListenOn, Operator, ServerConfig, limits};

use crate::env_file::EnvFile;
use crate::failure::Failure;
use crate::{build, call, check, compile_guest, completions, compose, inspect, run, up};

/// Runs server-side WebAssembly.
#[derive(Debug, Parser)]
#[command(
    name = "hostel",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve an app, or a single component, in the foreground.
    Up(up::Args),
    /// Run a command guest with this terminal's standard streams; its exit code is Hostel's.
    Run(run::Args),
    /// Call one export of a component, on a fresh instance, and print what it returns.
    Call(Box<call::Args>),
    /// Say what a .wasm or .wat file is, what it imports and which grants it would use.
    Inspect(inspect::Args),
    /// Validate a manifest and compile and link every component, without running any.
    Check(check::Args),
    /// Run the build commands of a manifest.
    Build(build::Args),
    /// Write one component of an app, with those that its imports are bound to composed into it.
    Compose(compose::Args),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Compile a guest as the other commands tell it to.
    #[command(name = compile_guest::COMMAND, hide = true)]
    CompileGuest(compile_guest::Args),
}

impl Command {
    /// How the command's errors are printed.
    pub(crate) fn format(&self) -> Format {
        match self {
            Command::Call(args) => args.format.format,
            Command::Inspect(args) => args.format.format,
            Command::Check(args) => args.format.format,
            Command::Build(args) => args.format.format,
            Command::Compose(args) => args.format.format,
            Command::Up(_)
            | Command::Run(_)
            | Command::Completions(_)
            | Command::CompileGuest(_) => Format::Human,
        }
    }
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    #[default]
    Human,
    /// One JSON object on one line.
    Json,
}

/// `--format`, for the commands that print data.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FormatFlag {
    /// How data and errors are printed.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// What the operator adds to every component.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GuestFlags {
    /// Set an environment variable of the guest; repeatable.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Set the environment variables of a file with a line NAME=VALUE for each; `--env` beats it; repeatable.
    #[arg(long = "env-file", value_name = "FILE", value_parser = env_file)]
    env_files: Vec<EnvFile>,
    /// Let the guest use a host directory under a name of its own; `:ro` at the end makes it read-only; repeatable.
    #[arg(long = "dir", value_name = "HOST::GUEST", value_parser = directory)]
    dirs: Vec<FileGrant>,
    /// Grant something to the guest: http=URL, tcp=ADDRESS:PORT, udp=…, listen=… (`*` matches anything), keyvalue=LABEL,
    /// blobstore=…, sql=…, messaging=…, publish=TOPICS, request=TOPICS, subscribe=TOPICS,
    /// secrets=NAME; repeatable.
    #[arg(long = "grant", value_name = "KIND=VALUE", value_parser = grant)]
    grants: Vec<GrantArg>,
    /// Set a limit of the guest, such as memory=64MiB or deadline=5s; repeatable.
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = pair)]
    limits: Vec<(String, String)>,
    /// Allow a manifest no more of a limit than this, and lower its default to it; repeatable.
    #[arg(long = "ceiling", value_name = "NAME=VALUE", value_parser = pair)]
    ceilings: Vec<(String, String)>,
}

/// `--var`, for the commands that read a manifest.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct VariableFlags {
    /// Give a variable of the manifest its value; repeatable.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    vars: Vec<(String, String)>,
}

/// `--config`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigFlag {
    /// The operator's file, server.toml: where stores are kept, values of variables, what the network allows.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl ConfigFlag {
    /// What the operator decided: the file's word, and the command line's over it.
    pub(crate) fn read(&self, variables: &VariableFlags) -> Result<Arc<ServerConfig>, Failure> {
        let file = self.config.as_deref().map(ServerConfig::read);
        let mut config = file.transpose()?.unwrap_or_default();
        config.give(&variables.all());
        Ok(Arc::new(config))
    }
}

impl VariableFlags {
    fn all(&self) -> BTreeMap<String, String> {
        self.vars.iter().cloned().collect()
    }
}

impl GuestFlags {
    /// What `hostel_app` adds to the manifest.
    pub(crate) fn operator(
        &self,
        variables: &VariableFlags,
        server: &Arc<ServerConfig>,
    ) -> Operator {
        let env = self.env_files.iter().flat_map(|file| file.variables());
        Operator {
            env: env.chain(&self.env).cloned().collect(),
            dirs: self.dirs.clone(),
            grants: self.grants.clone(),
            vars: variables.all(),
            limits: self.limits.clone(),
            ceilings: self.ceilings.clone(),
            server: server.clone(),
        }
    }
}

/// Where Hostel keeps compiled code, and what guests store.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DataFlags {
    /// Folder for compiled code with the secret that protects it, and for what guests store [default:
    /// $XDG_DATA_HOME/hostel, else ~/.local/share/hostel]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Compile at every start and keep no compiled code.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Memory of all guests together, such as 2GiB [default: 4GiB, but no more than half of the machine's].
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub(crate) memory: Option<u64>,
    /// Run guests without any budget, to measure what budgets cost; a guest can then stop everything.
    #[arg(long, hide = true)]
    pub(crate) unmetered: bool,
}

/// `NAME=VALUE`; the value may be empty and may hold further equals signs.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn memory(text: &str) -> Result<u64, String> {
    let value = limits::MEMORY_TOTAL.value(text);
    value.map_err(|error| format!("{error}\n  help: {}", error.help()))
}

fn env_file(text: &str) -> Result<EnvFile, String> {
    EnvFile::read(Path::new(text))
}

fn grant(text: &str) -> Result<GrantArg, String> {
    text.parse().map_err(|error: GrantError| with_help(&error))
}

fn directory(text: &str) -> Result<FileGrant, String> {
    text.parse().map_err(|error: GrantError| with_help(&error))
}

fn with_help(error: &GrantError) -> String {
    format!("{}\n  help: {}", error.what, error.help)
}

/// `ADDRESS:PORT` or `fd:NAME`.
pub(crate) fn listen(text: &str) -> Result<ListenOn, String> {
    hostel_server::listen::parse(text).map_err(|error| error.to_string())
}

/// `ADDRESS:PORT`.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    hostel_server::listen::parse_address(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pairs_need_a_name() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("A="), Ok(("A".to_owned(), String::new())));
        for text in ["A", "=b", ""] {
            assert!(pair(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_memory_of_all_guests_is_a_size_within_its_bounds() {
        assert_eq!(memory("1GiB"), Ok(1 << 30));
        for text in ["1", "much", "1KiB"] {
            let error = memory(text).expect_err(text);
            assert!(error.contains("help: "), "{text}: {error}");
        }
    }

    #[test]
    fn a_listener_is_an_address() {
        assert_eq!(listen("localhost:3000"), listen("127.0.0.1:3000"));
        let error = listen("example.com:80").expect_err("a name");
        assert!(
            error.contains("not an address") && error.contains("help: "),
            "{error}"
        );
        assert_eq!(listen("fd:web"), Ok(ListenOn::Inherited("web".into())));
        assert!(address("fd:web").is_err(), "metrics have an address");
    }

    #[test]
    fn a_bad_grant_is_a_usage_error_with_a_way_out() {
        let error = Cli::try_parse_from(["hostel", "up", "--grant", "htpp=https://a.example"])
            .expect_err("a slip");
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("did you mean \"http\"?"),
            "{error}"
        );
        let error = Cli::try_parse_from(["hostel", "up", "--dir", "/nowhere-at-all::/x"])
            .expect_err("no directory");
        assert!(
            error.to_string().contains("create it, or correct the path"),
            "{error}"
        );
    }
}
