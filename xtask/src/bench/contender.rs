//! Who is measured and on what: the kinds of guest, and the command line of each contender for each kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Requests one instance answers where a kind reuses instances: more than any run sends.
const REUSE: u32 = 1_000_000;

/// Requests in flight in one p3 instance where a kind reuses instances; what `wasmtime serve` has as its default.
const CONCURRENT: u32 = 16;

/// A guest, and how its instances are used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// File name below `guests/out`.
    pub(super) guest: &'static str,
    /// WASI 0.3 instead of 0.2.
    p3: bool,
    /// One instance answers many requests instead of one.
    reuse: bool,
    /// It asks another server for each answer; the control does the same with a client of hyper's.
    pub(super) forwards: bool,
    /// A program that prints its answer; `wasmtime serve` has no such guests.
    program: bool,
    /// An interpreter: its app is in `bench`, the interpreter in `examples`, and requests are forms with cookies.
    pub(super) scripts: Option<&'static str>,
}

/// What the page in `bench/php` answers to a GET without a query, a form and cookies.
const PHP_PAGE: &str = "<!doctype html><title>PHP</title><table>\n<tr><td>name<td>\n<tr><td>line<td>\n\
    <tr><td>session<td>\n</table>\n";

/// Every kind; the first four are the ones measured unless others are asked for.
pub(super) const KINDS: &[Kind] = &[
    kind("p2-fresh", "hello-p2-small.wasm", false, false),
    kind("p2-reuse", "hello-p2-small.wasm", false, true),
    kind("p3-fresh", "hello-p3.wasm", true, false),
    kind("p3-reuse", "hello-p3.wasm", true, true),
    kind("p2std-fresh", "hello-p2.wasm", false, false),
    kind("p2std-reuse", "hello-p2.wasm", false, true),
    forwarding("out-p2-fresh", "forward-p2.wasm", false, false),
    forwarding("out-p2-reuse", "forward-p2.wasm", false, true),
    forwarding("out-p3-fresh", "forward-p3.wasm", true, false),
    forwarding("out-p3-reuse", "forward-p3.wasm", true, true),
    program("cgi", "cgi-hello-p1.wasm"),
    program("cgi-p2", "cgi-hello-p2.wasm"),
    scripts("php", "php-cgi.wasm"),
];

/// How many of `KINDS` are measured by default.
pub(super) const KINDS_DEFAULT: usize = 4;

const fn kind(name: &'static str, guest: &'static str, p3: bool, reuse: bool) -> Kind {
    Kind {
        name,
        guest,
        p3,
        reuse,
        forwards: false,
        program: false,
        scripts: None,
    }
}

const fn program(name: &'static str, guest: &'static str) -> Kind {
    Kind {
        program: true,
        ..kind(name, guest, false, false)
    }
}

/// The app and the folder of the interpreter have the name of the kind.
const fn scripts(name: &'static str, guest: &'static str) -> Kind {
    Kind {
        scripts: Some(name),
        ..program(name, guest)
    }
}

const fn forwarding(name: &'static str, guest: &'static str, p3: bool, reuse: bool) -> Kind {
    Kind {
        forwards: true,
        ..kind(name, guest, p3, reuse)
    }
}

impl Kind {
    /// The kind called `name`; the error lists all names.
    pub(super) fn find(name: &str) -> Result<&'static Kind> {
        let found = KINDS.iter().find(|kind| kind.name == name);
        found.with_context(|| {
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            format!("unknown kind `{name}`; there are {}", names.join(", "))
        })
    }
}

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// The control: hyper without a guest.
    Native,
    Hostel,
    /// The same build of Hostel with every budget off: what the budgets cost is `Hostel` beside it.
    Unmetered,
    /// `wasmtime serve`.
    Wasmtime,
}

impl Contender {
    /// Whether it can serve such a guest.
    pub(super) fn serves(self, kind: &Kind) -> bool {
        !(self == Contender::Wasmtime && kind.program)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Contender::Native => "native",
            Contender::Hostel => "hostel",
            Contender::Unmetered => "unmetered",
            Contender::Wasmtime => "wasmtime",
        }
    }

    /// A subject by its name. The control is no choice: without it no ratio means anything.
    pub(super) fn subject(name: &str) -> Result<Contender> {
        match name {
            "hostel" => Ok(Contender::Hostel),
            "unmetered" => Ok(Contender::Unmetered),
            "wasmtime" => Ok(Contender::Wasmtime),
            _ => bail!(
                "unknown subject `{name}`; there are hostel, unmetered, wasmtime (native always runs)"
            ),
        }
    }

    /// The body this contender answers with: 25 bytes in each case. What is forwarded is the control's.
    pub(super) fn answer(self, kind: &Kind) -> &'static str {
        match (self, kind.p3) {
            _ if kind.forwards => "hello from native hyper!\n",
            (Contender::Native, _) => "hello from native hyper!\n",
            _ if kind.scripts.is_some() => PHP_PAGE,
            _ if kind.program => "Hello from a WASI guest.\n",
            (_, false) => "hello from wasi:http 0.2\n",
            (_, true) => "hello from wasi:http 0.3\n",
        }
    }
}

/// Where everything is that a command line names.
pub(super) struct Programs {
    pub(super) native: PathBuf,
    pub(super) hostel: PathBuf,
    pub(super) wasmtime: PathBuf,
    /// The folder with the built guests.
    pub(super) guests: PathBuf,
    /// The repository.
    pub(super) root: PathBuf,
    /// Where those kinds ask that forward; set where one of them is measured.
    pub(super) upstream: Option<String>,
    /// The CPU that servers are pinned to.
    pub(super) core: usize,
    pub(super) scratch: Scratch,
}

impl Programs {
    pub(super) fn path(&self, contender: Contender) -> &Path {
        match contender {
            Contender::Native => &self.native,
            Contender::Hostel | Contender::Unmetered => &self.hostel,
            Contender::Wasmtime => &self.wasmtime,
        }
    }

    /// The file of a kind's guest.
    pub(super) fn guest(&self, kind: &Kind) -> PathBuf {
        match kind.scripts {
            Some(name) => self.root.join("examples").join(name).join(kind.guest),
            None => self.guests.join(kind.guest),
        }
    }

    /// The command that serves `kind` on a free loopback port, pinned to its core.
    pub(super) fn command(&self, contender: Contender, kind: &Kind) -> Result<Command> {
        let guest = self.guest(kind);
        let upstream = match (kind.forwards, &self.upstream) {
            (false, _) => None,
            (true, Some(url)) => Some(url),
            (true, None) => bail!("{} has no server to ask", kind.name),
        };
        let mut command = pinned(self.core, self.path(contender));
        match contender {
            Contender::Native => {
                command.arg("127.0.0.1:0").args(upstream);
            }
            Contender::Hostel | Contender::Unmetered => {
                let app = match kind.scripts {
                    Some(name) => self.root.join("bench").join(name),
                    None if kind.reuse => self.scratch.app(kind, &guest)?,
                    None => guest,
                };
                command.arg("up").arg(app);
                command.args(["--listen", "127.0.0.1:0"]);
                if let Some(url) = upstream {
                    let url = url.trim_end_matches('/');
                    command.args(["--env", &format!("UPSTREAM={url}/")]);
                    command.args(["--grant", &format!("http={url}")]);
                }
                if contender == Contender::Unmetered {
                    command.arg("--unmetered");
                }
            }
            Contender::Wasmtime => {
                command.arg("serve").args(wasmtime_flags(kind));
                if let Some(url) = upstream {
                    command.args(["--env", &format!("UPSTREAM={url}")]);
                }
                command.args(["--addr", "127.0.0.1:0"]).arg(guest);
            }
        }
        Ok(command)
    }
}

/// A command that runs `program` on one CPU. With a signal for the death of its parent no server outlives a bench that was
/// killed and could not clean up.
pub(super) fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c"]);
    command.arg(core.to_string()).arg(program);
    command
}

/// `wasmtime serve` as it comes (it pools instances by default), with what the guest needs and the reuse of the kind.
fn wasmtime_flags(kind: &Kind) -> Vec<String> {
    let (reuse, concurrent) = match (kind.reuse, kind.p3) {
        (false, _) => (1, 1),
        (true, false) => (REUSE, 1),
        (true, true) => (REUSE, CONCURRENT),
    };
    let mut flags = vec!["-Scli".to_owned()];
    if kind.p3 {
        flags.extend(["-Sp3".to_owned(), "-Wcomponent-model-async".to_owned()]);
    }
    flags.push(format!("--max-instance-reuse-count={reuse}"));
    flags.push(format!(
        "--max-instance-concurrent-reuse-count={concurrent}"
    ));
    flags
}

/// A folder for the run's manifests, removed when the run is over.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Scratch> {
        let folder = std::env::temp_dir().join(format!("hostel-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Scratch(folder))
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes an app that reuses the instances of `guest`; returns its folder.
    fn app(&self, kind: &Kind, guest: &Path) -> Result<PathBuf> {
        let folder = self.0.join(kind.name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // Beside the manifest, so that `source` is the plain file name that authors write.
        fs::copy(guest, folder.join("guest.wasm"))
            .with_context(|| format!("cannot copy {}", guest.display()))?;
        fs::write(folder.join("hostel.toml"), manifest(kind))?;
        Ok(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it is a few hundred kilobytes in the temporary folder; no reason to fail a finished run.
        fs::remove_dir_all(&self.0).ok();
    }
}

fn manifest(kind: &Kind) -> String {
    let concurrent = if kind.p3 {
        format!("concurrent = {CONCURRENT}\n")
    } else {
        String::new()
    };
    format!(
        "[app]\nname = \"bench\"\nversion = \"1.0.0\"\n\n\
         [component.web]\nsource = \"guest.wasm\"\nreuse = {REUSE}\n{concurrent}\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"web\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> Programs {
        // Tests run in one process: the name keeps this scratch folder apart from those of the other tests.
        let thread = std::thread::current().name().unwrap_or("main").to_owned();
        let folder = format!("hostel-bench-test-{}-{thread}", std::process::id()).replace(':', "-");
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        for kind in KINDS {
            fs::write(folder.join(kind.guest), "guest").unwrap();
        }
        Programs {
            native: "native".into(),
            hostel: "hostel".into(),
            wasmtime: "wasmtime".into(),
            guests: folder.clone(),
            root: "repository".into(),
            upstream: None,
            core: 0,
            scratch: Scratch(folder),
        }
    }

    fn arguments(command: &Command) -> Vec<String> {
        let arguments = command.get_args().map(|arg| arg.to_string_lossy().into());
        arguments.collect()
    }

    #[test]
    fn a_fresh_kind_serves_the_bare_guest() {
        let programs = programs();
        let kind = Kind::find("p2-fresh").unwrap();
        let command = programs.command(Contender::Hostel, kind).unwrap();
        let arguments = arguments(&command);
        let [.., core, program, up, guest, listen, address] = arguments.as_slice() else {
            panic!("{arguments:?}");
        };
        assert_eq!([core, program, up], ["0", "hostel", "up"]);
        assert!(guest.ends_with("hello-p2-small.wasm"), "{guest}");
        assert_eq!([listen, address], ["--listen", "127.0.0.1:0"]);
    }

    #[test]
    fn unmetered_is_the_same_binary_with_one_flag_more() {
        let programs = programs();
        let kind = Kind::find("p2-fresh").unwrap();
        let metered = arguments(&programs.command(Contender::Hostel, kind).unwrap());
        let mut unmetered = arguments(&programs.command(Contender::Unmetered, kind).unwrap());
        assert_eq!(unmetered.pop().unwrap(), "--unmetered");
        assert_eq!(metered, unmetered);
    }

    #[test]
    fn a_reusing_kind_serves_a_manifest_beside_its_guest() {
        let programs = programs();
        let kind = Kind::find("p3-reuse").unwrap();
        let command = programs.command(Contender::Hostel, kind).unwrap();
        let app = arguments(&command).into_iter().rev().nth(2).unwrap();
        let app = PathBuf::from(app);
        assert!(app.join("guest.wasm").exists());
        let manifest = fs::read_to_string(app.join("hostel.toml")).unwrap();
        assert!(
            manifest.contains("reuse = 1000000\nconcurrent = 16\n"),
            "{manifest}"
        );
    }

    #[test]
    fn who_forwards_is_told_where_and_may_go_there() {
        let mut programs = programs();
        let kind = Kind::find("out-p2-fresh").unwrap();
        let error = programs.command(Contender::Native, kind).unwrap_err();
        assert!(error.to_string().contains("no server to ask"), "{error}");
        programs.upstream = Some("http://127.0.0.1:9/".into());
        let native = arguments(&programs.command(Contender::Native, kind).unwrap());
        assert_eq!(native.last().unwrap(), "http://127.0.0.1:9/");
        let hostel = arguments(&programs.command(Contender::Hostel, kind).unwrap()).join(" ");
        let told = "--env UPSTREAM=http://127.0.0.1:9/ --grant http=http://127.0.0.1:9";
        assert!(hostel.ends_with(told), "{hostel}");
        let plain = Kind::find("p2-fresh").unwrap();
        let plain = arguments(&programs.command(Contender::Native, plain).unwrap());
        assert_eq!(plain.last().unwrap(), "127.0.0.1:0");
    }

    #[test]
    fn the_scratch_folder_goes_with_its_owner() {
        let programs = programs();
        let folder = programs.guests.clone();
        drop(programs);
        assert!(!folder.exists());
    }

    #[test]
    fn a_missing_guest_is_an_error_that_names_it() {
        let mut programs = programs();
        programs.guests = "no-such-folder".into();
        let kind = Kind::find("p2-reuse").unwrap();
        let error = programs.command(Contender::Hostel, kind).unwrap_err();
        assert!(error.to_string().contains("no-such-folder"), "{error}");
    }

    #[test]
    fn wasmtime_reuses_what_the_kind_reuses() {
        let counts = |name| {
            let flags = wasmtime_flags(Kind::find(name).unwrap());
            let counts = flags.iter().filter_map(|flag| flag.split_once("-count="));
            counts.map(|(_, n)| n.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(counts("p2-fresh"), ["1", "1"]);
        assert_eq!(counts("p3-fresh"), ["1", "1"]);
        assert_eq!(counts("p2-reuse"), ["1000000", "1"]);
        assert_eq!(counts("p3-reuse"), ["1000000", "16"]);
    }

    #[test]
    fn a_program_is_served_by_all_but_wasmtime() {
        let programs = programs();
        let kind = Kind::find("cgi").unwrap();
        let command = programs.command(Contender::Hostel, kind).unwrap();
        let guest = arguments(&command).into_iter().rev().nth(2).unwrap();
        assert!(guest.ends_with("cgi-hello-p1.wasm"), "{guest}");
        let serves = |one: Contender, kind| one.serves(Kind::find(kind).unwrap());
        assert!(serves(Contender::Hostel, "cgi") && serves(Contender::Native, "cgi"));
        assert!(!serves(Contender::Wasmtime, "cgi-p2") && serves(Contender::Wasmtime, "p3-fresh"));
        let answer = |one: Contender| one.answer(kind).len();
        assert_eq!(
            (answer(Contender::Hostel), answer(Contender::Native)),
            (25, 25)
        );
    }

    #[test]
    fn an_interpreter_is_served_with_its_app() {
        let programs = programs();
        let kind = Kind::find("php").unwrap();
        let guest = programs.guest(kind);
        assert_eq!(guest, Path::new("repository/examples/php/php-cgi.wasm"));
        let command = programs.command(Contender::Hostel, kind).unwrap();
        let app = arguments(&command).into_iter().rev().nth(2).unwrap();
        assert_eq!(app, "repository/bench/php");
        assert!(
            Contender::Hostel
                .answer(kind)
                .starts_with("<!doctype html>")
        );
    }

    #[test]
    fn unknown_names_are_errors_that_list_the_known_ones() {
        let kind = Kind::find("p4").unwrap_err().to_string();
        assert!(kind.contains("p2-fresh, p2-reuse"), "{kind}");
        let subject = Contender::subject("native").unwrap_err().to_string();
        assert!(subject.contains("hostel, unmetered, wasmtime"), "{subject}");
    }
}
