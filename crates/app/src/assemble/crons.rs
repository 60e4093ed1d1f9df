//! The `[[cron]]` sections: each with its component, its schedule as it is understood, and a name of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::Assembly;
use crate::app::{CronRun, CronTrigger};
use crate::error::Kind;
use crate::fields::At;
use crate::manifest::{CronText, RunText};
use crate::schedule::{Schedule, ScheduleError};

/// Where the manifest names no zone.
const ZONE: &str = "UTC";

/// Schedules by their expression and zone: many sections may say the same.
type Understood = BTreeMap<(String, String), Result<Schedule, ScheduleError>>;

impl Assembly<'_, '_> {
    pub(super) fn crons(&mut self, written: Vec<CronText>, names: &[&str]) -> Vec<CronTrigger> {
        let mut understood = Understood::new();
        let mut known: BTreeSet<String> = written
            .iter()
            .filter_map(|text| Some(text.name.as_ref()?.value.clone()))
            .collect();
        let mut taken = BTreeSet::new();
        let mut counts = BTreeMap::new();
        let mut all = Vec::with_capacity(written.len());
        for text in written {
            let component = self.index(&text.component, names);
            let schedule = self.schedule(&text, &mut understood);
            let name = match text.name {
                Some(At { value, span }) => {
                    if !taken.insert(value.clone()) {
                        let what = format!("two [[cron]] have the name \"{value}\"");
                        let help = "give one of them another name: what is remembered of them would be mixed up";
                        self.report.at(Kind::BadValue, span, what, help);
                    }
                    value
                }
                None => unnamed(&text.component.value, &mut counts, &mut known),
            };
            let run = match text.run {
                RunText::Job { args } => CronRun::Job {
                    args: args.map(|args| self.args(&args)),
                },
                RunText::Export(name) => CronRun::Export(name),
                RunText::Path(path) => CronRun::Path(path),
            };
            all.extend(schedule.map(|schedule| CronTrigger {
                name,
                schedule,
                component,
                run,
                missed: text.missed,
                overlap: text.overlap,
                jitter_ms: text.jitter_ms,
            }));
        }
        all
    }

    fn schedule(&mut self, text: &CronText, understood: &mut Understood) -> Option<Schedule> {
        let zone = text.timezone.as_ref();
        let key = (
            text.schedule.value.clone(),
            zone.map_or(ZONE, |zone| zone.value.as_str()).to_owned(),
        );
        let schedule = understood
            .entry(key)
            .or_insert_with_key(|(expression, zone)| Schedule::parse(expression, zone));
        match schedule {
            Ok(schedule) => Some(schedule.clone()),
            Err(error) => {
                let at = zone.filter(|_| error.of_zone);
                let span = at.map_or(&text.schedule.span, |zone| &zone.span).clone();
                let ScheduleError { what, help, .. } = error.clone();
                self.report.at(Kind::BadValue, span, what, help);
                None
            }
        }
    }

    /// Arguments, whose variables have to be known when the app is resolved.
    fn args(&mut self, written: &[At<String>]) -> Vec<String> {
        let mut all = Vec::with_capacity(written.len());
        for arg in written {
            let text = self.expanded(arg, &BTreeSet::new());
            match text.constant() {
                Some(arg) => all.push(arg.to_owned()),
                None => {
                    let what = format!("\"{}\" may change while the app runs", arg.value);
                    let help = "put the variable into args of the [component]: it is looked up for every run";
                    self.report.at(Kind::BadValue, arg.span.clone(), what, help);
                }
            }
        }
        all
    }
}

/// `COMPONENT-1` and so on, in the order of the manifest, past names that the manifest gives to others.
fn unnamed(
    component: &str,
    counts: &mut BTreeMap<String, usize>,
    known: &mut BTreeSet<String>,
) -> String {
    let count = counts.entry(component.to_owned()).or_default();
    loop {
        *count += 1;
        let name = format!("{component}-{count}");
        if known.insert(name.clone()) {
            return name;
        }
    }
}
