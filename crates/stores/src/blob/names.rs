//! Names of objects as file names and as keys of a server: any text in, a few harmless characters out, and back again.
//!
//! What is readable stays readable; every other byte becomes an escape of three characters. The result is the same on file
//! systems that ignore case, has no path separator, and no component is `.` or `..`.

use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Characters of one file name; what is longer goes into folders.
const COMPONENT: usize = 200;
/// Ends the name of a folder, so that it can never be the name of an object's file.
const FOLDER: char = '+';
/// The longest name of an object, in bytes, that is kept in files. S3's keys end at the same length.
pub(super) const NAME_BYTES_MAX: usize = 1024;

/// An error unless the name fits.
pub(super) fn check_length(name: &str) -> Result<()> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: "a name",
        bytes: name.len() as u64,
        most: NAME_BYTES_MAX as u64,
    })
}

/// Where the object of this name is, below the container's folder of objects.
pub(super) fn to_path(name: &str) -> PathBuf {
    // The empty name is an escape without digits, which no other name has.
    let text = match name {
        "" => "%".to_owned(),
        name => escape(name, '%', |byte, at| match byte {
            // Neither hidden, nor `.` or `..`.
            b'.' => at % COMPONENT != 0,
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' => true,
            _ => false,
        }),
    };
    let mut path = PathBuf::new();
    let mut rest = text.as_str();
    while let Some((folder, more)) = rest
        .split_at_checked(COMPONENT)
        .filter(|(_, more)| !more.is_empty())
    {
        path.push(format!("{folder}{FOLDER}"));
        rest = more;
    }
    path.push(rest);
    path
}

/// The name of the object that is there; `None` for a file that is not ours.
pub(super) fn from_path(path: &Path) -> Option<String> {
    let mut text = String::new();
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let component = component.as_os_str().to_str()?;
        match components.peek() {
            Some(_) => text.push_str(component.strip_suffix(FOLDER)?),
            None => text.push_str(component),
        }
    }
    let name = match text.as_str() {
        "%" => String::new(),
        text => unescape(text, '%')?,
    };
    (to_path(&name) == path).then_some(name)
}

/// The end of the key of this name's object.
pub(super) fn to_key(name: &str) -> String {
    match name {
        "" => "!".to_owned(),
        name => escape(name, '!', |byte, at| match byte {
            b'.' => at != 0,
            b'-' | b'_' => true,
            byte => byte.is_ascii_alphanumeric(),
        }),
    }
}

/// The name of the object whose key ends so; `None` for an object that is not ours.
pub(super) fn from_key(key: &str) -> Option<String> {
    let name = match key {
        "!" => String::new(),
        key => unescape(key, '!')?,
    };
    (to_key(&name) == key).then_some(name)
}

/// Replaces every byte that is not kept at its place in the result.
fn escape(name: &str, mark: char, keep: impl Fn(u8, usize) -> bool) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if keep(byte, text.len()) {
            text.push(char::from(byte));
        } else {
            text.push(mark);
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or_default()),
            );
        }
    }
    text
}

fn unescape(text: &str, mark: char) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next == mark {
            let (high, low) = (rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(u8::try_from(next).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_harmless_can_be_read() {
        for (name, path, key) in [
            ("photo-1.jpg", "photo-1.jpg", "photo-1.jpg"),
            ("Photo.JPG", "%50hoto.%4a%50%47", "Photo.JPG"),
            ("a/b", "a%2fb", "a!2fb"),
            ("..", "%2e.", "!2e."),
            (".", "%2e", "!2e"),
            ("", "%", "!"),
            ("a\0", "a%00", "a!00"),
            ("%41", "%2541", "!2541"),
            ("!", "%21", "!21"),
        ] {
            assert_eq!(to_path(name), Path::new(path));
            assert_eq!(to_key(name), key);
        }
        for foreign in ["%4", "%41x+y", "A", "a%2Fb", "a\u{e9}", "%61", "x+/y"] {
            assert_eq!(from_path(Path::new(foreign)), None, "{foreign}");
        }
        assert_eq!(from_key("!61"), None);
    }

    #[test]
    fn a_long_name_is_in_folders_that_are_no_file_s_name() {
        for name in ["x".repeat(1024), "\u{0}".repeat(1024), ".".repeat(1024)] {
            let path = to_path(&name);
            for component in path.components() {
                let text = component.as_os_str().to_str().unwrap();
                assert!(text.len() <= COMPONENT + 1 && !text.starts_with('.'));
            }
            assert_eq!(from_path(&path), Some(name));
        }
        assert!(to_path(&"x".repeat(200)).components().count() == 1);
        assert!(check_length(&"x".repeat(1024)).is_ok());
        assert!(check_length(&"x".repeat(1025)).is_err());
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{0,80}|[./%+!a-cA-C\\x00]{0,80}|[.%a]{190,260}") {
            prop_assert_eq!(from_path(&to_path(&name)), Some(name.clone()));
            prop_assert_eq!(from_key(&to_key(&name)), Some(name));
        }

        #[test]
        fn names_differ_where_case_does_not_count(one in "[aA./%]{0,6}", other in "[aA./%]{0,6}") {
            let lower = |name: &str| to_path(name).to_str().unwrap().to_lowercase();
            prop_assert_eq!(one == other, lower(&one) == lower(&other));
        }
    }
}
