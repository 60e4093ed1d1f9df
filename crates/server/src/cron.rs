//! The cron trigger: calls components at the times that their schedules name.
//!
//! All schedules of an app share one timer, on one of the threads that serve: the next one that is due lies on top of a heap. A
//! run is a task of that thread. Before it begins its time is on disk (`book`): whatever happens then, and whatever the clock
//! does, no time has a second run (`docs/decisions/0015-at-most-once-per-time.md`).
//!
//! Read in this order: this file (the timer), `entry` (one schedule: what comes, waits, is left out), `fired` (what had its run),
//! `call` (the run), `book` (the disk), `clock`.

mod book;
mod call;
mod clock;
mod entry;
mod fired;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hostel_app::{CronRun, CronTrigger, limits, schedule};
use hostel_host::kv::Kv;
use hostel_host::{Guest, LoadError, LogSink};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use crate::deploy::Deployment;
use crate::worker::Phase;
use book::Book;
use call::{Runs, Target};
use clock::Clock;
use entry::{Entry, Told};

/// The book's name among what the host keeps for an app.
const BOOK: &str = "cron";
/// The shortest rest between two looks at the clock, and the shortest while it stands still.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));
/// How long to wait until a disk is tried again that did not take a note, the first time and at the most.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Names that one line mentions.
const NAMED: usize = 5;

/// The schedules of an app, and what they call.
#[derive(Clone)]
pub struct Crontab {
    triggers: Vec<CronTrigger>,
    targets: Vec<Target>,
    book: Arc<dyn Kv>,
}

impl fmt::Debug for Crontab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crontab")
            .field("triggers", &self.triggers)
            .finish_non_exhaustive()
    }
}

/// What the `[[cron]]` sections of an app say, if it has any.
pub(crate) fn crontab(deployment: &Deployment<'_>) -> Result<Option<Crontab>, LoadError> {
    let triggers = &deployment.app.crons;
    if triggers.is_empty() {
        return Ok(None);
    }
    let mut crontab = Crontab {
        triggers: Vec::with_capacity(triggers.len()),
        targets: Vec::with_capacity(triggers.len()),
        book: deployment.scope.own_notes(BOOK)?,
    };
    for trigger in triggers {
        if let Some(target) = Target::new(deployment, trigger)? {
            crontab.triggers.push(trigger.clone());
            crontab.targets.push(target);
        }
    }
    Ok(Some(crontab))
}

/// Checks a guest that was loaded to be called by its exports: that it has those which these triggers name, and that they
/// take nothing.
///
/// # Errors
/// The first one that it lacks, or that takes something.
pub(crate) fn check<'a>(
    triggers: impl IntoIterator<Item = &'a CronTrigger>,
    guest: &Guest,
) -> Result<(), LoadError> {
    let mut triggers = triggers.into_iter();
    triggers.try_for_each(|trigger| match &trigger.run {
        CronRun::Export(export) => guest.prepare(export, &[]).map(drop),
        CronRun::Job { .. } | CronRun::Path(_) => Ok(()),
    })
}

impl Crontab {
    /// Runs what is due, from the time when the server serves until it drains, and then what is in flight to its end. `call` is
    /// called when a run begins, and what it returned is dropped when that ends.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        log: LogSink,
        mut phase: watch::Receiver<Phase>,
        call: impl Fn() -> T + Send + Sync,
    ) {
        // Whoever tells the phase is gone: there is nothing to begin.
        if phase.wait_for(|now| *now > Phase::Starting).await.is_err() {
            return;
        }
        let mut draining = pin!(async {
            let _told = phase
                .wait_for(|phase| *phase > Phase::Serving)
                .await
                .is_ok();
        });
        let timer = Timer::new(self.triggers, Arc::new(self.targets), Arc::new(self.book));
        let mut timer = timer.with(log, Clock::system());
        tokio::select! {
            biased;
            () = &mut draining => return,
            () = timer.begin() => {}
        }
        loop {
            timer.look(&call).await;
            let rest = timer.rest();
            tokio::select! {
                biased;
                () = &mut draining => break,
                Some(ended) = timer.runs.join_next_with_id() => timer.ended(ended).await,
                () = sleep(rest) => {}
            }
        }
        timer.finish().await;
    }
}

/// See the module's documentation.
struct Timer {
    entries: Vec<Entry>,
    /// When each entry has to be looked at, the next on top; an entry is in it once.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    /// Entries with a run that could begin; each is in it once.
    ready: VecDeque<usize>,
    /// Which entry a task runs for.
    running: Vec<(Id, usize)>,
    runs: JoinSet<()>,
    calls: Arc<dyn Runs>,
    book: Arc<dyn Book>,
    clock: Clock,
    log: LogSink,
    /// When the clock was looked at last.
    looked_ms: i64,
    stands: bool,
    /// Since when, and for how long, the disk is not tried.
    broken: Option<(Instant, Duration)>,
}

impl Timer {
    fn new(triggers: Vec<CronTrigger>, calls: Arc<dyn Runs>, book: Arc<dyn Book>) -> Self {
        // Until the book was read, nothing is known and nothing is due.
        let entry = |trigger| Entry::new(trigger, None, i64::MAX);
        Self {
            entries: triggers.into_iter().map(entry).collect(),
            due: BinaryHeap::new(),
            ready: VecDeque::new(),
            running: Vec::new(),
            runs: JoinSet::new(),
            calls,
            book,
            clock: Clock::system(),
            log: LogSink::null(),
            looked_ms: i64::MIN,
            stands: false,
            broken: None,
        }
    }

    fn with(self, log: LogSink, clock: Clock) -> Self {
        Self { log, clock, ..self }
    }

    /// Reads the book, and writes into it what is new there.
    async fn begin(&mut self) {
        let names: Vec<String> = self.names().collect();
        let (mut pause, most) = TRY_AGAIN;
        let mut notes = loop {
            match self.book.read(names.clone()).await {
                Ok(notes) => break notes,
                Err(error) => self.log.host_fault(format_args!(
                    "schedules: nothing runs, because the disk cannot be asked what has run: {error}; tried again"
                )),
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        };
        let now = self.clock.look().now();
        for entry in &mut self.entries {
            let note = notes.remove(&entry.trigger.name);
            *entry = Entry::new(entry.trigger.clone(), note.as_ref(), now);
        }
        self.write_all().await;
        self.line_up();
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let names = self.entries.iter();
        names.map(|entry| entry.trigger.name.clone())
    }

    /// Writes what was decided and is not in the book.
    async fn write_all(&mut self) {
        let unwritten = self.entries.iter().filter_map(|entry| {
            let name = entry.trigger.name.clone();
            Some((name, entry.unwritten()?))
        });
        let notes: Vec<_> = unwritten.collect();
        if notes.is_empty() {
            return;
        }
        match self.book.write(notes).await {
            Ok(()) => self.entries.iter_mut().for_each(|entry| {
                if entry.unwritten().is_some() {
                    entry.written();
                }
            }),
            // No run begins without its own note: what is missing now can only make the next process run what was left out.
            Err(error) => self.log.host_fault(format_args!(
                "schedules: the disk does not say what was left out: {error}"
            )),
        }
    }

    /// Puts every entry into the heap.
    fn line_up(&mut self) {
        let entries = self.entries.iter().enumerate();
        let due = entries.filter_map(|(number, entry)| Some(Reverse((entry.due_ms()?, number))));
        self.due = due.collect();
    }

    /// Decides about what has come, and begins what can begin.
    async fn look<T: Send + 'static>(&mut self, call: &impl Fn() -> T) {
        let look = self.clock.look();
        self.stands = look.stands;
        self.looked_ms = look.now_ms;
        if look.set_back {
            let now = look.now();
            self.entries
                .iter_mut()
                .for_each(|entry| entry.set_back(now));
            self.line_up();
        }
        let mut missed = Vec::new();
        while let Some(Reverse((at, number))) = self.due.peek().copied() {
            if at > look.now_ms {
                break;
            }
            self.due.pop();
            let Some(entry) = self.entries.get_mut(number) else {
                continue;
            };
            let told = entry.consider(look.now_ms);
            if let Some(at) = entry.due_ms() {
                self.due.push(Reverse((at, number)));
            }
            if let Some(Told::Missed(first)) = told {
                missed.push((number, first));
            } else if let Some(told) = told {
                self.calls.tell(number, &told);
            }
            self.is_ready(number);
        }
        self.tell_missed(&missed);
        self.start(call).await;
    }

    /// One line for all that were missed: after a standstill those are many.
    fn tell_missed(&self, missed: &[(usize, i64)]) {
        let named = missed.iter().take(NAMED).filter_map(|(number, first)| {
            let name = &self.entries.get(*number)?.trigger.name;
            Some(format!("{name} since {}", schedule::shown(*first)))
        });
        let named: Vec<String> = named.collect();
        let more = missed.len().saturating_sub(NAMED);
        let more = match more {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        if !named.is_empty() {
            self.log.host_fault(format_args!(
                "schedules: times that went by while nothing could run have no run: {}{more}",
                named.join(", ")
            ));
        }
    }

    fn is_ready(&mut self, number: usize) {
        let entry = self.entries.get_mut(number);
        if let Some(entry) = entry.filter(|entry| entry.is_ready() && !entry.in_line) {
            entry.in_line = true;
            self.ready.push_back(number);
        }
    }

    /// Begins as many runs as may be in flight, once the disk says so.
    async fn start<T: Send + 'static>(&mut self, call: &impl Fn() -> T) {
        let places = limits::CRON_RUNS.size().saturating_sub(self.running.len());
        let first = places.min(self.ready.len());
        if first == 0
            || self
                .broken
                .is_some_and(|(since, pause)| since.elapsed() < pause)
        {
            return;
        }
        let numbers: Vec<usize> = self.ready.iter().take(first).copied().collect();
        let next = numbers.iter().filter_map(|number| {
            let entry = self.entries.get(*number)?;
            let (time, note) = entry.next_run()?;
            Some((*number, time, (entry.trigger.name.clone(), note)))
        });
        let next: Vec<_> = next.collect();
        let notes = next.iter().map(|(.., note)| note.clone()).collect();
        if let Err(error) = self.book.write(notes).await {
            let pause = self.broken.map_or(TRY_AGAIN.0, |(_, pause)| pause * 2);
            self.broken = Some((Instant::now(), pause.min(TRY_AGAIN.1)));
            self.log.host_fault(format_args!(
                "schedules: {} run(s) wait, because the disk does not take their note: {error}",
                self.ready.len()
            ));
            return;
        }
        self.broken = None;
        self.ready.drain(..first);
        for (number, time, _) in next {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.in_line = false;
                entry.begins();
            }
            let (run, begun) = (self.calls.run(number, time), call());
            let task = self.runs.spawn(async move {
                run.await;
                drop(begun);
            });
            self.running.push((task.id(), number));
        }
    }

    /// A run has ended, one way or the other.
    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let place = self.running.iter().position(|(task, _)| *task == id);
        let Some((_, number)) = place.map(|place| self.running.swap_remove(place)) else {
            return;
        };
        if ended.is_err() {
            self.calls
                .tell(number, &"the host panicked in a run; see the message above");
        }
        let Some(entry) = self.entries.get_mut(number) else {
            return;
        };
        let left_out = entry.ends();
        if left_out > 1 {
            let what = format!("left out {left_out} times while one run was going");
            self.calls.tell(number, &what);
        }
        if left_out > 0 {
            self.write_all().await;
        }
        self.is_ready(number);
    }

    /// Until something may have to be done.
    fn rest(&self) -> Duration {
        let look = limits::CRON_LOOK_MS.duration();
        let shortest = if self.stands { REST.1 } else { REST.0 };
        let due = self.due.peek().map_or(look, |Reverse((at, _))| {
            let left = at.saturating_sub(self.looked_ms);
            Duration::from_millis(u64::try_from(left).unwrap_or(0))
        });
        let again = match self.broken {
            Some((since, pause)) if !self.ready.is_empty() => pause.saturating_sub(since.elapsed()),
            _ => look,
        };
        due.min(again).clamp(shortest, look)
    }

    /// No run begins any more; those in flight are waited for.
    async fn finish(&mut self) {
        self.ready.clear();
        while let Some(ended) = self.runs.join_next_with_id().await {
            self.ended(ended).await;
        }
        self.write_all().await;
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlapped(time) => write!(
                f,
                "time={} left out: the last run is still going (overlap = \"skip\")",
                schedule::shown(*time)
            ),
            Self::Full(time) => write!(
                f,
                "time={} left out: {} times wait already",
                schedule::shown(*time),
                limits::CRON_WAITING.default
            ),
            Self::Missed(time) => write!(f, "time={} missed", schedule::shown(*time)),
        }
    }
}
