//! The text of a route pattern, and the one spelling in which patterns and paths are compared.

use std::borrow::Cow;

use super::Spelling;
use crate::escapes::hex_pair;
use crate::limits;

/// One piece of a pattern between slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// Itself, in the normal spelling; may be empty (`/a/` ends in an empty one).
    Literal(String),
    /// `:name`: exactly one segment that is not empty.
    Param,
    /// `...`: any number of segments, also none. Always last.
    Rest,
}

/// What is wrong with a pattern and how to mend it.
pub(super) type Refusal = (String, String);

/// Splits a pattern into its segments.
pub(super) fn parse(pattern: &str, spelling: Spelling) -> Result<Vec<Segment>, Refusal> {
    let Some(body) = pattern.strip_prefix('/') else {
        let help = format!("write \"/{pattern}\"");
        return Err((
            format!("the route \"{pattern}\" does not start with \"/\""),
            help,
        ));
    };
    if pattern.contains(['?', '#']) {
        return Err((
            format!("the route \"{pattern}\" is more than a path"),
            "leave out query and fragment: a route is chosen by host, method and path".to_owned(),
        ));
    }
    let segments = match spelling {
        Spelling::Named => named(pattern, body)?,
        Spelling::Rest | Spelling::Literal => plain(pattern, body, spelling)?,
    };
    check_length(pattern, segments.len())?;
    Ok(segments)
}

/// A pattern of so many segments must not be too long.
pub(super) fn check_length(pattern: &str, segments: usize) -> Result<(), Refusal> {
    let most = limits::ROUTE_SEGMENTS_MAX.size();
    if segments <= most {
        return Ok(());
    }
    let start: String = pattern.chars().take(32).collect();
    Err((
        format!("the route \"{start}...\" has {segments} segments"),
        format!("a route has at most {most}; take the rest of the path with \"...\""),
    ))
}

/// Segments among which some stand for others.
fn named(pattern: &str, body: &str) -> Result<Vec<Segment>, Refusal> {
    let mut segments = Vec::new();
    for text in body.split('/') {
        if segments.last() == Some(&Segment::Rest) {
            return Err((
                format!("the route \"{pattern}\" goes on after \"...\""),
                "\"...\" takes the rest of the path, so it stands at the end".to_owned(),
            ));
        }
        segments.push(parse_segment(pattern, text)?);
    }
    Ok(segments)
}

/// Segments that are themselves, but for a last one that is the rest where it may be.
fn plain(pattern: &str, body: &str, spelling: Spelling) -> Result<Vec<Segment>, Refusal> {
    no_control(pattern, body)?;
    let (body, rest) = match body.rsplit_once('/').unwrap_or(("", body)) {
        (before, "...") if spelling == Spelling::Rest => (before, true),
        _ => (body, false),
    };
    let literal = |text| Segment::Literal(normal(text).into_owned());
    let mut segments: Vec<Segment> = match rest && body.is_empty() && !pattern.starts_with("//") {
        true => Vec::new(),
        false => body.split('/').map(literal).collect(),
    };
    segments.extend(rest.then_some(Segment::Rest));
    Ok(segments)
}

fn no_control(pattern: &str, text: &str) -> Result<(), Refusal> {
    match text.chars().any(char::is_control) {
        false => Ok(()),
        true => Err((
            format!("the route {pattern:?} holds a control character"),
            "leave it out, or write it as %XX".to_owned(),
        )),
    }
}

fn parse_segment(pattern: &str, text: &str) -> Result<Segment, Refusal> {
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match text.strip_prefix(':') {
        _ if text == "..." => return Ok(Segment::Rest),
        Some(name) if !name.is_empty() && name.chars().all(named) => return Ok(Segment::Param),
        Some(_) => {
            return Err((
                format!("\"{text}\" in the route \"{pattern}\" is not a name"),
                "write a colon and letters, digits, \"-\" or \"_\": /users/:id".to_owned(),
            ));
        }
        None => {}
    }
    if text.ends_with("...") || text.contains('*') {
        return Err((
            format!("\"{text}\" in the route \"{pattern}\" is not a segment"),
            "write \"/...\" for the rest of the path, \":name\" for one segment of any text"
                .to_owned(),
        ));
    }
    if text.starts_with('{') && text.ends_with('}') {
        let name = text.trim_matches(['{', '}']);
        return Err((
            format!("\"{text}\" in the route \"{pattern}\" is not a segment"),
            format!("write \":{name}\" for one segment of any text"),
        ));
    }
    no_control(pattern, text)?;
    let mut escapes = text.split('%').skip(1);
    if !escapes.all(|rest| {
        rest.as_bytes()
            .first_chunk()
            .copied()
            .and_then(hex_pair)
            .is_some()
    }) {
        return Err((
            format!(
                "\"{text}\" in the route \"{pattern}\" has a \"%\" without two hexadecimal digits"
            ),
            "write the character itself, or %25 for a percent sign".to_owned(),
        ));
    }
    Ok(Segment::Literal(normal(text).into_owned()))
}

/// The one spelling of a path (RFC 3986, section 6.2.2): escapes of unreserved characters are decoded, other escapes
/// written in upper case, and bytes that a path cannot hold escaped. `/%61dmin` is `/admin`, `%2f` stays an escape.
/// Dot segments and double slashes are left alone: the guest sees the path as it was sent, so routes must too.
pub(super) fn normal(path: &str) -> Cow<'_, str> {
    if path.bytes().all(is_plain) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 16);
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match tail.first_chunk().copied().and_then(hex_pair) {
            Some(value) if byte == b'%' => {
                rest = tail.get(2..).unwrap_or(&[]);
                if is_unreserved(value) {
                    out.push(char::from(value))
                } else {
                    escape(&mut out, value)
                }
            }
            _ if byte == b'%' || is_plain(byte) => out.push(char::from(byte)),
            _ => escape(&mut out, byte),
        }
    }
    Cow::Owned(out)
}

fn escape(out: &mut String, byte: u8) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    out.push('%');
    out.extend(
        [byte >> 4, byte & 15]
            .iter()
            .filter_map(|digit| DIGITS.get(usize::from(*digit))),
    );
}

/// Never changes its meaning when it is escaped.
fn is_unreserved(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
}

/// What a path holds without escapes: unreserved characters, sub-delimiters, colon, at and slash.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':'
                | b'@'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (sent, compared) in [
            ("/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/%41", "/A"),
            ("/%7e", "/~"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a/%2e%2E/b", "/a/../b"),
            ("/a//b", "/a//b"),
            ("/100%", "/100%"),
            ("/%", "/%"),
            ("/%6", "/%6"),
            ("/%zz", "/%zz"),
            ("/%%61", "/%a"),
            ("/%2561", "/%2561"),
            ("/käse", "/k%C3%A4se"),
            ("/k%c3%a4se", "/k%C3%A4se"),
            ("/{x}", "/%7Bx%7D"),
            ("/%00", "/%00"),
        ] {
            assert_eq!(normal(sent), compared, "{sent}");
        }
        assert!(
            matches!(normal("/usual/path:1"), Cow::Borrowed(_)),
            "the usual path allocates nothing"
        );
    }

    #[test]
    fn segments() {
        let literal = |text: &str| Segment::Literal(text.to_owned());
        for (pattern, segments) in [
            ("/", vec![literal("")]),
            ("/...", vec![Segment::Rest]),
            (
                "/a/:id/...",
                vec![literal("a"), Segment::Param, Segment::Rest],
            ),
            ("/a/", vec![literal("a"), literal("")]),
            ("/%61", vec![literal("a")]),
            ("/%2e%2e%2e", vec![literal("...")]),
            ("/a:b", vec![literal("a:b")]),
        ] {
            let parsed = parse(pattern, Spelling::Named);
            assert_eq!(parsed.as_ref(), Ok(&segments), "{pattern}");
        }
    }

    #[test]
    fn where_no_segment_has_a_name_every_one_is_itself() {
        let literal = |text: &str| Segment::Literal(text.to_owned());
        for (pattern, rest, all_literal) in [
            ("/", vec![literal("")], vec![literal("")]),
            ("/...", vec![Segment::Rest], vec![literal("...")]),
            (
                "//...",
                vec![literal(""), Segment::Rest],
                vec![literal(""), literal("...")],
            ),
            (
                "/a/:id/...",
                vec![literal("a"), literal(":id"), Segment::Rest],
                vec![literal("a"), literal(":id"), literal("...")],
            ),
            (
                "/.../a*",
                vec![literal("..."), literal("a*")],
                vec![literal("..."), literal("a*")],
            ),
            ("/a...", vec![literal("a...")], vec![literal("a...")]),
            ("/100%", vec![literal("100%")], vec![literal("100%")]),
            (
                "/{x}/",
                vec![literal("%7Bx%7D"), literal("")],
                vec![literal("%7Bx%7D"), literal("")],
            ),
        ] {
            let parsed = |spelling| parse(pattern, spelling);
            assert_eq!(parsed(Spelling::Rest).as_ref(), Ok(&rest), "{pattern}");
            let parsed = parsed(Spelling::Literal);
            assert_eq!(parsed.as_ref(), Ok(&all_literal), "{pattern}");
        }
        for bad in ["a", "/a?b", "/a\u{7}"] {
            assert!(parse(bad, Spelling::Rest).is_err(), "{bad}");
        }
    }
}
