//! How a key is written in a bucket.

/// A key as it is written in a bucket. Letters, digits, `-`, `_` and `/` stand for themselves, and so does a dot between two
/// other characters; every other byte of the key is `=` and two digits, and an empty key is `=`. So no key has an empty word,
/// a wildcard or white space, and no two keys are written alike.
pub(super) fn encoded(key: &str) -> String {
    if key.is_empty() {
        return "=".to_owned();
    }
    let bytes = key.as_bytes();
    let mut text = String::with_capacity(key.len());
    let mut dotted = true;
    for (at, byte) in bytes.iter().enumerate() {
        let dot = *byte == b'.' && !dotted && at + 1 < bytes.len();
        if dot || byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/') {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("={byte:02X}"));
        }
        dotted = dot;
    }
    text
}

/// The key that is written so; `None` for what [`encoded`] never writes: it is another client's.
pub(super) fn decoded(text: &str) -> Option<String> {
    if text == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = match (first, more) {
            (b'=', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                after
            }
            (plain, after) => {
                bytes.push(*plain);
                after
            }
        };
    }
    let key = String::from_utf8(bytes).ok()?;
    (encoded(&key) == text).then_some(key)
}

/// The whole words with which every key begins that has this prefix, each with its dot: they narrow the search.
pub(super) fn words(prefix: &str) -> String {
    let prefix = encoded(prefix);
    let words = prefix.rsplit_once('.');
    words.map_or_else(String::new, |(words, _)| format!("{words}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_in_one_way_and_without_what_a_server_would_heed() {
        for (key, written) in [
            ("user.42", "user.42"),
            ("a/b-c_D", "a/b-c_D"),
            ("", "="),
            (".", "=2E"),
            ("..", "=2E=2E"),
            ("a..b", "a.=2Eb"),
            (".a.", "=2Ea=2E"),
            ("*", "=2A"),
            ("a.>", "a.=3E"),
            ("a b\r\n", "a=20b=0D=0A"),
            ("=", "=3D"),
            ("\u{e9}", "=C3=A9"),
            ("\0", "=00"),
        ] {
            assert_eq!(encoded(key), written);
            assert_eq!(decoded(written).as_deref(), Some(key));
        }
        for other in [
            "=2", "=2e", "=41", "a..b", ".a", "a.", "=FF", "a b", "=+1", "a=",
        ] {
            assert_eq!(decoded(other), None, "{other}");
        }
    }

    #[test]
    fn a_prefix_narrows_the_search_to_its_whole_words() {
        for (prefix, narrowed) in [
            ("", ""),
            ("user", ""),
            ("user.", ""),
            ("user.4", "user."),
            ("a.b.c", "a.b."),
            ("a..b", "a."),
            ("*.x", "=2A."),
        ] {
            assert_eq!(words(prefix), narrowed, "{prefix}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_key_comes_back_and_its_prefixes_find_it(key in ".{0,24}", at in 0_usize..24) {
            let written = encoded(&key);
            proptest::prop_assert_eq!(decoded(&written), Some(key.clone()));
            proptest::prop_assert!(written.split('.').all(|word| !word.is_empty()));
            let prefix: String = key.chars().take(at).collect();
            proptest::prop_assert!(written.starts_with(&words(&prefix)));
        }
    }
}
