//! The first bytes of a file: WebAssembly binary, WebAssembly text, or something else that deserves its own message.

use super::{DetectError, MAGIC};

/// Version 1, layer 0.
const MODULE: [u8; 4] = [1, 0, 0, 0];
/// Version 13, layer 1: the binary format of components since 2023.
const COMPONENT_VERSION: u16 = 13;

/// Starts as WebAssembly text does: after blanks, a parenthesis or a comment.
pub(super) fn looks_like_text(bytes: &[u8]) -> bool {
    let text = bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .trim_ascii_start();
    text.starts_with(b"(") || text.starts_with(b";;")
}

/// Refuses everything but a module of version 1 and a component of version 13.
pub(super) fn check(bytes: &[u8]) -> Result<(), DetectError> {
    if bytes.is_empty() {
        return Err(DetectError::new(
            "the file is empty",
            "build the guest again and look for errors of its build",
        ));
    }
    let Some(version) = bytes.strip_prefix(MAGIC) else {
        return Err(not_wasm(bytes));
    };
    let Some(version) = version.first_chunk::<4>() else {
        let what = format!(
            "the file is cut short: {} bytes, less than a WebAssembly header",
            bytes.len()
        );
        return Err(DetectError::new(what, "build or download the file again"));
    };
    let [low, high, layer_low, layer_high] = *version;
    let (version, layer) = (
        u16::from_le_bytes([low, high]),
        u16::from_le_bytes([layer_low, layer_high]),
    );
    match (version, layer) {
        _ if [low, high, layer_low, layer_high] == MODULE => Ok(()),
        (COMPONENT_VERSION, 1) => Ok(()),
        (older, 1) if older < COMPONENT_VERSION => Err(DetectError::new(
            format!(
                "a component of the pre-release binary format {older}; this host reads {COMPONENT_VERSION}"
            ),
            "build the component again with a toolchain of 2024 or newer",
        )),
        (other, 1) => Err(DetectError::new(
            format!("a component of binary format {other}; this host reads {COMPONENT_VERSION}"),
            "use a newer Hostel, or build the component with an older toolchain",
        )),
        (version, layer) => Err(DetectError::new(
            format!(
                "a WebAssembly file of version {version}, layer {layer}; this host reads core modules (1, 0) and components ({COMPONENT_VERSION}, 1)"
            ),
            "check where the file comes from; it may be damaged",
        )),
    }
}

/// How a file that people mistake for a guest begins, what it is, and what to do instead.
const KNOWN: &[(&[u8], &str, &str)] = &[
    (
        b"\x1f\x8b",
        "a gzip archive",
        "unpack it and name the .wasm file inside",
    ),
    (
        b"PK\x03\x04",
        "a zip archive",
        "unpack it and name the .wasm file inside",
    ),
    (
        b"\x28\xb5\x2f\xfd",
        "zstd-compressed data",
        "unpack it (`zstd -d`) and name the .wasm file",
    ),
    (
        b"\xfd7zXZ",
        "xz-compressed data",
        "unpack it (`xz -d`) and name the .wasm file",
    ),
    (
        b"MZ",
        "a Windows program",
        "build the program for wasm32-wasip2",
    ),
    (
        b"\xcf\xfa\xed\xfe",
        "a macOS program",
        "build the program for wasm32-wasip2",
    ),
    (
        b"!<arch>",
        "a static library",
        "link it into a .wasm file first",
    ),
    (
        b"BC\xc0\xde",
        "LLVM bitcode",
        "link it into a .wasm file first",
    ),
    (
        b"#!",
        "a script",
        "Hostel runs WebAssembly; build the guest to a .wasm file",
    ),
    (b"%PDF", "a PDF document", "name the guest's .wasm file"),
    (b"\x89PNG", "a picture", "name the guest's .wasm file"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull`",
    ),
    (
        b"{",
        "JSON",
        "name the guest's .wasm file, or the app's hostel.toml",
    ),
    (
        b"[",
        "a TOML file by its looks",
        "name a manifest hostel.toml or its folder with `hostel up` or `hostel check`",
    ),
    (
        b"<",
        "an HTML or XML page",
        "the download probably failed; open the address in a browser to see why",
    ),
];

fn not_wasm(bytes: &[u8]) -> DetectError {
    if let Some(rest) = bytes.strip_prefix(b"\x7fELF") {
        return elf(rest);
    }
    let text = bytes.trim_ascii_start();
    let known = KNOWN
        .iter()
        .find(|(start, ..)| bytes.starts_with(start) || text.starts_with(start));
    match known {
        Some((_, name, help)) => {
            DetectError::new(format!("not a WebAssembly file: this is {name}"), *help)
        }
        None => DetectError::new(
            "not a WebAssembly file: it starts neither with the bytes `\\0asm` nor as WebAssembly text",
            "name a .wasm file or a .wat file",
        ),
    }
}

/// `rest` follows the ELF magic: class, data, version, OS ABI.
fn elf(rest: &[u8]) -> DetectError {
    /// Wasmtime's private OS ABI number for code that it compiled ahead of time.
    const OSABI_WASMTIME: u8 = 200;
    match rest.get(3) {
        Some(&OSABI_WASMTIME) => DetectError::new(
            "code that Wasmtime compiled ahead of time (.cwasm), which is native code and never taken from outside",
            "name the .wasm file that it was made from; Hostel compiles it once and keeps the result",
        ),
        _ => DetectError::new(
            "not a WebAssembly file: this is a native program or library (ELF)",
            "build it for wasm32-wasip2",
        ),
    }
}
