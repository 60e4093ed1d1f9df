//! Grants that are names: labels of stores and brokers, patterns of topics, secrets.
//!
//! A label becomes a part of file names, of keys and of subjects at servers, together with the app's name, so it is as plain
//! as that. A topic is made of words that mean nothing special to any broker.

use super::GrantError;
use crate::manifest::is_name;

/// The longest pattern of topics; a topic cannot be longer either.
const TOPIC_BYTES_MAX: usize = 256;

const NAMES: &str = "use up to 64 letters, digits, \"-\" and \"_\", a letter or digit first";

/// A label of a store or of a broker.
pub(crate) fn label(text: &str) -> Result<String, GrantError> {
    plain(text, "the label of a store")
}

/// The name of a secret: of a variable that is declared as one.
pub(crate) fn secret(text: &str) -> Result<String, GrantError> {
    plain(text, "the name of a secret")
}

/// A pattern of topics: words separated by dots, `*` for one word, `>` at the end for one or more.
pub(crate) fn topics(text: &str) -> Result<String, GrantError> {
    let words = text.strip_suffix(".>").unwrap_or(text);
    let good = text == ">" || words.split('.').all(|word| word == "*" || is_word(word));
    if good && text.len() <= TOPIC_BYTES_MAX {
        return Ok(text.to_owned());
    }
    let what = format!("\"{text}\" is not a pattern of topics");
    let help = if text.len() > TOPIC_BYTES_MAX {
        "use at most 256 bytes"
    } else {
        "write words of letters, digits, \"-\" and \"_\" with dots between them, \"*\" for any one word, \">\" at the end for any \
         words: orders.*"
    };
    Err(GrantError::new(what, help))
}

/// One topic, without wildcards.
pub(crate) fn topic(text: &str) -> Result<String, GrantError> {
    match text.contains(['*', '>']) {
        false => topics(text).map_err(|error| GrantError {
            what: error.what.replace("a pattern of topics", "a topic"),
            help: error.help,
        }),
        true => Err(GrantError::new(
            format!("\"{text}\" is a pattern, not a topic"),
            "write one topic: orders.failed",
        )),
    }
}

/// The name that subscribers share.
pub(crate) fn group(text: &str) -> Result<String, GrantError> {
    plain(text, "the name of a group")
}

/// Whether a topic is one of those that the pattern stands for.
pub(crate) fn stands_for(pattern: &str, topic: &str) -> bool {
    let mut words = topic.split('.');
    for part in pattern.split('.') {
        match (part, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(word)) if part == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

fn plain(text: &str, of: &str) -> Result<String, GrantError> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(GrantError::new(format!("\"{text}\" is not {of}"), NAMES)),
    }
}

fn is_word(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !word.is_empty() && word.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain() {
        for text in ["default", "a", "Sessions_2", "7-up", &"a".repeat(64)] {
            assert_eq!(label(text).as_deref(), Ok(text));
            assert_eq!(secret(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "-a",
            "_a",
            "a.b",
            "a/b",
            "a b",
            "a:b",
            "*",
            "\u{e9}",
            "a\0",
            &"a".repeat(65),
        ] {
            assert!(label(text).is_err() && secret(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_words_with_wildcards() {
        for text in [
            "a",
            "orders.created",
            "orders.*",
            "*.b",
            "a.>",
            "*",
            ">",
            "a-b_c.9",
        ] {
            assert_eq!(topics(text).as_deref(), Ok(text));
        }
        for text in [
            "", ".", "a.", ".a", "a..b", "a b", "a*", "a.>.b", ">.a", "a>", "\u{e9}", "$SYS.a",
            "a/b", "a\0",
        ] {
            let error = topics(text).expect_err(text);
            assert!(error.help.contains("orders.*"), "{}", error.help);
        }
        let long = "a".repeat(TOPIC_BYTES_MAX + 1);
        assert!(topics(&long).is_err_and(|error| error.help.contains("256")));
    }
}
