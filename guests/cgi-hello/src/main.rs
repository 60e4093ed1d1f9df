//! The smallest answer of a program: 25 bytes, whatever the request. It is the one that is measured.

fn main() {
    print!("Content-Type: text/plain\n\nHello from a WASI guest.\n");
}
