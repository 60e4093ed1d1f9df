//! What all integration tests share. Read in this order: [`server`] (a running `hostel up`), [`http`] (the client),
//! [`app`] (a manifest with its guests), [`command`] (everything that runs to its end), [`http2`], [`upstream`] (what
//! guests call), [`golden`].

pub(crate) mod app;
pub(crate) mod bombs;
pub(crate) mod capture;
pub(crate) mod command;
pub(crate) mod frames;
pub(crate) mod golden;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod interpreters;
pub(crate) mod keyvalue;
pub(crate) mod message;
pub(crate) mod metrics;
pub(crate) mod server;
pub(crate) mod upstream;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The longest that a test waits for anything; whatever takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long a loop that looks for something rests between two looks.
const REST: Duration = Duration::from_millis(5);

/// A file that `cargo xtask guests` makes.
pub(crate) fn guest(name: &str) -> PathBuf {
    built(&format!("guests/out/{name}.wasm"))
}

/// A file of this repository that `cargo xtask guests` makes, by its path from the root.
pub(crate) fn built(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask guests`",
        path.display()
    );
    path
}

/// A file in `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("crates/cli is two folders down")
        .to_path_buf()
}

/// Where the servers of all tests keep compiled code. It outlives the run: what is in it is found by its content only.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostel-data")
}

/// The executable, with an environment of which guests must not see anything.
pub(crate) fn executable() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostel"));
    command
        .env(HOST_SECRET.0, HOST_SECRET.1)
        .env_remove("XDG_DATA_HOME")
        .env_remove("NO_COLOR");
    command
}

/// A variable of the host's environment that no guest may learn.
pub(crate) const HOST_SECRET: (&str, &str) = ("HOSTEL_TEST_SECRET", "only-the-host-knows");

/// Asks again and again until there is an answer; fails with `what` when [`PATIENCE`] is over.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::park_timeout(REST);
    }
}
