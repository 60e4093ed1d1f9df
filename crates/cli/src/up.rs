//! `hostel up [PATH]`: an app in the foreground.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use hostel_app::{App, ListenOn, ServiceTrigger, limits, listens_on, resolve};
use hostel_host::LogSink;
use hostel_server::{
    Bounds, Control, ControlError, Deployed, Inherited, LifeLine, MetricsOptions, Outcome,
    Revision, ServeError, ServeOptions, check_services, deploy, serve,
};

use crate::args::{ConfigFlag, DataFlags, GuestFlags, VariableFlags, address, listen};
use crate::build::{self, Streams};
use crate::failure::{Failure, Kind};
use crate::output::{self, Meanwhile};
use crate::runtime;
use crate::supervise::{self, Supervised};
use crate::watch::{Watched, Watching};

/// The flags of `hostel up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A manifest, the folder that it is in, or a .wasm or .wat file.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Address to listen on, ADDRESS:PORT; port 0 takes any free one; fd:NAME is a socket of the service manager; repeatable
    /// [default: the sockets of the service manager if there are any, else what the manifest says, else 127.0.0.1:3000].
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    listen: Vec<ListenOn>,
    /// Run the manifest's build commands first.
    #[arg(long)]
    build: bool,
    /// Take over every change of the manifest and of the components while the app is served; with --build, also run the
    /// build commands again when a source changes.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    variables: VariableFlags,
    #[command(flatten)]
    guest: GuestFlags,
    /// Pass the guests' output through as it is, without component and request in front of each line.
    #[arg(long)]
    raw_output: bool,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics and a health check at /healthz.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// Threads that serve requests [default: one per core].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Serve in a process of its own and start it again when it dies; clients wait meanwhile.
    #[arg(long)]
    supervise: bool,
    #[command(flatten)]
    data: DataFlags,
    /// What the supervisor says to the process that serves.
    #[arg(long, value_enum, hide = true)]
    supervised: Option<Supervised>,
}

/// Where it listens that was told nothing.
const DEFAULT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 3000);

pub(crate) fn main(args: &Args) -> Result<ExitCode, Failure> {
    if let Some(start) = args.supervised {
        let way = Way::Supervised(start, supervise::life_line()?);
        return serve_here(args, Inherited::default(), way);
    }
    // Before anything else is opened.
    let inherited = Inherited::of_environment()
        .map_err(|error| Failure::saying(Kind::Host, &error.to_string()))?;
    // Building and compiling can take minutes: what would stop the server after them is said before them.
    let declared = listens_on(&args.path);
    hostel_server::listen::check(
        &places(args, &inherited, &[], declared.as_ref()),
        &inherited,
    )
    .map_err(ServeError::from)?;
    args.metrics.map_or(Ok(()), hostel_server::metrics::check)?;
    if args.build {
        // Programs that read the ready line expect it to be the first there.
        build::all(&args.path, build_streams())?;
    }
    if args.supervise {
        let services = services(args, &inherited);
        let listen = places(args, &inherited, &services, declared.as_ref());
        return supervise::main(listen, inherited, args.threads);
    }
    serve_here(args, inherited, Way::Alone)
}

/// How this process serves.
enum Way {
    Alone,
    Supervised(Supervised, LifeLine),
}

/// Where to listen: where the command line says, else on the sockets of the service manager that no service is to have, else
/// where the manifest declares it.
fn places(
    args: &Args,
    inherited: &Inherited,
    services: &[ServiceTrigger],
    declared: Option<&ListenOn>,
) -> Vec<ListenOn> {
    if !args.listen.is_empty() {
        return args.listen.clone();
    }
    let taken = services.iter().flat_map(|service| &service.listen);
    let given = inherited.places_without(taken);
    match given.is_empty() {
        true => {
            let default = || ListenOn::Address(DEFAULT.into());
            vec![declared.cloned().unwrap_or_else(default)]
        }
        false => given,
    }
}

/// The app's services, for a supervisor that has sockets for them. What is wrong with the app its worker says.
fn services(args: &Args, inherited: &Inherited) -> Vec<ServiceTrigger> {
    if inherited.is_empty() {
        return Vec::new();
    }
    let app = args.app();
    app.map_or_else(|_| Vec::new(), |app| app.services)
}

impl Args {
    fn app(&self) -> Result<App, Failure> {
        let config = self.config.read(&self.variables)?;
        let operator = self.guest.operator(&self.variables, &config);
        Ok(resolve(&self.path, &operator)?.app)
    }
}

/// Where the output of build commands goes.
fn build_streams() -> Streams {
    if io::stderr().is_terminal() {
        Streams::Inherit
    } else {
        Streams::Stdout
    }
}

/// The way in for `hostel call --running`; an app is served without it, too.
fn control(
    args: &Args,
    deployed: &Deployed,
    revision: Revision,
    meanwhile: &Meanwhile,
) -> Option<Control> {
    let data = runtime::folder(&args.data)?;
    match Control::open(&data, deployed, revision) {
        Ok(control) => Some(control),
        // It is the other one's.
        Err(ControlError::Taken(_)) => None,
        Err(ControlError::Io(error)) => {
            meanwhile.later(format!(
                "`hostel call --running` cannot reach this app: {error}"
            ));
            None
        }
    }
}

/// Serves in this process.
fn serve_here(args: &Args, inherited: Inherited, way: Way) -> Result<ExitCode, Failure> {
    let config = args.config.read(&args.variables)?;
    let operator = args.guest.operator(&args.variables, &config);
    // First: what changes while the app is loaded is a change.
    let watched = args.watch.then(|| Watched {
        path: &args.path,
        data: args.data.data.as_deref(),
        build: args.build.then(build_streams),
    });
    let watching = watched.map(|watched| Watching::begin(watched, operator.clone()));
    let resolved = resolve(&args.path, &operator)?;
    let app = resolved.app.clone();
    let listen = places(args, &inherited, &app.services, app.listen.as_ref());
    match &way {
        Way::Alone => check_services(&app.services, &listen, Some(&inherited)),
        // Its supervisor has the server's own sockets, and those of the service manager.
        Way::Supervised(Supervised::First, _) => check_services(&app.services, &args.listen, None),
        // And now those of the services.
        Way::Supervised(Supervised::Again, _) => Ok(()),
    }
    .map_err(ServeError::from)?;
    let log = if args.raw_output {
        LogSink::raw()
    } else {
        LogSink::tagged()
    };
    let meanwhile = Meanwhile::default();
    let notes = app.notes.iter().cloned().chain(app.unheard());
    notes.for_each(|line| meanwhile.later(line));
    let runtime = runtime::start(&args.data, &config, &log, &meanwhile)?;
    let revision = Revision::of(&resolved);
    let deployed = deploy(&runtime, resolved, &|event| meanwhile.show(event)).map_err(|error| {
        meanwhile.tell();
        Failure::from(error).in_app(&app)
    })?;
    deployed
        .notes
        .iter()
        .for_each(|line| meanwhile.later(line.clone()));
    let mut options = options(args, &log);
    (options.listen, options.inherited) = (listen, inherited);
    let mut ready_line = "listening";
    if let Way::Supervised(start, line) = way {
        ready_line = start.ready_line();
        options.supervisor = Some(line);
    }
    options.metrics = args.metrics.map(|listen| MetricsOptions {
        listen,
        runtime,
        ready: Box::new(|address| output::status(&format!("metrics at http://{address}/metrics"))),
    });
    let control = control(args, &deployed, revision, &meanwhile);
    let revisions = control.as_ref().map(Control::revisions);
    // Guests that run from the start write before the server is ready; its line is the first all the same.
    let held = log.hold();
    let live = deployed.live.clone();
    let outcome = serve(live, options, |addresses| {
        for address in addresses {
            output::status(&format!("{ready_line} on http://{address}"));
        }
        meanwhile.tell();
        drop(held);
        if let Some(watching) = watching {
            watching.start(deployed, revisions);
        }
    });
    drop(control);
    log.flush();
    end(outcome?, log.lost())
}

fn options(args: &Args, log: &LogSink) -> ServeOptions {
    ServeOptions {
        supervisor: None,
        listen: Vec::new(),
        inherited: Inherited::default(),
        threads: args.threads.map(NonZeroUsize::get),
        drain: limits::DRAIN_MS.duration(),
        bounds: Bounds::default(),
        log: log.clone(),
        draining: Some(Box::new(output::draining)),
        services: Some(Box::new(|name, address| {
            output::status(&format!("service {name} listens on {address}"));
        })),
        metrics: None,
    }
}

/// Requests that were cut off make the exit code 1, so that a supervisor sees it.
fn end(outcome: Outcome, lost_lines: u64) -> Result<ExitCode, Failure> {
    if lost_lines > 0 {
        output::notice(&format!(
            "{lost_lines} lines of guest output were dropped: beyond `log_rate`, or because nobody read them in time"
        ));
    }
    let (calls, why) = match outcome {
        Outcome::Drained | Outcome::Interrupted { calls: 0 } => return Ok(ExitCode::SUCCESS),
        Outcome::DrainTimedOut { calls } => (calls, "they did not finish in time"),
        Outcome::Interrupted { calls } => (calls, "a second signal came"),
    };
    let what = format!("{calls} requests were cut off at the end: {why}");
    Err(Failure::new(
        Kind::Host,
        what,
        "lower the `deadline` limit of the components, so that every request ends in time",
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(words: &[&str]) -> Args {
        let cli =
            Cli::try_parse_from(["hostel", "up"].iter().chain(words)).expect("a command line");
        let Command::Up(args) = cli.command else {
            panic!("not `up`")
        };
        args
    }

    #[test]
    fn the_current_folder_is_served_on_this_machine_only() {
        let args = parsed(&[]);
        assert_eq!(args.path, PathBuf::from("."));
        assert_eq!(
            places(&args, &Inherited::default(), &[], None),
            ["127.0.0.1:3000".parse().expect("an address")]
        );
        let declared: ListenOn = "127.0.0.1:8080".parse().expect("an address");
        let places = |args: &Args| places(args, &Inherited::default(), &[], Some(&declared));
        assert_eq!(places(&args), std::slice::from_ref(&declared));
        let told = parsed(&["--listen", "127.0.0.1:1"]);
        assert_eq!(
            places(&told),
            told.listen,
            "the command line has the last word"
        );
        assert_eq!(options(&args, &LogSink::null()).threads, None);
    }

    #[test]
    fn flags_may_follow_the_path_and_listeners_replace_the_default() {
        let args = parsed(&[
            "app",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
            "--threads",
            "2",
            "--raw-output",
        ]);
        let options = options(&args, &LogSink::null());
        assert_eq!(
            (args.listen.len(), options.threads, args.raw_output),
            (2, Some(2), true)
        );
        assert!(Cli::try_parse_from(["hostel", "up", "--threads", "0"]).is_err());
        assert!(Cli::try_parse_from(["hostel", "up", "--data", "d", "--no-cache"]).is_ok());
    }

    #[test]
    fn a_port_in_use_is_told_before_anything_is_read_or_built() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = holder.local_addr().expect("an address").to_string();
        let failure = main(&parsed(&["nowhere", "--build", "--listen", &address]))
            .expect_err("the port is in use");
        assert_eq!(
            failure.problems[0].what,
            format!("cannot listen on {address}: the port is in use")
        );
        drop(holder);
    }

    #[test]
    fn requests_that_were_cut_off_are_an_error() {
        assert!(end(Outcome::Drained, 0).is_ok());
        assert!(end(Outcome::Interrupted { calls: 0 }, 3).is_ok());
        let failure = end(Outcome::DrainTimedOut { calls: 2 }, 0).expect_err("cut off");
        assert_eq!(
            failure.problems[0].what,
            "2 requests were cut off at the end: they did not finish in time"
        );
        assert!(end(Outcome::Interrupted { calls: 1 }, 0).is_err());
    }
}
