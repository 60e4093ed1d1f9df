//! A program with entry points besides its main one. It prints which of them was called, and its environment. Its export
//! `_routes` prints the routes that lead to them.

use std::env;

fn main() {
    answer("main");
}

#[unsafe(no_mangle)]
pub extern "C" fn exact() {
    answer("exact");
}

#[unsafe(no_mangle)]
pub extern "C" fn wildcard() {
    answer("wildcard");
}

/// An export that is no entry point.
#[unsafe(no_mangle)]
pub extern "C" fn twice(number: u32) -> u32 {
    number.wrapping_mul(2)
}

/// The routes, a line each: a path below the module's own, and the export that answers there.
#[unsafe(no_mangle)]
pub extern "C" fn _routes() {
    println!("/exact exact");
    println!("/wildcard/... wildcard");
    println!("/main _start");
    // Nothing of a request or of its component is there.
    println!(
        "/told/{}/{} _start",
        env::vars().count(),
        env::args().count()
    );
    eprintln!("printed");
}

fn answer(who: &str) {
    println!("Content-Type: text/plain; charset=UTF-8\n");
    println!("answered by {who}");
    let mut variables: Vec<(String, String)> = env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        println!("{name} = {value}");
    }
}
