//! Text from outside, made safe to stand in one line of a log or a terminal.

/// Copies text with control characters written out (`\x1b`), tabs kept and bytes that are not UTF-8 as `\xff`.
pub(super) fn escape_into(target: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && character != '\t' {
                target.extend(format!("\\x{:02x}", u32::from(character)).bytes());
            } else {
                target.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            target.extend(format!("\\x{byte:02x}").bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_ends_a_line_is_written_out() {
        let mut line = Vec::new();
        escape_into(&mut line, b"a\tb\n\x1b[2J\xff \xc3\xa9\xc2\x9b");
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "a\tb\\x0a\\x1b[2J\\xff \u{e9}\\x9b"
        );
    }
}
