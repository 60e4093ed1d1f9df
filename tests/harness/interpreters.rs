//! Interpreters as guests. Their modules are large: each is compiled once for all tests, before anybody waits for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use super::{data, executable, root};

/// `examples/php/php-cgi.wasm`, compiled.
pub(crate) fn php() -> PathBuf {
    compiled(root().join("examples/php/php-cgi.wasm"))
}

/// A module that was fetched for `cargo xtask test --all`, compiled.
#[cfg(feature = "languages")]
pub(crate) fn interpreter(name: &str) -> PathBuf {
    compiled(root().join(format!("target/tools/interpreters/{name}.wasm")))
}

fn compiled(module: PathBuf) -> PathBuf {
    static DONE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let path = module.display();
    assert!(
        module.is_file(),
        "{path} is missing: run `cargo xtask test`"
    );
    // Whoever comes second waits here.
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !done.contains(&module) {
        compile(&module);
        done.insert(module.clone());
    }
    module
}

/// However long it takes, and into the place where all servers of the tests look for compiled code.
fn compile(module: &Path) {
    let mut check = executable();
    check.arg("check").arg(module).arg("--data").arg(data());
    let outcome = check.stdin(Stdio::null()).output();
    let outcome = outcome.expect("the executable starts");
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{said}");
}
