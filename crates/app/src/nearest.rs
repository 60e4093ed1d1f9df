//! The "did you mean" behind every unknown name.

/// The candidate that `word` is most likely a slip of, if any is close enough to be worth naming.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances grow with the product of the lengths; a name is short, an attack is not.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&lower, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein over letters; an underscore and a dash count as the same.
fn distance(word: &str, candidate: &str) -> usize {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    strsim::damerau_levenshtein(&plain(word), &plain(candidate))
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
