//! Keeps messages in queues, on the listening socket whose descriptor it is given: one connection, one command.
//!
//! `read TOPIC` is answered with `TOPIC MESSAGE`, the oldest, or with `TOPIC empty`; `TOPIC MESSAGE` puts one into the queue of a
//! topic that there is.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::FromRawFd;

use init_abi::{config, loginfo, taken};

#[unsafe(no_mangle)]
unsafe extern "C" fn init(path: *mut u8, path_len: usize, descriptor: i32) {
    let config = config(&unsafe { taken(path, path_len) });
    let topics = config["topics"].split_whitespace();
    let mut queues: BTreeMap<String, VecDeque<String>> = topics
        .map(|topic| (topic.to_owned(), VecDeque::new()))
        .collect();
    let listener = unsafe { TcpListener::from_raw_fd(descriptor) };
    loginfo(
        "server",
        &format!("keeps {} topics on descriptor {descriptor}", queues.len()),
    );
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            continue;
        };
        let mut buffer = [0; 1024];
        let Ok(length) = stream.read(&mut buffer) else {
            continue;
        };
        let command = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let Some((first, rest)) = command.split_once(' ') else {
            continue;
        };
        if first == "read" {
            let topic = rest.trim();
            let oldest = queues.get_mut(topic).and_then(VecDeque::pop_front);
            let answer = oldest.unwrap_or_else(|| "empty".to_owned());
            // Whoever asked may be gone.
            let _sent = stream.write_all(format!("{topic} {answer}").as_bytes());
        } else if let Some(queue) = queues.get_mut(first) {
            queue.push_back(rest.trim().to_owned());
        }
    }
}
