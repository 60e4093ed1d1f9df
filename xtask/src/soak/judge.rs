//! What makes a row pass: percentiles, "B holds", and the verdict that a row fills with its figures.
//!
//! Nothing is measured here. A figure that misses its goal is kept beside the sentence that says by how much.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// B's p99 under attack may be this many times its unloaded one,
const SLOWER: u32 = 2;
/// or this long, whichever is longer.
const P99_FLOOR: Duration = Duration::from_millis(25);

/// What a probe or an attacker saw.
#[derive(Debug, Default, Clone)]
pub(super) struct Samples {
    /// How long each answer took, failures included.
    times: Vec<Duration>,
    /// What went wrong, and how often.
    failures: BTreeMap<String, u64>,
}

impl Samples {
    /// Adds one exchange: its time, and why it failed if it did.
    pub(super) fn add(&mut self, time: Duration, failure: Option<String>) {
        self.times.push(time);
        if let Some(failure) = failure {
            *self.failures.entry(failure).or_default() += 1;
        }
    }

    /// Adds what another has seen.
    pub(super) fn merge(&mut self, other: Samples) {
        self.times.extend(other.times);
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
    }

    /// What went wrong, and how often.
    pub(super) fn failures(&self) -> &BTreeMap<String, u64> {
        &self.failures
    }

    pub(super) fn count(&self) -> usize {
        self.times.len()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The time that the share `part` of all exchanges did not exceed (nearest rank); zero for none.
    pub(super) fn percentile(&self, part: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let rank = (times.len() as f64 * part).ceil() as usize;
        let found = times.get(rank.saturating_sub(1)).copied();
        found.unwrap_or_default()
    }

    /// The longest time.
    pub(super) fn worst(&self) -> Duration {
        self.percentile(1.0)
    }
}

/// B before the attack and during it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) unloaded: Samples,
    pub(super) loaded: Samples,
}

impl Held {
    /// The p99 that is still good.
    fn allowed(&self) -> Duration {
        (self.unloaded.percentile(0.99) * SLOWER).max(P99_FLOOR)
    }

    /// Why B does not hold; `None` where it does.
    pub(super) fn miss(&self) -> Option<String> {
        if self.loaded.count() == 0 {
            return Some("B was never asked".to_owned());
        }
        if self.loaded.failed() > 0 {
            let kinds: Vec<String> = self.loaded.failures.iter().take(3).map(said).collect();
            return Some(format!(
                "B: {} of {} requests failed ({})",
                self.loaded.failed(),
                self.loaded.count(),
                kinds.join(", ")
            ));
        }
        let (p99, allowed) = (self.loaded.percentile(0.99), self.allowed());
        (p99 > allowed).then(|| {
            format!(
                "B: p99 is {} ms, allowed are {} ms",
                ms(p99),
                ms(self.allowed())
            )
        })
    }
}

fn said((failure, count): (&String, &u64)) -> String {
    format!("{failure}: {count}")
}

/// What a row found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    figures: Map<String, Value>,
    misses: Vec<String>,
}

impl Verdict {
    /// Keeps a figure.
    pub(super) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Keeps `miss` unless `good`.
    pub(super) fn require(&mut self, good: bool, miss: impl FnOnce() -> String) {
        if !good {
            self.misses.push(miss());
        }
    }

    /// Keeps B's figures.
    pub(super) fn note(&mut self, held: &Held) {
        self.figure("b_asked", held.loaded.count());
        self.figure("b_failed", held.loaded.failed());
        self.figure("b_p50_ms", ms(held.loaded.percentile(0.5)));
        self.figure("b_p99_ms", ms(held.loaded.percentile(0.99)));
        self.figure("b_worst_ms", ms(held.loaded.worst()));
        self.figure("b_unloaded_p99_ms", ms(held.unloaded.percentile(0.99)));
    }

    /// Keeps B's figures and requires that B holds.
    pub(super) fn holds(&mut self, held: &Held) {
        self.note(held);
        self.misses.extend(held.miss());
    }

    /// Whether nothing was missed.
    pub(super) fn pass(&self) -> bool {
        self.misses.is_empty()
    }

    pub(super) fn misses(&self) -> &[String] {
        &self.misses
    }

    /// The figures, and what was missed.
    pub(super) fn value(&self) -> Value {
        let mut value = self.figures.clone();
        if !self.pass() {
            value.insert("misses".to_owned(), json!(self.misses));
        }
        Value::Object(value)
    }
}

/// Milliseconds with one digit behind the point.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// MiB with one digit behind the point; negative for what became less.
pub(super) fn mib(bytes: i64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(ms: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        for ms in ms {
            samples.add(Duration::from_millis(ms), None);
        }
        samples
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred = samples((1..=100).rev());
        assert_eq!(hundred.percentile(0.5), Duration::from_millis(50));
        assert_eq!(hundred.percentile(0.99), Duration::from_millis(99));
        assert_eq!(hundred.worst(), Duration::from_millis(100));
        assert_eq!(samples([7]).percentile(0.01), Duration::from_millis(7));
        assert_eq!(samples([]).percentile(0.99), Duration::ZERO);
    }

    #[test]
    fn b_holds_up_to_the_floor_or_twice_its_unloaded_figure() {
        let held = |unloaded, loaded| Held {
            unloaded: samples([unloaded]),
            loaded: samples([loaded]),
        };
        assert_eq!(held(1, 25).miss(), None);
        assert_eq!(held(20, 40).miss(), None);
        let miss = held(1, 26).miss().unwrap();
        assert_eq!(miss, "B: p99 is 26 ms, allowed are 25 ms");
        assert!(held(20, 41).miss().unwrap().contains("allowed are 40 ms"));
    }

    #[test]
    fn one_failure_or_no_request_at_all_is_a_miss() {
        let mut held = Held {
            unloaded: samples([1]),
            loaded: samples([1, 1]),
        };
        held.loaded
            .add(Duration::from_millis(1), Some("status 503".to_owned()));
        let miss = held.miss().unwrap();
        assert_eq!(miss, "B: 1 of 3 requests failed (status 503: 1)");
        held.loaded = Samples::default();
        assert_eq!(held.miss().unwrap(), "B was never asked");
    }

    #[test]
    fn a_verdict_passes_until_something_is_missed() {
        let mut verdict = Verdict::default();
        verdict.figure("rss_mib", 3.5);
        verdict.require(true, || unreachable!());
        assert!(verdict.pass() && verdict.value().get("misses").is_none());
        verdict.require(false, || "too much".to_owned());
        assert!(!verdict.pass());
        assert_eq!(
            verdict.value(),
            json!({"rss_mib": 3.5, "misses": ["too much"]})
        );
    }

    #[test]
    fn figures_are_rounded() {
        assert_eq!(ms(Duration::from_micros(1_250)), 1.3);
        assert_eq!(mib(-(3 << 19)), -1.5);
    }
}
