//! The `[[cron]]` sections: each with its component.

use super::Assembly;
use crate::app::CronTrigger;
use crate::manifest::CronText;

impl Assembly<'_, '_> {
    pub(super) fn crons(&mut self, written: Vec<CronText>, names: &[&str]) -> Vec<CronTrigger> {
        let trigger = |text: CronText| CronTrigger {
            component: self.index(&text.component, names),
            schedule: text.schedule.value,
        };
        written.into_iter().map(trigger).collect()
    }
}
