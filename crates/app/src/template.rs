//! Values with variables in them: `{{ title }}`.
//!
//! A variable's value is inserted as it is and never looked at again, so a value cannot name another variable, and
//! text that has to hold `{{` can come from one.

/// Why a template was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// `{{` without `}}` behind it.
    Open,
    /// Nothing between the braces, or something that cannot be a name.
    NoName(String),
    /// No variable has this name.
    Unknown(String),
    /// The values need more room than there is: a few names can ask for a great deal of text.
    TooLong,
}

/// The text with every `{{ name }}` replaced by what `value` gives for it. `room` is how many bytes all values
/// together may still take; it shrinks by the length of the result.
pub(crate) fn expand<'v>(
    text: &str,
    room: &mut usize,
    value: impl Fn(&str) -> Option<&'v str>,
) -> Result<String, TemplateError> {
    let mut take = |bytes: usize| {
        *room = room.checked_sub(bytes).ok_or(TemplateError::TooLong)?;
        Ok::<_, TemplateError>(())
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, behind) = after.split_once("}}").ok_or(TemplateError::Open)?;
        let name = name.trim();
        if !crate::manifest::is_name(name) {
            return Err(TemplateError::NoName(name.to_owned()));
        }
        let value = value(name).ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
        take(before.len() + value.len())?;
        out.push_str(before);
        out.push_str(value);
        rest = behind;
    }
    take(rest.len())?;
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let value = |name: &str| match name {
            "a" => Some("1"),
            "nested" => Some("{{ a }}"),
            _ => None,
        };
        for (text, expected) in [
            ("", Ok("")),
            ("plain } }} {", Ok("plain } }} {")),
            ("{{a}}{{ a }}{{\ta\n}}", Ok("111")),
            ("x{{ nested }}y", Ok("x{{ a }}y")),
            ("{{ a", Err(TemplateError::Open)),
            ("{{ a }} {{", Err(TemplateError::Open)),
            ("{{}}", Err(TemplateError::NoName(String::new()))),
            ("{{ a b }}", Err(TemplateError::NoName("a b".to_owned()))),
            (
                "{{ {{ a }} }}",
                Err(TemplateError::NoName("{{ a".to_owned())),
            ),
            ("{{ b }}", Err(TemplateError::Unknown("b".to_owned()))),
        ] {
            assert_eq!(
                expand(text, &mut 100, value),
                expected.map(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn room_is_used_up_and_never_exceeded() {
        let value = |_: &str| Some("four");
        let mut room = 10;
        assert_eq!(
            expand("{{a}}{{a}}", &mut room, value),
            Ok("fourfour".to_owned())
        );
        assert_eq!(room, 2);
        assert_eq!(expand("xy", &mut room, value), Ok("xy".to_owned()));
        assert_eq!(expand("z", &mut room, value), Err(TemplateError::TooLong));
        assert_eq!(
            expand(&"{{a}}".repeat(1000), &mut 3999, value),
            Err(TemplateError::TooLong)
        );
        assert_eq!(
            expand(&"{{a}}".repeat(1000), &mut 4000, value).map(|text| text.len()),
            Ok(4000)
        );
    }
}
