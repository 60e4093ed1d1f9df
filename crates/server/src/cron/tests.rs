//! The timer with a clock that the tests set, a book in memory, and runs that are only written down.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use hostel_app::{CronRun, CronTrigger, Missed, Overlap, Schedule, limits};
use hostel_host::{LogSink, kv};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::Timer;
use super::book::Book;
use super::call::Runs;
use super::clock::{Clock, TestClock};

/// 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600;
const HOUR: i64 = 3600;
const DECADE: i64 = 10 * 365 * 24 * HOUR;

/// A book that may fail.
#[derive(Default)]
struct Memory {
    notes: Mutex<HashMap<String, String>>,
    fails: AtomicBool,
    writes: AtomicUsize,
}

impl Memory {
    fn outcome(&self) -> kv::Result<()> {
        match self.fails.load(SeqCst) {
            true => Err(kv::Error::BadCursor),
            false => Ok(()),
        }
    }

    /// Whether it says that this time has its run.
    fn says(&self, name: &str, time: i64) -> bool {
        let notes = self.notes.lock().unwrap();
        let note: Value = serde_json::from_str(&notes[name]).unwrap();
        let ranges = note["fired"].as_array().unwrap().clone();
        ranges.iter().any(|range| {
            let end = |index: usize| range[index].as_i64().unwrap();
            (end(0)..=end(1)).contains(&time)
        })
    }
}

impl Book for Memory {
    fn read(&self, names: Vec<String>) -> BoxFuture<'_, kv::Result<HashMap<String, Value>>> {
        let notes = self.notes.lock().unwrap();
        let read = names.into_iter().filter_map(|name| {
            let note = serde_json::from_str(notes.get(&name)?).ok()?;
            Some((name, note))
        });
        let read = read.collect();
        let outcome = self.outcome().map(|()| read);
        async move { outcome }.boxed()
    }

    fn write(&self, notes: Vec<(String, String)>) -> BoxFuture<'_, kv::Result<()>> {
        let outcome = self.outcome();
        if outcome.is_ok() {
            self.writes.fetch_add(1, SeqCst);
            self.notes.lock().unwrap().extend(notes);
        }
        async move { outcome }.boxed()
    }
}

/// Runs that end when they may.
struct Written {
    book: Arc<Memory>,
    names: Vec<String>,
    hands: Arc<TestClock>,
    /// Schedule, its time, and the clock's in milliseconds.
    runs: Mutex<Vec<(usize, i64, i64)>>,
    told: Mutex<Vec<String>>,
    may_end: Arc<Semaphore>,
    panics: AtomicBool,
}

impl Runs for Written {
    fn run(&self, schedule: usize, time: i64) -> BoxFuture<'static, ()> {
        let now = self.hands.wall.load(SeqCst);
        assert!(
            self.book.says(&self.names[schedule], time),
            "a run without its note"
        );
        self.runs.lock().unwrap().push((schedule, time, now));
        let (may_end, panics) = (self.may_end.clone(), self.panics.load(SeqCst));
        async move {
            if panics {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            may_end.acquire().await.unwrap().forget();
        }
        .boxed()
    }

    fn tell(&self, schedule: usize, what: &dyn Display) {
        let line = format!("{} {what}", self.names[schedule]);
        self.told.lock().unwrap().push(line);
    }
}

/// A timer with all that it needs.
struct Bench {
    hands: Arc<TestClock>,
    book: Arc<Memory>,
    runs: Arc<Written>,
    triggers: Vec<CronTrigger>,
    timer: Timer,
}

fn every(expression: &str) -> CronTrigger {
    CronTrigger {
        name: "a".to_owned(),
        schedule: Schedule::parse(expression, "UTC").unwrap(),
        component: 0,
        run: CronRun::Job { args: None },
        missed: Missed::Skip,
        overlap: Overlap::Skip,
        jitter_ms: 0,
    }
}

impl Bench {
    /// At [`BEGIN`], with nothing in the book; runs end at once.
    async fn of(triggers: Vec<CronTrigger>) -> Self {
        let hands = Arc::new(TestClock::default());
        hands.wall.store(BEGIN * 1000, SeqCst);
        let book = Arc::new(Memory::default());
        let runs = Arc::new(Written {
            book: book.clone(),
            names: triggers
                .iter()
                .map(|trigger| trigger.name.clone())
                .collect(),
            hands: hands.clone(),
            runs: Mutex::default(),
            told: Mutex::default(),
            may_end: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2)),
            panics: AtomicBool::new(false),
        });
        let timer = Timer::new(triggers.clone(), runs.clone(), book.clone());
        let timer = timer.with(LogSink::null(), Clock::test(hands.clone()));
        let mut bench = Self {
            hands,
            book,
            runs,
            triggers,
            timer,
        };
        bench.timer.begin().await;
        bench
    }

    /// The same app in another process, on the same disk.
    async fn again(&mut self) {
        let timer = Timer::new(self.triggers.clone(), self.runs.clone(), self.book.clone());
        self.timer = timer.with(LogSink::null(), Clock::test(self.hands.clone()));
        self.timer.begin().await;
        self.settle().await;
    }

    /// From now on runs end when [`Self::let_end`] says so.
    fn hold(&self) {
        self.runs.may_end.forget_permits(usize::MAX);
    }

    async fn let_end(&mut self, count: usize) {
        self.runs.may_end.add_permits(count);
        self.settle().await;
    }

    /// Time goes on.
    async fn pass(&mut self, seconds: i64) {
        self.hands.wall.fetch_add(seconds * 1000, SeqCst);
        self.hands.steady.fetch_add(seconds * 1000, SeqCst);
        self.settle().await;
    }

    /// The clock is set.
    async fn set(&mut self, seconds: i64) {
        self.hands.wall.fetch_add(seconds * 1000, SeqCst);
        self.settle().await;
    }

    /// Everything that can happen now.
    async fn settle(&mut self) {
        loop {
            self.timer.look(&|| ()).await;
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let mut any = false;
            while let Some(ended) = self.timer.runs.try_join_next_with_id() {
                self.timer.ended(ended).await;
                any = true;
            }
            if !any {
                return;
            }
        }
    }

    /// The times that had runs since the last question, as seconds since [`BEGIN`].
    fn times(&self) -> Vec<i64> {
        let runs = std::mem::take(&mut *self.runs.runs.lock().unwrap());
        runs.into_iter().map(|(_, time, _)| time - BEGIN).collect()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.runs.told.lock().unwrap())
    }
}

#[tokio::test]
async fn each_time_has_one_run() {
    let mut bench = Bench::of(vec![every("* * * * * *")]).await;
    for _ in 0..100 {
        bench.pass(1).await;
        bench.settle().await;
    }
    assert_eq!(bench.times(), (1..=100).collect::<Vec<_>>());
    assert_eq!(bench.told(), [""; 0]);
}

#[tokio::test]
async fn no_time_has_two_runs_whatever_the_clock_does() {
    let policies = [Missed::Skip, Missed::Once, Missed::All];
    let expressions = ["* * * * * *", "*/10 * * * * *", "* * * * *", "@hourly"];
    for seed in 0..60u64 {
        let mut random = seed;
        let mut next = move |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let trigger = CronTrigger {
            missed: policies[usize::try_from(seed % 3).unwrap()],
            overlap: [Overlap::Skip, Overlap::Queue][usize::try_from(next(2)).unwrap()],
            jitter_ms: [0, 0, 5000][usize::try_from(next(3)).unwrap()],
            ..every(expressions[usize::try_from(next(4)).unwrap()])
        };
        let mut bench = Bench::of(vec![trigger]).await;
        let mut all = BTreeSet::new();
        for _ in 0..80 {
            match next(12) {
                0 => bench.set(HOUR).await,
                1 => bench.set(-HOUR).await,
                2 => bench.set(DECADE).await,
                3 => bench.set(-DECADE).await,
                4 => bench.set(-1).await,
                5 => bench.again().await,
                // It stands still.
                6 => drop(bench.hands.steady.fetch_add(5000, SeqCst)),
                7 => bench.pass(i64::try_from(next(200_000)).unwrap()).await,
                more => bench.pass(i64::try_from(more - 7).unwrap()).await,
            }
            bench.settle().await;
            let runs = std::mem::take(&mut *bench.runs.runs.lock().unwrap());
            assert!(
                runs.len() <= 2 * limits::CRON_WAITING.size(),
                "a storm: {}",
                runs.len()
            );
            for (_, time, now) in runs {
                assert!(all.insert(time), "seed {seed}: {time} ran twice");
                assert!(time * 1000 <= now, "seed {seed}: {time} ran before it came");
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_was_wrong_does_not_silence_a_schedule() {
    let mut bench = Bench::of(vec![every("* * * * *")]).await;
    bench.pass(60).await;
    assert_eq!(bench.times(), [60]);
    bench.set(DECADE).await;
    bench.pass(60).await;
    assert_eq!(bench.times(), [DECADE + 60, DECADE + 120]);
    bench.set(-DECADE).await;
    bench.pass(60).await;
    assert_eq!(bench.times(), [180], "set right again");
    bench.set(-DECADE).await;
    bench.pass(60).await;
    assert_eq!(bench.times(), [240 - DECADE]);
    bench.set(DECADE - 120).await;
    // It was left out when the clock was wrong, and lies between two that had their run.
    assert_eq!(bench.times(), [0; 0]);
    bench.pass(60).await;
    assert_eq!(bench.times(), [0; 0], "it had its run");
    bench.pass(60).await;
    assert_eq!(bench.times(), [240]);
}

#[tokio::test]
async fn a_clock_that_is_set_is_noticed() {
    let mut bench = Bench::of(vec![every("0 12 * * *")]).await;
    bench.settle().await;
    let look = limits::CRON_LOOK_MS.duration();
    assert_eq!(bench.timer.rest(), look, "it looks again long before noon");
    bench.set(12 * HOUR - 5).await;
    assert_eq!(bench.timer.rest(), Duration::from_secs(5));
    bench.set(5).await;
    assert_eq!(bench.times(), [12 * HOUR]);
    bench.set(-5).await;
    bench.set(5).await;
    assert_eq!(bench.times(), [0; 0]);
    assert_eq!(bench.timer.rest(), look);
}

#[tokio::test]
async fn a_clock_that_stands_still_costs_nothing() {
    let mut bench = Bench::of(vec![every("* * * * * *")]).await;
    bench.hands.wall.fetch_add(999, SeqCst);
    bench.settle().await;
    assert_eq!(bench.timer.rest(), Duration::from_millis(1));
    bench.hands.steady.fetch_add(1000, SeqCst);
    bench.settle().await;
    assert!(bench.timer.rest() >= Duration::from_secs(1));
    assert_eq!(bench.times(), [0; 0]);
    bench.hands.wall.fetch_add(1, SeqCst);
    bench.settle().await;
    assert_eq!(bench.times(), [1]);
}

#[tokio::test]
async fn a_time_that_is_a_little_late_is_not_missed() {
    let late = i64::try_from(limits::CRON_LATE_MS.default / 1000).unwrap();
    let mut bench = Bench::of(vec![every("0 1 * * *")]).await;
    bench.pass(HOUR + late).await;
    assert_eq!(bench.times(), [HOUR]);
    bench.pass(24 * HOUR + 1).await;
    assert_eq!(bench.times(), [0; 0]);
}

#[tokio::test]
async fn what_was_missed_is_made_up_as_the_manifest_says() {
    let policy = |missed| CronTrigger {
        missed,
        ..every("@hourly")
    };
    for (missed, expected) in [
        (Missed::Skip, &[][..]),
        (Missed::Once, &[5][..]),
        (Missed::All, &[2, 3, 4, 5][..]),
    ] {
        let mut bench = Bench::of(vec![policy(missed)]).await;
        bench.pass(HOUR).await;
        assert_eq!(bench.times(), [HOUR]);
        // The process is away.
        bench.hands.wall.fetch_add(4 * HOUR * 1000 + 60_000, SeqCst);
        bench.again().await;
        let expected: Vec<i64> = expected.iter().map(|hour| hour * HOUR).collect();
        assert_eq!(bench.times(), expected, "{missed:?}");
        bench.again().await;
        assert_eq!(bench.times(), [0; 0], "{missed:?}");
    }
}

#[tokio::test]
async fn what_waits_to_be_made_up_is_not_lost_with_the_process() {
    let mut bench = Bench::of(vec![CronTrigger {
        missed: Missed::All,
        ..every("@hourly")
    }])
    .await;
    bench.hands.wall.fetch_add(3 * HOUR * 1000 + 60_000, SeqCst);
    bench.hold();
    bench.again().await;
    assert_eq!(bench.times(), [HOUR], "the first of them is going");
    bench.again().await;
    assert_eq!(
        bench.times(),
        [2 * HOUR],
        "it is lost, because nobody knows how far it got"
    );
    bench.let_end(1).await;
    assert_eq!(bench.times(), [3 * HOUR]);
}

#[tokio::test]
async fn a_run_that_lasts_leaves_times_out_or_keeps_them_waiting() {
    let mut skip = Bench::of(vec![every("@hourly")]).await;
    let mut queue = Bench::of(vec![CronTrigger {
        overlap: Overlap::Queue,
        ..every("@hourly")
    }])
    .await;
    for bench in [&mut skip, &mut queue] {
        bench.hold();
        for _ in 0..4 {
            bench.pass(HOUR).await;
        }
        assert_eq!(bench.times(), [HOUR]);
        bench.let_end(9).await;
        bench.pass(HOUR).await;
    }
    assert_eq!(skip.times(), [5 * HOUR]);
    assert_eq!(queue.times(), [2, 3, 4, 5].map(|hour| hour * HOUR));
    let told = skip.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("a time=2026-01-01T02:00:00Z left out"),
        "{told:?}"
    );
    assert!(told[1].contains("left out 3 times"), "{told:?}");
    assert_eq!(queue.told(), [""; 0]);
}

#[tokio::test]
async fn what_was_left_out_is_not_made_up_by_the_next_process() {
    let mut bench = Bench::of(vec![CronTrigger {
        missed: Missed::All,
        ..every("@hourly")
    }])
    .await;
    bench.hold();
    bench.pass(HOUR).await;
    bench.pass(HOUR).await;
    bench.let_end(1).await;
    bench.pass(60).await;
    bench.again().await;
    assert_eq!(bench.times(), [HOUR]);
}

#[tokio::test]
async fn no_more_runs_are_in_flight_than_may_be() {
    let most = limits::CRON_RUNS.size();
    let triggers = (0..3 * most).map(|number| CronTrigger {
        name: format!("a{number}"),
        ..every("@hourly")
    });
    let mut bench = Bench::of(triggers.collect()).await;
    bench.hold();
    let writes = bench.book.writes.load(SeqCst);
    bench.pass(HOUR).await;
    assert_eq!(bench.times().len(), most);
    assert_eq!(
        bench.book.writes.load(SeqCst),
        writes + 1,
        "one write for all of them"
    );
    bench.let_end(1).await;
    assert_eq!(bench.times().len(), 1);
    bench.let_end(3 * most).await;
    assert_eq!(bench.times().len(), 2 * most - 1);
}

#[tokio::test]
async fn no_more_times_wait_than_may_wait() {
    let most = limits::CRON_WAITING.size();
    let mut bench = Bench::of(vec![CronTrigger {
        overlap: Overlap::Queue,
        ..every("@hourly")
    }])
    .await;
    bench.hold();
    for _ in 0..most + 10 {
        bench.pass(HOUR).await;
    }
    assert_eq!(bench.times(), [HOUR]);
    let told = bench.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("100 times wait already"), "{told:?}");
    bench.let_end(2 * most).await;
    assert_eq!(bench.times().len(), most);

    let mut bench = Bench::of(vec![CronTrigger {
        missed: Missed::All,
        ..every("* * * * * *")
    }])
    .await;
    bench.set(DECADE).await;
    let times = bench.times();
    // The last ones are made up, and those that are only a little late are none of them.
    assert!((most..=most + 1).contains(&times.len()), "{}", times.len());
    assert!(times[0] > DECADE - 200);
}

#[tokio::test]
async fn without_its_note_nothing_runs() {
    let mut bench = Bench::of(vec![every("@hourly")]).await;
    bench.book.fails.store(true, SeqCst);
    bench.pass(HOUR).await;
    bench.pass(1).await;
    assert_eq!(bench.times(), [0; 0]);
    assert!(bench.timer.rest() <= super::TRY_AGAIN.1);
    bench.book.fails.store(false, SeqCst);
    bench.timer.broken = None;
    bench.pass(1).await;
    assert_eq!(bench.times(), [HOUR]);
}

#[tokio::test]
async fn another_schedule_by_the_same_name_has_missed_nothing() {
    let mut bench = Bench::of(vec![CronTrigger {
        missed: Missed::All,
        ..every("@hourly")
    }])
    .await;
    bench.pass(HOUR).await;
    bench.triggers = vec![CronTrigger {
        missed: Missed::All,
        ..every("*/10 * * * *")
    }];
    bench.hands.wall.fetch_add(10_000_000, SeqCst);
    bench.again().await;
    assert_eq!(bench.times(), [HOUR]);
    bench.pass(600).await;
    assert_eq!(bench.times().len(), 1);
}

#[tokio::test]
async fn a_run_begins_within_its_jitter() {
    let triggers = (0..60).map(|number| CronTrigger {
        name: format!("a{number}"),
        jitter_ms: 60_000,
        ..every("@hourly")
    });
    let mut bench = Bench::of(triggers.collect()).await;
    bench.pass(HOUR - 1).await;
    let mut begun = Vec::new();
    for _ in 0..70 {
        bench.pass(1).await;
        begun.push(bench.times().len());
    }
    assert_eq!(begun.iter().sum::<usize>(), 60);
    assert_eq!(begun[62..].iter().sum::<usize>(), 0);
    assert!(
        begun.iter().filter(|count| **count > 0).count() > 5,
        "{begun:?}"
    );
}

#[tokio::test]
async fn a_run_that_panics_is_told_and_the_next_one_runs() {
    let mut bench = Bench::of(vec![every("@hourly")]).await;
    bench.runs.panics.store(true, SeqCst);
    bench.pass(HOUR).await;
    bench.runs.panics.store(false, SeqCst);
    assert!(bench.told()[0].contains("panicked"));
    bench.pass(HOUR).await;
    assert_eq!(bench.times(), [HOUR, 2 * HOUR]);
}

#[tokio::test]
async fn a_thousand_schedules_are_looked_at_only_when_one_is_due() {
    let triggers = (0..1000).map(|number| CronTrigger {
        name: format!("a{number}"),
        ..every(&format!("{} 3 * * *", number % 60))
    });
    let mut bench = Bench::of(triggers.collect()).await;
    bench.pass(60).await;
    assert_eq!(bench.timer.rest(), limits::CRON_LOOK_MS.duration());
    assert_eq!(bench.timer.due.len(), 1000);
    assert_eq!(
        bench.book.writes.load(SeqCst),
        1,
        "what is new is noted at once"
    );
}
