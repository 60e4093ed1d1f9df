//! [`Text`]: a value with variables in it: `{{ title }}`.
//!
//! A variable's value is inserted as it is and never looked at again, so a value cannot name another variable, and
//! text that has to hold `{{` can come from one. What is known when the app is resolved is filled in then; what may change,
//! or is secret, stays a name until the value is needed.

use std::fmt;

/// Text, and the names of variables between it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Variable(String),
}

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextError {
    /// `{{` without `}}` behind it.
    Open,
    /// Nothing between the braces, or something that cannot be a name.
    NoName(String),
    /// No variable has this name.
    Unknown(String),
    /// The values need more room than there is: a few names can ask for a great deal of text.
    TooLong,
}

impl TextError {
    /// What is wrong with the text itself, and how to mend it.
    pub(crate) fn in_words(&self) -> (String, &'static str) {
        match self {
            Self::Open => ("\"{{\" without \"}}\"".to_owned(), "write {{ name }}"),
            Self::NoName(name) => (
                format!("\"{name}\" is not the name of a variable"),
                "write {{ name }}; text that has to hold \"{{\" can come from a variable",
            ),
            Self::Unknown(name) => (format!("there is no variable \"{name}\""), "declare it"),
            Self::TooLong => ("the value is too long".to_owned(), "use shorter variables"),
        }
    }
}

/// What is known of a variable when the app is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known<'v> {
    /// Its value.
    Value(&'v str),
    /// That there is one.
    Later,
    /// That there is no such variable.
    Unknown,
}

/// Why a text could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FillError<E> {
    /// A variable has no value.
    NoValue(E),
    /// The values take more room than they may.
    TooLong,
}

impl Text {
    /// Text without variables.
    pub fn literal(text: impl Into<String>) -> Self {
        let mut all = Self::default();
        all.push_text(&text.into());
        all
    }

    /// Text in which `{{ name }}` is a variable.
    pub(crate) fn parse(text: &str) -> Result<Self, TextError> {
        let mut all = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) = after.split_once("}}").ok_or(TextError::Open)?;
            let name = name.trim();
            if !crate::manifest::is_name(name) {
                return Err(TextError::NoName(name.to_owned()));
            }
            all.push_text(before);
            all.0.push(Part::Variable(name.to_owned()));
            rest = behind;
        }
        all.push_text(rest);
        Ok(all)
    }

    /// Fills in what is known. `room` is how many bytes all values together may still take; it shrinks by the length of the
    /// result.
    pub(crate) fn settle<'v>(
        self,
        room: &mut usize,
        known: impl Fn(&str) -> Known<'v>,
    ) -> Result<Self, TextError> {
        let mut all = Self::default();
        for part in self.0 {
            match part {
                Part::Text(text) => all.push_text(take(room, &text)?),
                Part::Variable(name) => match known(&name) {
                    Known::Value(value) => all.push_text(take(room, value)?),
                    Known::Later => all.0.push(Part::Variable(name)),
                    Known::Unknown => return Err(TextError::Unknown(name)),
                },
            }
        }
        Ok(all)
    }

    /// The text with a value for each variable, in at most `most` bytes.
    ///
    /// # Errors
    /// What `value` says, or the values are too long.
    pub fn fill<V: AsRef<str>, E>(
        &self,
        most: usize,
        value: impl Fn(&str) -> Result<V, E>,
    ) -> Result<String, FillError<E>> {
        let mut room = most;
        let mut out = String::new();
        for part in &self.0 {
            let filled;
            let text = match part {
                Part::Text(text) => text,
                Part::Variable(name) => {
                    filled = value(name).map_err(FillError::NoValue)?;
                    filled.as_ref()
                }
            };
            out.push_str(take(&mut room, text).map_err(|_| FillError::TooLong)?);
        }
        Ok(out)
    }

    /// The names of the variables in it; a name that is there twice comes twice.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Variable(name) => Some(name.as_str()),
        })
    }

    /// The whole text, if no variable is in it.
    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Pieces of text next to each other are one.
    fn push_text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.0.push(Part::Text(text.to_owned())),
        }
    }
}

fn take<'t>(room: &mut usize, text: &'t str) -> Result<&'t str, TextError> {
    *room = room.checked_sub(text.len()).ok_or(TextError::TooLong)?;
    Ok(text)
}

/// As it is written in a manifest.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Variable(name) => write!(f, "{{{{ {name} }}}}"),
        })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::literal(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::literal(text)
    }
}

/// Equal to text that has no variables.
impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.constant() == Some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Known<'static> {
        match name {
            "a" => Known::Value("1"),
            "nested" => Known::Value("{{ a }}"),
            "later" => Known::Later,
            _ => Known::Unknown,
        }
    }

    fn settled(text: &str, room: &mut usize) -> Result<Text, TextError> {
        Text::parse(text)?.settle(room, known)
    }

    #[test]
    fn what_is_known_is_filled_in() {
        for (text, expected) in [
            ("", ""),
            ("plain } }} {", "plain } }} {"),
            ("{{a}}{{ a }}{{\ta\n}}", "111"),
            ("x{{ nested }}y", "x{{ a }}y"),
        ] {
            let found = settled(text, &mut 100).expect(text);
            assert_eq!(found, expected, "{text}");
            assert_eq!(found.constant(), Some(expected));
        }
        for (text, error) in [
            ("{{ a", TextError::Open),
            ("{{ a }} {{", TextError::Open),
            ("{{}}", TextError::NoName(String::new())),
            ("{{ a b }}", TextError::NoName("a b".to_owned())),
            ("{{ {{ a }} }}", TextError::NoName("{{ a".to_owned())),
            ("{{ b }}", TextError::Unknown("b".to_owned())),
        ] {
            assert_eq!(settled(text, &mut 100), Err(error), "{text}");
        }
    }

    #[test]
    fn the_rest_is_filled_in_later() {
        let text = settled("<{{a}}{{ later }}{{ a }}>", &mut 100).expect("a text");
        assert_eq!(
            (text.constant(), text.to_string().as_str()),
            (None, "<1{{ later }}1>")
        );
        assert_eq!(text.variables().collect::<Vec<_>>(), ["later"]);
        let value = |name: &str| match name {
            "later" => Ok("{{ a }}"),
            other => Err(other.to_owned()),
        };
        assert_eq!(text.fill(100, value), Ok("<1{{ a }}1>".to_owned()));
        assert_eq!(text.fill(11, value), Ok("<1{{ a }}1>".to_owned()));
        assert_eq!(text.fill(10, value), Err(FillError::TooLong));
        let none = |name: &str| Err::<&str, _>(name.to_owned());
        assert_eq!(
            text.fill(100, none),
            Err(FillError::NoValue("later".to_owned()))
        );
    }

    #[test]
    fn room_is_used_up_and_never_exceeded() {
        let mut room = 10;
        assert!(settled("{{nested}}1", &mut room).is_ok());
        assert_eq!(room, 2);
        assert!(settled("xy", &mut room).is_ok());
        assert_eq!(settled("z", &mut room), Err(TextError::TooLong));
        let much = "{{nested}}".repeat(1000);
        assert_eq!(settled(&much, &mut 6999), Err(TextError::TooLong));
        assert!(settled(&much, &mut 7000).is_ok());
    }
}
