//! The rules that every source file keeps: where `unsafe` and listening sockets may be, how long a file may
//! get, that it says what it is for, and words that do not belong into the repository.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::source::{code_only, has_word, without_tests};
use super::{Findings, shown, texts_below};

/// The only file that may hold `unsafe`: it loads compiled code.
const UNSAFE_FILE: &str = "crates/host/src/cache.rs";
/// The only room that may listen.
const LISTENING_ROOM: &str = "crates/server/";
/// Files elsewhere that get listening sockets which are open already.
const HANDED_LISTENERS: [&str; 2] = [
    "crates/host/src/abi/service.rs",
    "crates/host/src/p1/socket.rs",
];
const LISTENERS: &[&str] = &["TcpListener", "UnixListener", "TcpSocket"];
/// Lines of a source file, its tests not counted.
const LINES_MAX: usize = 500;
/// Folders with Rust code of the workspace; `guests` and `examples` are other people's rooms by nature.
const CODE: &[&str] = &["crates", "xtask", "tests", "bench", "fuzz"];
/// Kinds of text file that are searched for words.
const TEXTS: &[&str] = &[
    "rs", "toml", "md", "wit", "wat", "html", "sh", "json", "yml", "",
];
/// Marks of unfinished work, in two parts so that this file does not hold them.
const MARKS: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("XX", "X")];
/// Ways to leave a test or a function out, in two parts as well.
const LEFT_OUT: &[(&str, &str)] = &[("#[ign", "ore"), ("to", "do!("), ("unimple", "mented!(")];

/// One Rust file, read once for all rules.
struct Source {
    /// Relative to the repository.
    name: String,
    text: String,
    code: String,
}

/// Checks the files below `root`.
pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    for folder in CODE {
        for (path, text) in texts_below(&root.join(folder), &["rs"])? {
            let source = Source {
                name: shown(root, &path),
                code: code_only(&text),
                text,
            };
            for rule in [no_unsafe, no_listener, short, introduced] {
                findings.complaints.extend(rule(&source));
            }
        }
    }
    for (path, text) in texts_below(&root.join("crates"), &["toml"])? {
        findings
            .complaints
            .extend(keeps_lints(&shown(root, &path), &text));
    }
    let places = places_of_this_machine(root);
    for (path, text) in texts_below(root, TEXTS)? {
        let name = shown(root, &path);
        // Lockfiles are cargo's, and their checksums may spell anything.
        if !name.ends_with("Cargo.lock") {
            findings
                .complaints
                .extend(clean_words(&name, &text, &places));
        }
    }
    Ok(())
}

/// `unsafe` in one file only; the compiler is told the same, but can be told otherwise in any file.
fn no_unsafe(source: &Source) -> Vec<String> {
    if source.name == UNSAFE_FILE {
        return Vec::new();
    }
    lines_with(&source.code, |line| has_word(line, "unsafe"))
        .map(|line| {
            format!(
                "{}:{line}: unsafe code; only {UNSAFE_FILE} may have it",
                source.name
            )
        })
        .collect()
}

/// Listening sockets in one room only; a service's guest is handed some that are open. A test may listen to play the other side.
fn no_listener(source: &Source) -> Vec<String> {
    let is_room = source.name.starts_with("crates/") && !source.name.starts_with(LISTENING_ROOM);
    if !is_room || is_test_file(&source.name) {
        return Vec::new();
    }
    let tested = without_tests(&source.text).lines().count();
    let is_handed_some = HANDED_LISTENERS.contains(&source.name.as_str());
    lines_with(&source.code, |line| {
        let names_one = LISTENERS.iter().any(|name| has_word(line, name));
        names_one && (!is_handed_some || line.contains("::bind"))
    })
    .filter(|line| *line <= tested)
    .map(|line| {
        let name = &source.name;
        format!("{name}:{line}: a listening socket; only {LISTENING_ROOM} opens one")
    })
    .collect()
}

/// Files stay short enough to be read at one sitting.
fn short(source: &Source) -> Vec<String> {
    let lines = without_tests(&source.text).lines().count();
    if lines <= LINES_MAX || is_test_file(&source.name) {
        return Vec::new();
    }
    let name = &source.name;
    vec![format!(
        "{name}: {lines} lines without its tests, at most {LINES_MAX}; split it by purpose"
    )]
}

/// Every file begins by saying what it is for.
fn introduced(source: &Source) -> Vec<String> {
    // Unit tests in a file of their own belong to the file beside it, which says it.
    if source.text.starts_with("//!") || source.name.ends_with("/tests.rs") {
        return Vec::new();
    }
    vec![format!(
        "{}:1: no module doc; say in `//!` lines what the file is for",
        source.name
    )]
}

/// A package that does not take over the workspace's lints is held to none.
fn keeps_lints(name: &str, text: &str) -> Option<String> {
    let is_package = name.ends_with("Cargo.toml") && text.contains("[package]");
    (is_package && !text.contains("[lints]\nworkspace = true"))
        .then(|| format!("{name}: add `[lints]` with `workspace = true`"))
}

/// No marks of unfinished work, no tests left out, no place of the machine it was written on.
fn clean_words(name: &str, text: &str, places: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        for (start, end) in MARKS {
            let mark = format!("{start}{end}");
            if has_word(line, &mark) {
                complaints.push(format!(
                    "{place}: {mark}; finish it, or write down where it stands"
                ));
            }
        }
        for (start, end) in LEFT_OUT {
            let call = format!("{start}{end}");
            if name.ends_with(".rs") && line.contains(&call) {
                complaints.push(format!(
                    "{place}: {call}…; a test or function left out proves nothing"
                ));
            }
        }
        for path in places.iter().filter(|path| names_place(line, path)) {
            complaints.push(format!(
                "{place}: {path} is a folder of this machine; no one else has it"
            ));
        }
    }
    complaints
}

/// Folders that exist on this machine only: the checkout, and the home of who works here.
fn places_of_this_machine(root: &Path) -> Vec<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    [Some(root.to_path_buf()), home]
        .into_iter()
        .flatten()
        .map(|path| path.display().to_string())
        // `/` is everywhere.
        .filter(|path| path.len() > 1)
        .collect()
}

/// Whether a line names this folder or something in it, and not a longer path that only contains it.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(start, _)| {
        let before = line.get(..start).unwrap_or_default();
        let after = line.get(start + place.len()..).unwrap_or_default();
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

/// The numbers of the lines that a rule picks, from 1.
fn lines_with(code: &str, picks: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
    let numbered = code.lines().zip(1..);
    numbered
        .filter(move |(line, _)| picks(line))
        .map(|(_, number)| number)
}

/// Whether a whole file is tests.
fn is_test_file(name: &str) -> bool {
    name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("/tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source {
            name: name.to_string(),
            text: text.to_string(),
            code: code_only(text),
        }
    }

    #[test]
    fn unsafe_is_found_in_code_and_allowed_in_one_file() {
        let text = "// unsafe in words\nfn f() {\n    unsafe { g() }\n}\n";
        let found = no_unsafe(&source("crates/host/src/pool.rs", text));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("crates/host/src/pool.rs:3: unsafe code"),
            "{found:?}"
        );
        assert_eq!(no_unsafe(&source(UNSAFE_FILE, text)), [""; 0]);
    }

    #[test]
    fn who_is_handed_a_listener_opens_none() {
        for name in HANDED_LISTENERS {
            let text = "fn f(_: TcpListener) {\n    TcpListener::bind(a)\n}\n";
            let found = no_listener(&source(name, text));
            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with(&format!("{name}:2:")), "{found:?}");
        }
    }

    #[test]
    fn listeners_belong_to_the_server_and_to_tests() {
        let text = "use x::TcpListener;\n";
        let tests = "#[cfg(test)]\nmod tests {\n    use x::TcpListener;\n}\n";
        let found = no_listener(&source("crates/host/src/net.rs", text));
        assert!(
            found[0].starts_with("crates/host/src/net.rs:1: a listening socket"),
            "{found:?}"
        );
        assert_eq!(
            no_listener(&source("crates/server/src/listen.rs", text)),
            [""; 0]
        );
        assert_eq!(
            no_listener(&source("crates/host/src/net.rs", tests)),
            [""; 0]
        );
        assert_eq!(no_listener(&source("tests/main.rs", text)), [""; 0]);
    }

    #[test]
    fn long_files_are_named_and_tests_do_not_count() {
        let code = "x\n".repeat(LINES_MAX);
        let tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(short(&source("crates/app/src/a.rs", &tests)), [""; 0]);
        let found = short(&source("crates/app/src/a.rs", &format!("{code}x\n")));
        assert!(
            found[0].starts_with("crates/app/src/a.rs: 501 lines"),
            "{found:?}"
        );
    }

    #[test]
    fn a_file_without_a_module_doc_is_named() {
        assert_eq!(
            introduced(&source("a.rs", "//! Says what it is for.\n")),
            [""; 0]
        );
        assert_eq!(introduced(&source("a.rs", "use x;\n")).len(), 1);
    }

    #[test]
    fn packages_take_over_the_lints() {
        let held = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
        assert_eq!(keeps_lints("crates/a/Cargo.toml", held), None);
        assert!(keeps_lints("crates/a/Cargo.toml", "[package]\n").is_some());
        assert_eq!(keeps_lints("crates/a/other.toml", "[package]\n"), None);
    }

    #[test]
    fn marks_and_machine_paths_are_named_with_their_line() {
        let places = ["/home/me".to_string()];
        let mark = format!("{}{}", "TO", "DO");
        let text = format!("fine\n{mark}: later\nsee /home/me/x\nsee /home/mean\n/srv/home/me\n");
        let found = clean_words("a.md", &text, &places);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with(&format!("a.md:2: {mark};")),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("a.md:3: /home/me is a folder"),
            "{found:?}"
        );
    }

    #[test]
    fn tests_that_are_left_out_are_named() {
        let text = format!("{}{}]\nfn a() {{}}\n", "#[ign", "ore");
        assert_eq!(clean_words("a.rs", &text, &[]).len(), 1);
        assert_eq!(clean_words("a.md", &text, &[]), [""; 0]);
    }
}
