//! A program that answers requests as CGI has it. What it does is in the query:
//!
//! - nothing: its arguments and its environment, a line each.
//! - `do=raw`: what came on standard input is its standard output, head and all; then `end`.
//! - `do=echo`: the body comes back as it comes, a flush behind each piece.
//! - `do=head`: `bytes` of header lines, without an end.
//! - `do=write`: a head, then `bytes` of body, or without an end. `length=N` announces so many.
//! - `do=wait`: a head and a line; then `ms`, and another line.
//! - `do=unread`: closes its standard input and answers.
//! - `do=read`: says how many bytes its standard input has; where that breaks off, the answer is 400.
//! - `do=leak`: opens the file `open` `count` times, keeps all, and says how many it has.
//! - `do=grow`: `mib` of memory.
//! - `do=spin`: an endless loop; with `head=1` behind the head.
//!
//! `end=N` exits with this code at the end, `end=trap` traps. `say` is a line on standard error.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::FromRawFd;
use std::process;
use std::time::Duration;

fn main() -> io::Result<()> {
    if let Some(say) = asked("say") {
        eprintln!("{say}");
    }
    match asked("do").as_deref() {
        Some("raw") => raw()?,
        Some("echo") => echo()?,
        Some("head") => lines(number("bytes"))?,
        Some("write") => write()?,
        Some("wait") => wait()?,
        Some("unread") => {
            // SAFETY: nothing else in this program uses the descriptor.
            drop(unsafe { File::from_raw_fd(0) });
            println!("content-type: text/plain\n\nnot read");
        }
        Some("read") => read(),
        Some("leak") => leak(),
        Some("grow") => {
            let room = vec![1_u8; number("mib").unwrap_or(0) << 20];
            println!("content-type: text/plain\n\n{}", room.len());
        }
        Some("spin") => {
            if asked("head").is_some() {
                print!("content-type: text/plain\n\nspins");
                io::stdout().flush()?;
            }
            loop {
                std::hint::spin_loop();
            }
        }
        _ => list(),
    }
    io::stdout().flush()?;
    match asked("end").as_deref() {
        Some("trap") => process::abort(),
        Some(code) => process::exit(code.parse().unwrap_or(1)),
        None => Ok(()),
    }
}

/// A switch of the query.
fn asked(key: &str) -> Option<String> {
    let query = env::var("QUERY_STRING").ok()?;
    query::value(&format!("?{query}"), key)
}

fn number(key: &str) -> Option<usize> {
    asked(key)?.parse().ok()
}

fn list() {
    println!("Content-Type: text/plain\n");
    for (place, argument) in env::args().enumerate() {
        println!("arg {place}: {argument}");
    }
    let mut variables: Vec<(String, String)> = env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        println!("{name} = {value}");
    }
}

fn raw() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::stdout().lock()).map(drop)
}

fn echo() -> io::Result<()> {
    let kind = env::var("CONTENT_TYPE").unwrap_or_default();
    let mut out = io::stdout().lock();
    write!(out, "Content-Type: {kind}\n\n")?;
    out.flush()?;
    let mut piece = [0; 16 << 10];
    loop {
        let length = io::stdin().lock().read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        out.write_all(&piece[..length])?;
        out.flush()?;
    }
}

fn lines(bytes: Option<usize>) -> io::Result<()> {
    let line = b"x-line: 23456789abcdef0123456789abcdef0123456789abcdef0123456789abc\n";
    let mut out = io::stdout().lock();
    let mut written = 0;
    while bytes.is_none_or(|bytes| written < bytes) {
        out.write_all(line)?;
        written += line.len();
    }
    out.flush()
}

fn write() -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(length) = number("length") {
        writeln!(out, "content-length: {length}")?;
    }
    write!(out, "content-type: text/plain\n\n")?;
    let piece = [b'x'; 4096];
    let mut left = number("bytes").unwrap_or(usize::MAX);
    while left > 0 {
        let length = left.min(piece.len());
        out.write_all(&piece[..length])?;
        left -= length;
    }
    out.flush()
}

fn wait() -> io::Result<()> {
    println!("content-type: text/plain\n\nfirst");
    io::stdout().flush()?;
    std::thread::sleep(Duration::from_millis(number("ms").unwrap_or(0) as u64));
    println!("last");
    Ok(())
}

fn read() {
    let mut bytes = Vec::new();
    match io::stdin().lock().read_to_end(&mut bytes) {
        Ok(length) => println!("content-type: text/plain\n\n{length}"),
        Err(error) => println!("status: 400\ncontent-type: text/plain\n\n{error}"),
    }
}

fn leak() {
    let path = asked("open").unwrap_or_default();
    let mut kept = Vec::new();
    let mut told = String::from("all");
    for _ in 0..number("count").unwrap_or(10_000) {
        match File::open(&path) {
            Ok(file) => kept.push(file),
            Err(error) => {
                told = error.to_string();
                break;
            }
        }
    }
    println!("content-type: text/plain\n\n{} {told}", kept.len());
    std::mem::forget(kept);
}
