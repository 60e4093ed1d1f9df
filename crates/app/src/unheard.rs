//! Topics of an app that nothing in it handles: not wrong, since others may share the broker, but worth a line, since a broker
//! keeps nothing for a topic that nobody subscribes to.

use crate::app::App;

impl App {
    /// A sentence for each grant to publish or to ask, and for each topic of dead letters, that no `[[message]]` of this app
    /// has anything to do with.
    pub fn unheard(&self) -> Vec<String> {
        let mut all = Vec::new();
        for component in &self.components {
            let granted = &component.grants.messaging;
            let kinds = [
                ("publish", &granted.publish),
                ("send requests", &granted.request),
            ];
            for (what, patterns) in kinds {
                let unheard = patterns.iter().filter(|pattern| !self.hears(pattern));
                all.extend(unheard.map(|pattern| {
                    let name = &component.name;
                    format!("component \"{name}\": it may {what} to {pattern}, {NOBODY}")
                }));
            }
        }
        for trigger in &self.messages {
            let letter = trigger.dead_letter.as_ref();
            all.extend(letter.filter(|topic| !self.hears(topic)).map(|topic| {
                let from = &trigger.topic;
                format!("the dead letters of {from} go to {topic}, {NOBODY}")
            }));
        }
        all
    }

    fn hears(&self, pattern: &str) -> bool {
        let mut messages = self.messages.iter();
        messages.any(|trigger| have_a_topic_in_common(&trigger.topic, pattern))
    }
}

const NOBODY: &str = "and no [[message]] of this app handles such a topic";

/// Whether there is a topic that both patterns stand for.
fn have_a_topic_in_common(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(word), Some(also)) if word == also || word == "*" || also == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_topics_in_common_or_not() {
        for (one, other, common) in [
            ("a.b", "a.b", true),
            ("a.b", "a.*", true),
            ("*.b", "a.*", true),
            (">", "a", true),
            ("a.>", "*.b.c", true),
            ("a.>", "a", false),
            ("a.*", "b.*", false),
            ("a.b", "a.b.c", false),
        ] {
            assert_eq!(have_a_topic_in_common(one, other), common, "{one} {other}");
            assert_eq!(have_a_topic_in_common(other, one), common, "{other} {one}");
        }
    }
}
