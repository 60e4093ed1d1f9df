//! Messages that a guest writes to the log by name: level, context, text. They share the app's part of the log with what
//! it writes to its standard streams, and are one line each, whatever they contain.

use std::io::Write;

use hostel_app::limits;

use super::escape::escape_into;
use super::log::Channel;
use super::stdio::Origin;
use crate::state::{Host, Stdio};

impl Host {
    /// One message for the log.
    pub(crate) fn log_message(&self, level: &str, context: &str, message: &str) {
        let template = self.template();
        let log = match &template.stdio {
            Stdio::Log(log) => log,
            Stdio::Inherit => {
                let mut line = line(level, context, message);
                line.push(b'\n');
                // A closed standard error has nobody to tell.
                let _written = std::io::stderr().write_all(&line);
                return;
            }
        };
        let origin = Origin {
            component: template.metrics.clone(),
            request: self.request().clone(),
        };
        log.guest_message(&origin, Channel::Err, context.len() + message.len(), || {
            line(level, context, message)
        });
    }
}

/// `LEVEL CONTEXT: MESSAGE`, with control characters written out, made of no more than a line's worth of text.
fn line(level: &str, context: &str, message: &str) -> Vec<u8> {
    let most = limits::LOG_LINE_BYTES.size();
    let context = cut(context, most);
    let message = cut(message, most - context.len());
    let mut line = Vec::with_capacity(level.len() + context.len() + message.len() + 3);
    line.extend_from_slice(level.as_bytes());
    if !context.is_empty() {
        line.push(b' ');
        escape_into(&mut line, context.as_bytes());
    }
    line.extend_from_slice(b": ");
    escape_into(&mut line, message.as_bytes());
    line
}

/// The beginning of a text, at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_contains() {
        assert_eq!(line("info", "db", "ready"), b"info db: ready");
        assert_eq!(line("warn", "", ""), b"warn: ");
        assert_eq!(
            line("error", "a\nb", "x\r\nhostel: forged\x1b[2J"),
            b"error a\\x0ab: x\\x0d\\x0ahostel: forged\\x1b[2J"
        );
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let most = limits::LOG_LINE_BYTES.size();
        let euros = "\u{20ac}".repeat(most);
        let text = String::from_utf8(line("info", "", &euros)).unwrap();
        assert!(text.len() <= most + 6 && text.ends_with('\u{20ac}'));
        let text = line("info", &euros, &euros);
        assert!(text.len() <= most + 7, "{}", text.len());
    }
}
