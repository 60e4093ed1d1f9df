//! The `[[service]]` sections: each with its component and where it listens, and no two in each other's place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Assembly;
use crate::app::{Ready, ServiceTrigger};
use crate::error::Kind;
use crate::fields::At;
use crate::listen_on::ListenOn;
use crate::manifest::ServiceText;

/// What is taken, and where in the text that was said.
#[derive(Default)]
struct Taken {
    names: BTreeMap<String, usize>,
    components: BTreeMap<String, usize>,
    places: BTreeMap<ListenOn, usize>,
}

impl Assembly<'_, '_> {
    pub(super) fn services(
        &mut self,
        written: Vec<ServiceText>,
        names: &[&str],
    ) -> Vec<ServiceTrigger> {
        let mut taken = Taken::default();
        let services = written.into_iter();
        services
            .map(|text| self.service(text, names, &mut taken))
            .collect()
    }

    fn service(&mut self, text: ServiceText, names: &[&str], taken: &mut Taken) -> ServiceTrigger {
        let component = self.index(&text.component, names);
        let other = taken
            .components
            .insert(text.component.value.clone(), text.component.span.start);
        if let Some(other) = other {
            let (what, line) = (&text.component.value, self.report.line(other));
            let what = format!("the component \"{what}\" is a service already: see line {line}");
            let help = "for several guests of it write instances = 2; for other arguments make another component of the same \
                        source";
            let span = text.component.span.clone();
            self.report.at(Kind::BadValue, span, what, help);
        }
        let name = text.name.unwrap_or(text.component.value);
        let same_name = taken.names.insert(name.clone(), text.span.start);
        // A component that is there twice was reported.
        if let (Some(line), None) = (same_name, other) {
            let line = self.report.line(line);
            let what = format!("another service is called \"{name}\": see line {line}");
            let help = "give one of them another name";
            self.report.at(Kind::BadValue, text.span, what, help);
        }
        let mut listen = Vec::with_capacity(text.listen.len());
        for written in &text.listen {
            listen.extend(self.place(written, &mut taken.places));
        }
        let args = text.args.iter().filter_map(|arg| self.known(arg)).collect();
        let at_first_client = match listen.is_empty() {
            true => Ready::Start,
            false => Ready::Accept,
        };
        ServiceTrigger {
            name,
            component,
            export: text.export,
            args,
            listen,
            ready: text.ready.unwrap_or(at_first_client),
            restart: text.restart,
            cpu_percent: text.cpu_percent,
            stop_timeout: Duration::from_millis(text.stop_timeout_ms),
            instances: text.instances,
        }
    }

    /// Where the service listens, which must be nobody else's place.
    fn place(
        &mut self,
        written: &At<String>,
        taken: &mut BTreeMap<ListenOn, usize>,
    ) -> Option<ListenOn> {
        let span = written.span.clone();
        let text = self.known(written)?;
        let Ok(place) = text.parse::<ListenOn>() else {
            let what = format!("\"{text}\" is not an address and a port");
            let help =
                "write it like \"127.0.0.1:9000\"; \"fd:NAME\" is a socket of the service manager";
            self.report.at(Kind::BadValue, span, what, help);
            return None;
        };
        if !place.is_one_place() {
            return Some(place);
        }
        if let Some(other) = taken.insert(place.clone(), span.start) {
            let line = self.report.line(other);
            let what = format!("a service listens on {place} already: see line {line}");
            let help = "give one of them another port, or \"127.0.0.1:0\" for any that is free";
            self.report.at(Kind::BadValue, span, what, help);
        }
        Some(place)
    }

    /// Text that is the same for as long as the app runs.
    fn known(&mut self, written: &At<String>) -> Option<String> {
        let before = self.report.len();
        let text = self.expanded(written, &BTreeSet::new());
        // What was reported needs no second word.
        if self.report.len() > before {
            return None;
        }
        if text.constant().is_none() {
            let what = "the value of a variable here must be known when the app is started";
            let help = "give it with --var NAME=VALUE or a default; what may change later goes into `args`, `env` or \
                        `config` of the component";
            let span = written.span.clone();
            self.report.at(Kind::BadValue, span, what, help);
        }
        text.constant().map(str::to_owned)
    }
}
