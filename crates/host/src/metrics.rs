//! What the host counts: for each component of each app, and for the process.
//!
//! Counting is one relaxed addition on a number that the caller already holds; nothing is looked up, locked or
//! allocated. A new number is one row of the table below. How they are shown is the server's business.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fault::Fault;
use crate::lock::lock;

/// One number that is counted.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts so many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Counts a time, in nanoseconds.
    pub(crate) fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts so many less; for what may fall.
    pub(crate) fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Whether a number may fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what there is now.
    Gauge,
}

/// The value of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Pieces or bytes.
    Count(u64),
    /// A time, to be shown in seconds.
    Nanoseconds(u64),
}

/// One value, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Names and values of its labels; the names are fixed for a family.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: Value,
}

/// All samples of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// In base units, as Prometheus names things.
    pub name: &'static str,
    /// What is counted.
    pub help: &'static str,
    /// Whether it may fall.
    pub kind: Kind,
    /// One for each combination of labels.
    pub samples: Vec<Sample>,
}

impl Family {
    /// A family of one value without labels.
    pub fn single(name: &'static str, help: &'static str, kind: Kind, value: u64) -> Self {
        Self {
            name,
            help,
            kind,
            samples: vec![Sample {
                labels: Vec::new(),
                value: Value::Count(value),
            }],
        }
    }
}

/// Declares the numbers of a component once: as a field and as a family.
macro_rules! component_counts {
    ($( $(#[doc = $help:literal])+ $id:ident = $name:literal, $kind:ident, $unit:ident; )+) => {
        /// What one component of one app did. Guests of the same names, one after the other, are counted as one.
        #[derive(Debug)]
        pub(crate) struct Component {
            pub(crate) app: Arc<str>,
            pub(crate) name: Arc<str>,
            faults: [Count; Fault::NAMES.len()],
            $( $(#[doc = $help])+ pub(crate) $id: Count, )+
        }

        impl Component {
            pub(crate) fn new(app: Arc<str>, name: Arc<str>) -> Self {
                Self { app, name, faults: Default::default(), $( $id: Count::default(), )+ }
            }
        }

        fn component_families(components: &[Arc<Component>]) -> Vec<Family> {
            vec![$( Family {
                name: $name,
                help: concat!($($help),+).trim_ascii(),
                kind: Kind::$kind,
                samples: components
                    .iter()
                    .map(|component| Sample {
                        labels: component.labels(),
                        value: Value::$unit(component.$id.get()),
                    })
                    .collect(),
            } ),+]
        }
    };
}

component_counts! {
    /// Calls of the guest, those included that were refused a place.
    calls = "hostel_calls_total", Counter, Count;
    /// Calls that wait for their turn.
    waiting = "hostel_queue_waiting", Gauge, Count;
    /// Calls that had to wait and then had their turn.
    waited = "hostel_queue_waited_total", Counter, Count;
    /// How long these waited.
    wait = "hostel_queue_wait_seconds_total", Counter, Nanoseconds;
    /// Calls that were refused because the queue was full, the wait over or the engine out of room.
    refused = "hostel_queue_refused_total", Counter, Count;
    /// Calls that used more than a slice of the fast lane.
    slow = "hostel_slow_calls_total", Counter, Count;
    /// CPU time of the guest.
    cpu = "hostel_cpu_seconds_total", Counter, Nanoseconds;
    /// Lines of the guest's output that went to the log.
    log_lines = "hostel_log_lines_total", Counter, Count;
    /// Bytes of those lines, with what the log adds to them.
    log_bytes = "hostel_log_bytes_total", Counter, Count;
    /// Lines of the guest's output that were dropped.
    log_lines_lost = "hostel_log_lines_lost_total", Counter, Count;
    /// Outgoing requests, connects, binds, datagrams and name look-ups that the guest started.
    outbound = "hostel_outbound_total", Counter, Count;
    /// Outgoing HTTP connections that are open.
    outbound_open = "hostel_outbound_open", Gauge, Count;
    /// Outgoing calls that no grant permits.
    outbound_denied = "hostel_outbound_denied_total", Counter, Count;
    /// Outgoing calls beyond the limits of a call or of an app.
    outbound_refused = "hostel_outbound_refused_total", Counter, Count;
    /// Operations on stores that the guest asked for.
    store_calls = "hostel_store_calls_total", Counter, Count;
    /// Bytes that these moved, in both directions.
    store_bytes = "hostel_store_bytes_total", Counter, Count;
    /// Stores, topics and secrets that were asked for and are not granted.
    store_denied = "hostel_store_denied_total", Counter, Count;
    /// Operations on stores beyond the limits of a call.
    store_refused = "hostel_store_refused_total", Counter, Count;
    /// Operations on stores whose backend could not be reached, was too slow, or rests after many failures.
    store_unavailable = "hostel_store_unavailable_total", Counter, Count;
    /// Operations on stores that the backend refused or answered with an error of its own.
    store_failed = "hostel_store_failed_total", Counter, Count;
}

impl Component {
    /// Counts a call that failed.
    pub(crate) fn fault(&self, fault: &Fault) {
        let name = fault.row().name;
        let counts = Fault::NAMES.iter().zip(&self.faults);
        for (_, count) in counts.filter(|(of, _)| **of == name) {
            count.add(1);
        }
    }

    fn labels(&self) -> Vec<(&'static str, String)> {
        vec![
            ("app", self.app.to_string()),
            ("component", self.name.to_string()),
        ]
    }

    fn fault_samples(&self) -> impl Iterator<Item = Sample> {
        Fault::NAMES.iter().zip(&self.faults).map(|(name, count)| {
            let mut labels = self.labels();
            labels.push(("fault", (*name).to_owned()));
            Sample {
                labels,
                value: Value::Count(count.get()),
            }
        })
    }
}

/// What the guests of one process did.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Vec<Arc<Component>>>);

impl Metrics {
    /// The numbers of a component. Two guests of the same names share them, so that no sample is there twice; those that
    /// no guest uses any more are forgotten when another one comes.
    pub(crate) fn component(&self, app: &Arc<str>, name: &Arc<str>) -> Arc<Component> {
        let mut components = lock(&self.0);
        let same = |known: &&Arc<Component>| known.app == *app && known.name == *name;
        if let Some(known) = components.iter().find(same) {
            return known.clone();
        }
        components.retain(|component| Arc::strong_count(component) > 1);
        let fresh = Arc::new(Component::new(app.clone(), name.clone()));
        components.push(fresh.clone());
        fresh
    }

    /// Everything, as it is now, `process` included.
    pub(crate) fn families(&self, process: Vec<Family>) -> Vec<Family> {
        let components = lock(&self.0).clone();
        let mut families = component_families(&components);
        families.push(Family {
            name: "hostel_faults_total",
            help: "Calls that failed, by how.",
            kind: Kind::Counter,
            samples: components
                .iter()
                .flat_map(|component| component.fault_samples())
                .collect(),
        });
        families.extend(process);
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(families: &[Family], name: &str, labels: &[&str]) -> Option<Value> {
        let family = families.iter().find(|family| family.name == name)?;
        let sample = family.samples.iter().find(|sample| {
            let values: Vec<&str> = sample.labels.iter().map(|(_, value)| &**value).collect();
            values == labels
        })?;
        Some(sample.value)
    }

    #[test]
    fn each_component_has_its_own_numbers_and_the_same_names_share_them() {
        let metrics = Metrics::default();
        let (a, b) = ("a".into(), "b".into());
        let web = metrics.component(&a, &"web".into());
        let other = metrics.component(&b, &"web".into());
        let again = metrics.component(&a, &"web".into());
        web.calls.add(1);
        again.calls.add(2);
        other.cpu.add(5);
        other.fault(&Fault::Trap("x".into()));
        let families = metrics.families(vec![Family::single(
            "hostel_log_dropped_total",
            "Lines that were dropped.",
            Kind::Counter,
            7,
        )]);
        let count = |name, labels: &[&str]| value(&families, name, labels);
        assert_eq!(
            count("hostel_calls_total", &["a", "web"]),
            Some(Value::Count(3))
        );
        assert_eq!(
            count("hostel_calls_total", &["b", "web"]),
            Some(Value::Count(0))
        );
        assert_eq!(
            count("hostel_cpu_seconds_total", &["b", "web"]),
            Some(Value::Nanoseconds(5))
        );
        assert_eq!(
            count("hostel_faults_total", &["b", "web", "trap"]),
            Some(Value::Count(1))
        );
        assert_eq!(
            count("hostel_faults_total", &["b", "web", "cpu"]),
            Some(Value::Count(0))
        );
        assert_eq!(
            count("hostel_log_dropped_total", &[]),
            Some(Value::Count(7))
        );
        assert_eq!(families[0].samples.len(), 2);
    }

    #[test]
    fn what_no_guest_uses_any_more_is_forgotten() {
        let metrics = Metrics::default();
        for number in 0..100 {
            metrics.component(&format!("app {number}").into(), &"web".into());
        }
        let kept = metrics.component(&"kept".into(), &"web".into());
        let _more = metrics.component(&"more".into(), &"web".into());
        let families = metrics.families(Vec::new());
        assert_eq!(families[0].samples.len(), 2);
        drop(kept);
    }

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        let mut names = std::collections::BTreeSet::new();
        for family in Metrics::default().families(Vec::new()) {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert!(family.name.starts_with("hostel_"), "{}", family.name);
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
            assert!(
                family.help.len() > 10 && family.help.ends_with('.'),
                "{}",
                family.name
            );
        }
    }
}
