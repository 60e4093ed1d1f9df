//! What needs a process of its own: writers that are killed, a disk that is full, and how much memory a stream takes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use hostel_backends::S3;
use hostel_stores::blob::{Blob, Error, Span};
use hostel_stores::place::Kind;
use hostel_stores::{Failure, Place, Scope, Stores};

use super::{Driver, all, body, filled, names};

const TASK: &str = "HOSTEL_BLOB_CHILD";
const MIB: usize = 1 << 20;

/// What the child does: `TASK FOLDER URL`.
fn child(task: &str, folder: &Path, url: &str) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["blob::crash::what_a_child_does", "--exact", "--nocapture"])
        .env(TASK, format!("{task} {} {url}", folder.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    child
}

/// Where a parent told this process to do something, that; otherwise a little of it.
#[tokio::test]
async fn what_a_child_does() {
    let own = tempfile::tempdir().unwrap();
    let told = std::env::var(TASK);
    let told = told.unwrap_or_else(|_| format!("stream {} embedded:", own.path().display()));
    let [task, folder, url] = told.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    let stores = super::stores(Path::new(folder));
    let mut place = Place::parse(Kind::Blob, url).unwrap();
    // What is shown here does not depend on how busy the machine is.
    place.timeout = Duration::from_secs(60);
    let blobs = stores.blob(&place, &scope()).unwrap();
    blobs.create().await.unwrap();
    match task {
        "write" => write_for_ever(&*blobs).await,
        "stream" => stream(&*blobs).await,
        "fill" => fill(&*blobs).await,
        other => panic!("{other}"),
    }
}

/// Says what it has written when that is acknowledged.
async fn write_for_ever(blobs: &dyn Blob) {
    for n in 0_u32.. {
        let name = format!("n{}", n % 5);
        blobs
            .put(&name, filled(b'a' + (n % 26) as u8, 300_000))
            .await
            .unwrap();
        println!("\nwritten {n}");
    }
}

/// 100 MiB in and out, in a few of memory.
async fn stream(blobs: &dyn Blob) {
    blobs.put("warm", filled(b'w', 6 * MIB)).await.unwrap();
    let before = peak();
    let written = blobs.put("large", filled(b'l', 100 * MIB)).await.unwrap();
    assert_eq!(written.size, 100 << 20);
    let object = blobs.get("large", Span::ALL).await.unwrap();
    let add = |sum: usize, piece: bytes::Bytes| async move { Ok(sum + piece.len()) };
    let read = object.body.try_fold(0, add).await.unwrap();
    assert_eq!(read, 100 * MIB);
    blobs.copy("large", "copy").await.unwrap();
    let grown = peak() - before;
    assert!(grown < 40 * MIB, "it grew by {grown} bytes");
    println!("\ngrown {grown}");
}

/// Goes on until there is no room, and sees that nothing is torn.
async fn fill(blobs: &dyn Blob) {
    blobs.put("old", body("old")).await.unwrap();
    for name in ["old", "new"] {
        let error = blobs.put(name, filled(b'x', 20 * MIB)).await.unwrap_err();
        assert!(matches!(error, Error::Failed(Failure::Full(_))), "{error}");
    }
    assert_eq!(super::text(blobs, "old").await, "old");
    assert_eq!(names(blobs, 10).await, ["old"]);
    blobs.put("new", body("small")).await.unwrap();
}

/// The most memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}

fn succeeds(mut child: Command) {
    let output = child.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        said(&output.stdout),
        said(&output.stderr)
    );
}

#[test]
fn a_hundred_mebibytes_pass_in_a_few_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(child("stream", folder.path(), "embedded:"));
    let server = S3::start();
    succeeds(child("stream", folder.path(), &server.url()));
}

#[test]
fn a_full_disk_is_said_and_nothing_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let inner = child("fill", folder.path(), "embedded:");
    // A bound for the size of files is the full disk that needs no rights; 4 MiB in blocks of 512 bytes.
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args())
        .envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    succeeds(limited);
}

#[tokio::test]
async fn a_writer_that_is_killed_leaves_objects_complete_or_absent() {
    let driver = Driver::directory();
    let rounds = 12_u64;
    for round in 0..rounds {
        let mut writer = child("write", driver.folder.path(), "embedded:")
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let acknowledged = |line: &String| {
            line.strip_prefix("written ")
                .map(|n| n.parse::<u32>().unwrap())
        };
        let mut last = None;
        let begun = Instant::now();
        let end = Duration::from_millis(20 + round * 13);
        while last.is_none() || begun.elapsed() < end {
            let line = lines.next().expect("the writer lives").unwrap();
            last = acknowledged(&line).or(last);
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let rest = lines.map_while(|line| line.ok());
        let last = rest
            .filter_map(|line| acknowledged(&line))
            .last()
            .or(last)
            .unwrap();

        let again = stores_of(driver.folder.path());
        let blobs = again.0.blob(&again.1, &scope()).unwrap();
        let listed = names(&*blobs, 10).await;
        // The last that were acknowledged, unless one that was not came after them.
        for n in last.saturating_sub(4)..=last {
            assert!(listed.contains(&format!("n{}", n % 5)), "{n} of {listed:?}");
        }
        for name in listed {
            let bytes = all(blobs.get(&name, Span::ALL).await.unwrap())
                .await
                .unwrap();
            assert!(
                bytes.len() == 300_000 && bytes.windows(2).all(|two| two[0] == two[1]),
                "{name} is torn"
            );
        }
        let left = driver.folder.path().join("shop/blobs/uploads/temporary");
        assert_eq!(
            std::fs::read_dir(left).unwrap().count(),
            0,
            "what was half written is gone"
        );
    }
}

/// The same folder, as a process that starts finds it.
fn stores_of(folder: &Path) -> (Stores, Place) {
    (
        super::stores(folder),
        Place::parse(Kind::Blob, "embedded:").unwrap(),
    )
}

fn scope() -> Scope {
    Scope::new("shop", "uploads").unwrap()
}
