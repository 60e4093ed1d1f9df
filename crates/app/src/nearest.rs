//! The "did you mean" behind every unknown name.

/// The candidate that `word` is most likely a slip of, if any is close enough to be worth naming. Only the first
/// hundred candidates are looked at: a manifest may hold ten thousand unknown names.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances grow with the product of the lengths; a name is short, an attack is not.
    if word.len() > 64 {
        return None;
    }
    let word = plain(word);
    candidates
        .into_iter()
        .take(100)
        .map(|candidate| (candidate, plain(candidate)))
        .filter(|(_, plain)| plain.len().abs_diff(word.len()) <= tolerance(plain))
        .map(|(candidate, plain)| {
            (
                strsim::osa_distance(&word, &plain),
                tolerance(&plain),
                candidate,
            )
        })
        .filter(|(distance, tolerance, _)| distance <= tolerance)
        .map(|(distance, _, candidate)| (distance, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case does not count, and an underscore is a dash.
fn plain(text: &str) -> String {
    text.to_lowercase().replace('-', "_")
}

/// How many slips of the keyboard a word may be away: one in three letters.
fn tolerance(candidate: &str) -> usize {
    candidate.len().div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let keys = ["route", "host", "methods", "component"];
        for (word, expected) in [
            ("rout", Some("route")),
            ("Route", Some("route")),
            ("methosd", Some("methods")),
            ("compnent", Some("component")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
        assert_eq!(nearest(&"route".repeat(1000), keys), None);
        assert_eq!(nearest("queue-wait", ["queue_wait"]), Some("queue_wait"));
    }
}
