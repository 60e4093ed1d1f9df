//! A command: copies its standard input to its standard output, byte for byte, and then writes the number
//! of bytes to standard error.

use std::io;

fn main() -> io::Result<()> {
    let bytes = io::copy(&mut io::stdin().lock(), &mut io::stdout().lock())?;
    eprintln!("{bytes} bytes");
    Ok(())
}
