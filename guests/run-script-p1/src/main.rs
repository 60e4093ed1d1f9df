//! An interpreter as CGI calls it: it answers a request with its arguments, what it was told of its script, and the script's text, which
//! it does not run.

use std::env;
use std::fs;
use std::io::{Read, stdin};

/// What a script is known by.
const VARIABLES: [&str; 9] = [
    "DOCUMENT_ROOT",
    "HTTPS",
    "PATH_INFO",
    "PATH_TRANSLATED",
    "QUERY_STRING",
    "REDIRECT_STATUS",
    "REQUEST_URI",
    "SCRIPT_FILENAME",
    "SCRIPT_NAME",
];

fn main() {
    println!("Content-Type: text/plain\n");
    let arguments: Vec<String> = env::args().collect();
    println!("arguments: {arguments:?}");
    for name in VARIABLES {
        if let Ok(value) = env::var(name) {
            println!("{name}={value}");
        }
    }
    let mut body = String::new();
    let read = stdin().read_to_string(&mut body);
    println!("body: {read:?} {body}");
    let script = env::var("SCRIPT_FILENAME").unwrap_or_default();
    match fs::read_to_string(&script) {
        Ok(text) => print!("script: {text}"),
        Err(error) => println!("no script: {error}"),
    }
}
