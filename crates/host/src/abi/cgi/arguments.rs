//! A program's arguments.

use hostel_app::Cgi;

const SCRIPT_NAME: &str = "${SCRIPT_NAME}";
const ARGS: &str = "${ARGS}";

/// The path comes first. Then the parts of the query between its `&`, as they were sent; or the component's own arguments,
/// if it has some: then no word of a client's is an argument.
pub(super) fn of(cgi: &Cgi, own: &[String], path: &str, query: Option<&str>) -> Vec<String> {
    if let Some(template) = &cgi.argv {
        return filled(template, path, query.unwrap_or_default());
    }
    let name = std::iter::once(path.to_owned());
    if !own.is_empty() {
        return name.chain(own.iter().cloned()).collect();
    }
    let words = query.map(|query| query.split('&').map(str::to_owned));
    name.chain(words.into_iter().flatten()).collect()
}

/// What stands for something is looked for in the template only: a path cannot bring it.
fn filled(template: &str, path: &str, query: &str) -> Vec<String> {
    let words = query.replace('&', " ");
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find("${") {
        let (before, found) = rest.split_at(at);
        text.push_str(before);
        rest = if let Some(behind) = found.strip_prefix(SCRIPT_NAME) {
            text.push_str(path);
            behind
        } else if let Some(behind) = found.strip_prefix(ARGS) {
            text.push_str(&words);
            behind
        } else {
            text.push_str("${");
            found.get(2..).unwrap_or_default()
        };
    }
    text.push_str(rest);
    text.split_whitespace().map(str::to_owned).collect()
}
