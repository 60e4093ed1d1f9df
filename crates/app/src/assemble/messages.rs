//! The `[[message]]` sections: each with its component, and no two that would take each other's messages away.

use std::collections::BTreeSet;

use super::Assembly;
use crate::app::MessageTrigger;
use crate::error::Kind;
use crate::manifest::MessageText;

impl Assembly<'_, '_> {
    pub(super) fn messages(
        &mut self,
        written: Vec<MessageText>,
        names: &[&str],
    ) -> Vec<MessageTrigger> {
        let mut known = BTreeSet::new();
        let mut all = Vec::with_capacity(written.len());
        for text in written {
            let component = self.index(&text.component, names);
            let group = text.group.unwrap_or(text.component.value);
            let same = (text.client.clone(), group.clone(), text.topic.clone());
            if !known.insert(same) {
                let what = format!(
                    "two [[message]] of the group \"{group}\" subscribe to \"{}\": each would get a part of the messages",
                    text.topic
                );
                let help = "give one of them another group";
                self.report.at(Kind::BadValue, text.span, what, help);
            }
            all.push(MessageTrigger {
                topic: text.topic,
                component,
                group,
                client: text.client,
                concurrency: text.concurrency,
                deliveries: text.deliveries,
                dead_letter: text.dead_letter,
                ordered_by: text.ordered_by,
                export: text.export,
            });
        }
        all
    }
}
