//! [`Entry`]: one schedule as it goes along: which time comes next, which ones wait for their run, and which are left out.
//!
//! It has no clock and calls nobody: it is told what time it is and when a run has ended.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hostel_app::{CronTrigger, Missed, Overlap, Schedule, limits};
use serde_json::{Value, json};

use super::fired::Fired;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) trigger: CronTrigger,
    fired: Fired,
    /// Every time up to this second was decided about.
    seen: i64,
    /// Times that wait for their run, the oldest first.
    waiting: VecDeque<i64>,
    running: bool,
    /// Whether it stands in the line of those whose run could begin.
    pub(super) in_line: bool,
    /// Times that were left out since the last run began.
    left_out: u64,
    /// Whether something was decided that the book does not say.
    unwritten: bool,
    chance: RandomState,
}

/// What the operator should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A time came while the last run was still going, the first one of this run.
    Overlapped(i64),
    /// As many wait as may, so this one does not.
    Full(i64),
    /// Times went by, the first one of which was this, and had no run.
    Missed(i64),
}

impl Entry {
    /// One of which nothing is known, or what the book says of it. What the book says of another schedule by the same name only
    /// keeps times from having a second run.
    pub(super) fn new(trigger: CronTrigger, note: Option<&Value>, now: i64) -> Self {
        let known = |note: &Value| {
            let fired = Fired::from_json(note.get("fired")?)?;
            let schedule = &trigger.schedule;
            let same = note.get("schedule")? == schedule.expression()
                && note.get("zone")? == schedule.zone();
            let seen = note.get("seen")?.as_i64()?;
            Some((fired, same.then_some(seen)))
        };
        let (fired, seen) = note.and_then(known).unwrap_or_default();
        Self {
            fired,
            // A clock that was set back: what comes now was not decided about, and what had its run is known.
            seen: seen.unwrap_or(now).min(now),
            waiting: VecDeque::new(),
            running: false,
            in_line: false,
            left_out: 0,
            unwritten: seen.is_none(),
            chance: RandomState::new(),
            trigger,
        }
    }

    fn schedule(&self) -> &Schedule {
        &self.trigger.schedule
    }

    /// When it has to be looked at next, in milliseconds since 1970; `None` if never.
    pub(super) fn due_ms(&self) -> Option<i64> {
        let next = self.fired.next_after(self.seen, self.schedule())?;
        Some(self.begin_ms(next))
    }

    /// When the run for a time begins.
    fn begin_ms(&self, time: i64) -> i64 {
        let jitter = match self.trigger.jitter_ms {
            0 => 0,
            most => self.chance.hash_one(time) % (most + 1),
        };
        let jitter = i64::try_from(jitter).unwrap_or(0);
        time.saturating_mul(1000).saturating_add(jitter)
    }

    /// Decides about every time that has come.
    pub(super) fn consider(&mut self, now_ms: i64) -> Option<Told> {
        let mut told = None;
        let patience = self
            .trigger
            .jitter_ms
            .saturating_add(limits::CRON_LATE_MS.default);
        let in_time = now_ms.saturating_sub_unsigned(patience).div_euclid(1000);
        while let Some(next) = self.fired.next_after(self.seen, self.schedule()) {
            if next < in_time {
                told = told.or(self.make_up(next, in_time - 1));
                self.seen = in_time - 1;
                self.unwritten = true;
                continue;
            }
            if self.begin_ms(next) > now_ms {
                break;
            }
            self.seen = next;
            told = told.or(self.comes(next));
        }
        told
    }

    /// The times from `first` to `last` went by.
    fn make_up(&mut self, first: i64, last: i64) -> Option<Told> {
        let room = limits::CRON_WAITING
            .size()
            .saturating_sub(self.waiting.len());
        let runs = match self.trigger.missed {
            Missed::Skip => 0,
            Missed::Once => room.min(1),
            Missed::All => room,
        };
        let (mut until, mut times, mut made_up) = (last, Vec::new(), false);
        while times.len() < runs {
            let Some(time) = self.fired.last_in(first - 1, until, self.schedule()) else {
                break;
            };
            times.push(time);
            until = time - 1;
        }
        for time in times.into_iter().rev() {
            made_up |= self.wait(time);
        }
        let rest = self.fired.last_in(first - 1, until, self.schedule());
        match self.trigger.missed {
            Missed::Once if made_up => None,
            Missed::All | Missed::Once | Missed::Skip => rest.map(|_| Told::Missed(first)),
        }
    }

    /// Lines up a time; one that waits already, because the clock was set back since, does so once.
    fn wait(&mut self, time: i64) -> bool {
        let new = !self.waiting.contains(&time);
        if new {
            self.waiting.push_back(time);
        }
        new
    }

    fn comes(&mut self, time: i64) -> Option<Told> {
        let busy = self.running || !self.waiting.is_empty();
        let told = match self.trigger.overlap {
            _ if !busy => None,
            Overlap::Skip => Some(Told::Overlapped(time)),
            Overlap::Queue if self.waiting.len() < limits::CRON_WAITING.size() => None,
            Overlap::Queue => Some(Told::Full(time)),
        };
        if told.is_none() {
            self.wait(time);
            return None;
        }
        self.unwritten = true;
        self.left_out += 1;
        told.filter(|_| self.left_out == 1)
    }

    /// Whether a run could begin.
    pub(super) fn is_ready(&self) -> bool {
        !self.running && !self.waiting.is_empty()
    }

    /// The time of the run that begins next, and what the book has to say before it does.
    pub(super) fn next_run(&self) -> Option<(i64, String)> {
        let time = *self.waiting.front().filter(|_| !self.running)?;
        let mut fired = self.fired.clone();
        fired.add(time, self.schedule());
        // Times that wait behind it were not decided about yet, as far as the next process is concerned.
        let seen = match self.waiting.len() {
            1 => self.seen,
            _ => time,
        };
        Some((time, self.note(&fired, seen)))
    }

    fn note(&self, fired: &Fired, seen: i64) -> String {
        json!({
            "schedule": self.schedule().expression(),
            "zone": self.schedule().zone(),
            "seen": seen,
            "fired": fired.to_json(),
        })
        .to_string()
    }

    /// The run of [`Self::next_run`] begins: the book says so.
    pub(super) fn begins(&mut self) {
        if let Some(time) = self.waiting.pop_front() {
            let mut fired = std::mem::take(&mut self.fired);
            fired.add(time, &self.trigger.schedule);
            self.fired = fired;
            self.running = true;
            self.left_out = 0;
            self.unwritten = false;
        }
    }

    /// Its run has ended; how many times were left out meanwhile.
    pub(super) fn ends(&mut self) -> u64 {
        self.running = false;
        std::mem::take(&mut self.left_out)
    }

    /// What the book has to say now, where it does not yet: what was left out is not made up by another process.
    pub(super) fn unwritten(&self) -> Option<String> {
        let settled = self.unwritten && self.waiting.is_empty();
        settled.then(|| self.note(&self.fired, self.seen))
    }

    /// The book says what [`Self::unwritten`] gave.
    pub(super) fn written(&mut self) {
        self.unwritten = false;
    }

    /// The clock was set back: what comes now was not decided about.
    pub(super) fn set_back(&mut self, now: i64) {
        self.seen = self.seen.min(now);
    }
}
