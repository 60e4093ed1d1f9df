//! Files that are not what they should be: rows `cache` and `mutants`. Both drive `hostel check`, which compiles, links
//! and runs nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::judge::Verdict;
use super::random::Random;
use super::site::Site;

/// Corrupted entries in all, and how many are checked by one process.
const ENTRIES: u64 = 10_000;
const MODULES: usize = 100;

/// Mutated guests.
const MUTANTS: u64 = 2_000;

/// The guests that are mutated: components of WASI 0.2 and 0.3, modules of preview 1.
const ANCESTORS: &[&str] = &["hello-p2-small", "hello-p3", "run-exit-p1", "trap-p2"];

/// Seconds after which a check is taken for one that hangs.
const PATIENCE: &str = "60";

/// Compiled code with a flipped bit, a missing end, another entry's content, or another host's key is never loaded.
pub(super) fn cache(site: &Site) -> Result<Verdict> {
    let app = modules(site)?;
    let (ours, theirs) = (site.folder("cache")?, site.folder("cache-of-another-host")?);
    for data in [&ours, &theirs] {
        let output = check(site, &app, data)?;
        ensure!(
            output.status.success(),
            "the first check failed: {}",
            said(&output)
        );
    }
    let names = entries(&ours)?;
    ensure!(
        names.len() == MODULES && names == entries(&theirs)?,
        "there are {} entries of {MODULES} modules, or another host names them differently",
        names.len()
    );
    let mut random = site.random("cache");
    let rounds = site.count(ENTRIES).div_ceil(MODULES as u64);
    let (mut loaded, mut failed, mut panics, mut spoilt) = (0_u64, 0_u64, 0_u64, 0_u64);
    for _ in 0..rounds {
        let planted = spoil(&ours, &theirs, &names, &mut random)?;
        spoilt += planted.len() as u64;
        let output = check(site, &app, &ours)?;
        failed += u64::from(!output.status.success());
        panics += u64::from(broke(&output));
        for (name, bytes) in names.iter().zip(&planted) {
            // What was refused was compiled and written anew; what was loaded is still as it was planted.
            let now = fs::read(compiled(&ours).join(name)).unwrap_or_default();
            loaded += u64::from(now == *bytes);
        }
    }
    let mut verdict = Verdict::default();
    verdict.figure("corrupted", spoilt);
    verdict.figure("loaded", loaded);
    verdict.figure("failed_checks", failed);
    verdict.figure("panics", panics);
    verdict.require(loaded == 0, || {
        format!("{loaded} corrupted entries were kept")
    });
    verdict.require(failed == 0 && panics == 0, || {
        format!("{failed} checks failed, {panics} panicked")
    });
    Ok(verdict)
}

/// An app of small components that differ in one number.
fn modules(site: &Site) -> Result<PathBuf> {
    let folder = site.folder("modules")?;
    let mut manifest = "[app]\nname = \"cache\"\n".to_owned();
    for number in 0..MODULES {
        let component = wat::parse_str(component(number))?;
        fs::write(folder.join(format!("m{number}.wasm")), component)?;
        manifest.push_str(&format!(
            "\n[component.m{number}]\nsource = \"m{number}.wasm\"\n\n\
             [[http]]\nroute = \"/m{number}/...\"\ncomponent = \"m{number}\"\n"
        ));
    }
    fs::write(folder.join("hostel.toml"), manifest)?;
    Ok(folder)
}

/// A server of WASI 0.2 whose handler only drops a number.
fn component(number: usize) -> String {
    format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
          (alias export $types "incoming-request" (type $request))
          (alias export $types "response-outparam" (type $out))
          (core module $guest (func (export "handle") (param i32 i32)
            (drop (i32.div_u (local.get 0) (i32.const {number})))))
          (core instance $guest (instantiate $guest))
          (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $guest "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    )
}

fn compiled(data: &Path) -> PathBuf {
    data.join("compiled")
}

/// The names of all entries, in order.
fn entries(data: &Path) -> Result<Vec<String>> {
    let folder = compiled(data);
    let mut names = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".cwasm") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Spoils every entry in its own way; what each is now.
fn spoil(
    ours: &Path,
    theirs: &Path,
    names: &[String],
    random: &mut Random,
) -> Result<Vec<Vec<u8>>> {
    let read = |data: &Path, name: &String| fs::read(compiled(data).join(name));
    let intact: Vec<Vec<u8>> = names
        .iter()
        .map(|name| read(ours, name))
        .collect::<Result<_, _>>()?;
    let mut planted = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let other = (at + 1 + random.below(names.len() - 1)) % names.len();
        let mut bytes = intact.get(at).cloned().unwrap_or_default();
        let kind = random.below(8);
        match kind {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => bytes = intact.get(other).cloned().unwrap_or_default(),
            2 => bytes = read(theirs, name)?,
            3 => bytes.push(random.next() as u8),
            4 => flip(&mut bytes, random, 64),
            _ => flip(&mut bytes, random, usize::MAX),
        }
        fs::write(compiled(ours).join(name), &bytes)?;
        planted.push(bytes);
    }
    Ok(planted)
}

/// Flips one bit among the first `first` bytes.
fn flip(bytes: &mut [u8], random: &mut Random, first: usize) {
    let at = random.below(bytes.len().min(first));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn check(site: &Site, path: &Path, data: &Path) -> Result<Output> {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", PATIENCE]).arg(&site.binary);
    command.arg("check").arg(path).arg("--data").arg(data);
    command
        .output()
        .context("`timeout` (package coreutils) could not be started")
}

/// Whether the process ended by a signal, or by a panic of its main thread or any other.
fn broke(output: &Output) -> bool {
    // 101 is Rust's exit code of a panic; 137 is what `timeout` makes of a check that hung or was killed.
    let code = output.status.code();
    let signal = output.status.signal().is_some() || code.is_none_or(|code| code >= 128);
    let text = String::from_utf8_lossy(&output.stderr);
    signal || code == Some(101) || text.contains("panicked at")
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().take(3).collect::<Vec<_>>().join(" / ")
}

/// What became of mutated guests.
#[derive(Default)]
struct Mutants {
    accepted: u64,
    refused: u64,
    broken: Vec<String>,
}

/// Mutated guests are refused or compiled; nothing panics.
pub(super) fn mutants(site: &Site) -> Result<Verdict> {
    let count = site.count(MUTANTS);
    let ancestors: Vec<Vec<u8>> = ANCESTORS
        .iter()
        .map(|name| Ok(fs::read(site.guest(name)?)?))
        .collect::<Result<_>>()?;
    let folder = site.folder("mutants")?;
    // As many at once as this machine has cores, each with its own share of the numbers.
    let workers = thread::available_parallelism().map_or(1, usize::from) as u64;
    let all = thread::scope(|scope| {
        let share = |worker| {
            let (ancestors, folder) = (&ancestors, &folder);
            scope.spawn(move || breed(site, ancestors, folder, (worker, workers, count)))
        };
        let started: Vec<_> = (0..workers).map(share).collect();
        let joined = started.into_iter().map(|worker| {
            let joined = worker.join();
            joined.map_err(|_| anyhow::anyhow!("a worker panicked"))?
        });
        joined.collect::<Result<Vec<Mutants>>>()
    })?;
    let accepted: u64 = all.iter().map(|one| one.accepted).sum();
    let refused: u64 = all.iter().map(|one| one.refused).sum();
    let broken: Vec<&String> = all.iter().flat_map(|one| &one.broken).collect();
    let mut verdict = Verdict::default();
    verdict.figure("mutants", count);
    verdict.figure("accepted", accepted);
    verdict.figure("refused", refused);
    verdict.figure("panics", broken.len());
    verdict.require(broken.is_empty(), || {
        let first = broken.first().map(|text| text.as_str());
        format!(
            "{} mutants broke the host, such as {}",
            broken.len(),
            first.unwrap_or_default()
        )
    });
    verdict.require(refused > 0, || "no mutant was refused".to_owned());
    Ok(verdict)
}

/// The mutants `first`, `first + step`, … below `count`.
fn breed(
    site: &Site,
    ancestors: &[Vec<u8>],
    folder: &Path,
    (first, step, count): (u64, u64, u64),
) -> Result<Mutants> {
    let mut mutants = Mutants::default();
    let data = folder.join(format!("data-{first}"));
    let mut number = first;
    while number < count {
        let mut random = site.random(&format!("mutant {number}"));
        let ancestor = ancestors.get(number as usize % ancestors.len().max(1));
        let bytes = mutate(ancestor.map_or(&[], Vec::as_slice), &mut random);
        let file = folder.join(format!("mutant-{number}.wasm"));
        fs::write(&file, bytes)?;
        let output = check(site, &file, &data)?;
        if broke(&output) {
            mutants
                .broken
                .push(format!("mutant {number}: {}", said(&output)));
        } else if output.status.success() {
            mutants.accepted += 1;
        } else {
            mutants.refused += 1;
        }
        fs::remove_file(&file)?;
        // Compiled mutants would fill the disk.
        if data.exists() && number / step % 50 == 49 {
            fs::remove_dir_all(&data)?;
        }
        number += step;
    }
    Ok(mutants)
}

/// A few bytes changed, a piece cut out or doubled, or the end missing.
fn mutate(ancestor: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = ancestor.to_vec();
    let length = bytes.len();
    match random.below(8) {
        0 => bytes.truncate(random.below(length)),
        1 => {
            let from = random.below(length);
            let to = (from + random.below(64)).min(length);
            bytes.drain(from..to);
        }
        2 => {
            let from = random.below(length);
            let piece: Vec<u8> = bytes
                .iter()
                .skip(from)
                .take(random.below(64))
                .copied()
                .collect();
            bytes.splice(from..from, piece);
        }
        _ => {
            // One or two: most mutants with more do not even get as far as the compiler.
            for _ in 0..=random.below(2) {
                let at = random.below(length);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_the_same_for_the_same_seed_and_mostly_differs_from_its_ancestor() {
        let ancestor: Vec<u8> = (0..=255).collect();
        let mutant = |seed| mutate(&ancestor, &mut Random::new(seed, "test"));
        assert_eq!(mutant(1), mutant(1));
        let changed = (0..100).filter(|seed| mutant(*seed) != ancestor);
        assert!(changed.count() > 90);
        assert!(mutate(&[], &mut Random::new(1, "test")).is_empty());
    }

    #[test]
    fn components_are_well_formed_and_differ() {
        let bytes = |number| wat::parse_str(component(number)).unwrap();
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn one_bit_is_flipped_where_it_was_asked_for() {
        let mut random = Random::new(1, "test");
        for _ in 0..100 {
            let mut bytes = [0_u8; 256];
            flip(&mut bytes, &mut random, 64);
            let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(ones, 1);
            assert!(bytes[..64].iter().any(|byte| *byte != 0));
        }
        flip(&mut [], &mut random, 64);
    }

    #[test]
    fn panics_and_signals_are_told_from_refusals() {
        let ended = |script: &str| {
            let output = Command::new("sh").args(["-c", script]).output().unwrap();
            broke(&output)
        };
        assert!(!ended("exit 0") && !ended("echo no >&2; exit 2"));
        assert!(ended("exit 101") && ended("kill -9 $$") && ended("exit 137"));
        assert!(ended("echo \"thread 'x' panicked at y\" >&2; exit 2"));
    }
}
