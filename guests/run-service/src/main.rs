//! A service: does what its arguments say, one after the other, and then waits until it is told to stop.
//!
//! `say TEXT` prints a line, `sleep MS` waits, `accept WHERE` echoes what one client sends (for preview 1 it comes to the
//! listening socket of that number), `need FILE` exits with 7 unless there is such a file, `exit CODE` and `trap` end it, `stubborn` goes on for ever and does not notice that it is told to stop, `spin` does the same and computes. At its
//! end it prints `told to stop`.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().expect("a word behind it");
        match word.as_str() {
            "say" => println!("{}", next()),
            "sleep" => sleep(Duration::from_millis(number(&next()))),
            "accept" => {
                let (mut client, _) = listener(&next())?.accept()?;
                let mut bytes = [0; 256];
                loop {
                    let length = client.read(&mut bytes)?;
                    if length == 0 {
                        break;
                    }
                    client.write_all(&bytes[..length])?;
                }
            }
            "need" => {
                if !Path::new(&next()).exists() {
                    exit(7);
                }
            }
            "exit" => exit(i32::try_from(number(&next())).expect("a code")),
            "trap" => trap(),
            "stubborn" => loop {
                sleep(Duration::from_millis(20));
            },
            "spin" => loop {
                std::hint::black_box(());
            },
            other => panic!("not a word of this guest: {other}"),
        }
    }
    // It is empty, and ends when the service is to end.
    io::stdin().read_to_end(&mut Vec::new())?;
    println!("told to stop");
    Ok(())
}

#[cfg(target_env = "p1")]
fn listener(place: &str) -> io::Result<TcpListener> {
    use std::os::fd::FromRawFd;

    // SAFETY: nothing else here uses that number.
    Ok(unsafe { TcpListener::from_raw_fd(number(place) as i32) })
}

#[cfg(not(target_env = "p1"))]
fn listener(place: &str) -> io::Result<TcpListener> {
    TcpListener::bind(place)
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    unreachable!("this guest is for WebAssembly");
}
