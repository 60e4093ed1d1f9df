//! Reads Rust source the way the rules need it: without comments and literals, and without tests.
//!
//! This is no parser. It knows just enough of the language to tell code from comments, strings and
//! characters, and it trusts the formatter for the shape of a test module.

/// The code of a file with every comment and literal blanked out; lines keep their numbers.
pub(super) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => line_comment(rest),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if !ends_in_word(&code) => raw_string(rest).unwrap_or(0),
            '\'' => character(rest).unwrap_or(0),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        } else {
            let (literal, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
            code.extend(literal.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = behind;
        }
    }
    code
}

/// The lines before a file's first inline test module. The formatter leaves such a module at the end.
pub(super) fn without_tests(text: &str) -> &str {
    let marks = ["", "pub(super) ", "pub(crate) "]
        .map(|visible| format!("#[cfg(test)]\n{visible}mod tests {{"));
    let start = marks.iter().filter_map(|mark| text.find(mark)).min();
    start.and_then(|start| text.get(..start)).unwrap_or(text)
}

/// The names of all tests: functions under a test attribute, those of a program of its own that say so in the line above, and
/// the cases of a suite, of which a macro makes a test for each driver.
pub(super) fn test_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut awaited = false;
    for line in text.lines().map(str::trim) {
        let is_case = ["(subject: &Subject) {", "(driver: &Driver) {"]
            .iter()
            .any(|arguments| line.starts_with("pub") && line.ends_with(arguments));
        if line.starts_with("#[test]")
            || line.starts_with("#[tokio::test")
            || line == "// A test of its own."
        {
            awaited = true;
        } else if (awaited || is_case)
            && let Some((_, signature)) = line.split_once("fn ")
        {
            names.extend(signature.split(['(', '<']).next());
            awaited = false;
        }
    }
    names
}

/// Whether `word` stands in `code` on its own, not as a part of a longer name.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(start, _)| {
        let before = code.get(..start).unwrap_or_default();
        let after = code.get(start + word.len()..).unwrap_or_default();
        !ends_in_word(before) && !after.starts_with(is_word)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(is_word)
}

fn line_comment(rest: &str) -> usize {
    rest.find('\n').unwrap_or(rest.len())
}

/// A block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        let step = if tail.starts_with("/*") {
            depth += 1;
            2
        } else if tail.starts_with("*/") {
            depth = depth.saturating_sub(1);
            2
        } else {
            tail.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// A string literal, from its opening quote to its closing one.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A raw string literal, if one begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let marks = rest.get(1..)?.chars().take_while(|c| *c == '#').count();
    let body = 1 + marks;
    rest.get(body..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let inside = rest.get(body + 1..)?;
    Some(
        inside
            .find(&end)
            .map_or(rest.len(), |at| body + 1 + at + end.len()),
    )
}

/// A character literal, if this quote begins one and not a lifetime.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.get(1..)?;
    if let Some(escape) = inside.strip_prefix('\\') {
        // The escaped character itself may be a quote.
        let behind = escape.char_indices().nth(1)?.0;
        let close = escape.get(behind..)?.find('\'')?;
        return Some(2 + behind + close + 1);
    }
    let c = inside.chars().next()?;
    inside.get(c.len_utf8()..)?.strip_prefix('\'')?;
    Some(1 + c.len_utf8() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_with_and_without_an_attribute() {
        let text = "#[test]\nfn one() {\npub(crate) async fn two(subject: &Subject) {\nfn helper(subject: &Subject) {\n\
                    // A test of its own.\nfn three() {\nfn other() {";
        assert_eq!(test_names(text), ["one", "two", "three"]);
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text = "a // b\nc /* d\n/* e */ f */ g \"h \\\" i\" j r#\"k \" l\"# m";
        let code = code_only(text);
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "c", "g", "j", "m"]);
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn characters_are_literals_and_lifetimes_are_code() {
        let code = code_only(r"x('{', '\'', '\u{41}', '\\') fn f<'a>(b: &'a str) y");
        assert!(code.contains("fn f<'a>(b: &'a str) y"), "{code}");
        assert!(!code.contains('{') && !code.contains("41"), "{code}");
    }

    #[test]
    fn a_name_that_ends_in_r_begins_no_raw_string() {
        assert_eq!(code_only("for\"x\";").replace(' ', ""), "for;");
        assert_eq!(code_only("r\"x\"y").trim(), "y");
    }

    #[test]
    fn an_open_literal_ends_with_the_file() {
        assert_eq!(code_only("a \"bc").trim(), "a");
        assert_eq!(code_only("a /* bc").trim(), "a");
        assert_eq!(code_only("a r#\"bc").trim(), "a");
    }

    #[test]
    fn words_are_found_on_their_own_only() {
        assert!(has_word("x { unsafe { } }", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("not_unsafe", "unsafe"));
    }

    #[test]
    fn tests_are_cut_off_and_named() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n#[test]\nfn b() {}\n\
                    #[tokio::test(flavor = \"x\")]\nasync fn c() {}\nfn d() {}\n}\n";
        assert_eq!(without_tests(text), "fn a() {}\n");
        assert_eq!(test_names(text), ["b", "c"]);
        assert_eq!(without_tests("fn a() {}"), "fn a() {}");
        let shared = text.replace("mod tests", "pub(super) mod tests");
        assert_eq!(without_tests(&shared), "fn a() {}\n");
    }
}
