//! Escapes of URLs: `%` and two hexadecimal digits stand for a byte.

use std::borrow::Cow;

/// The text with each escape as the byte that it stands for, except for bytes that `stays` names. What only looks like an escape is
/// left as it is.
pub fn unescaped(text: &str, stays: impl Fn(u8) -> bool) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = tail.first_chunk().copied().and_then(hex_pair);
        match escaped.filter(|value| byte == b'%' && !stays(*value)) {
            Some(value) => {
                bytes.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => bytes.push(byte),
        }
    }
    Cow::Owned(bytes)
}

/// The byte that two hexadecimal digits stand for.
pub(crate) fn hex_pair(pair: [u8; 2]) -> Option<u8> {
    let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_its_byte_and_everything_else_stays() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("plain", b"plain"),
            ("%41b%2F%ff", b"Ab/\xff"),
            ("%", b"%"),
            ("%4", b"%4"),
            ("%+5%g1%%41", b"%+5%g1%A"),
            ("a%00", b"a%00"),
        ] {
            assert_eq!(&*unescaped(text, |byte| byte == 0), bytes, "{text}");
        }
        assert_eq!(&*unescaped("%00", |_| false), b"\0");
    }
}
