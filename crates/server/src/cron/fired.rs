//! [`Fired`]: the times of one schedule that have had their run. A set that only ever grows: so no time has two runs, whatever
//! the clock does.
//!
//! It is kept as a few ranges. While the clock goes on there is one, whose end moves; a clock that is set far away begins another.
//! Times inside a range that had no run, because they were left out, will never have one.

use hostel_app::Schedule;
use serde_json::{Value, json};

/// Ranges that are kept; beyond, the two that are closest to each other become one.
const RANGES: usize = 8;
/// Seconds between two runs that still belong to one range, whatever was left out between them.
const CLOSE: i64 = 600;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fired {
    /// First and last time, in order and apart from each other.
    ranges: Vec<(i64, i64)>,
}

impl Fired {
    /// Notes that a time has its run.
    pub(super) fn add(&mut self, time: i64, schedule: &Schedule) {
        if self.range_of(time).is_some() {
            return;
        }
        let place = self.ranges.partition_point(|(first, _)| *first < time);
        let before = place
            .checked_sub(1)
            .and_then(|before| self.ranges.get_mut(before));
        match before {
            Some((_, last)) if goes_on(*last, time, schedule) => *last = time,
            Some(_) | None => self.ranges.insert(place, (time, time)),
        }
        if self.ranges.len() > RANGES {
            self.join_closest();
        }
    }

    fn join_closest(&mut self) {
        let gaps = self.ranges.iter().zip(self.ranges.iter().skip(1));
        let gaps = gaps.map(|((_, last), (first, _))| first.saturating_sub(*last));
        let closest = gaps.zip(0..).min().map(|(_, place)| place);
        if let Some(place) = closest {
            let (_, end) = self.ranges.remove(place + 1);
            if let Some((_, last)) = self.ranges.get_mut(place) {
                *last = end;
            }
        }
    }

    /// The next time after this one that may have a run.
    pub(super) fn next_after(&self, after: i64, schedule: &Schedule) -> Option<i64> {
        let mut next = schedule.next_after(after)?;
        while let Some((_, last)) = self.range_of(next) {
            next = schedule.next_after(last)?;
        }
        Some(next)
    }

    /// The last time in `(after, until]` that may have a run.
    pub(super) fn last_in(&self, after: i64, until: i64, schedule: &Schedule) -> Option<i64> {
        let mut time = schedule.last_in(after, until)?;
        while let Some((first, _)) = self.range_of(time) {
            time = schedule.last_in(after, first.saturating_sub(1))?;
        }
        Some(time)
    }

    fn range_of(&self, time: i64) -> Option<(i64, i64)> {
        let mut ranges = self.ranges.iter().copied();
        ranges.find(|(first, last)| (*first..=*last).contains(&time))
    }

    pub(super) fn to_json(&self) -> Value {
        json!(self.ranges)
    }

    /// `None` for what was never written by [`Self::to_json`].
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let range = |range: &Value| match range.as_array()?.as_slice() {
            [first, last] => Some((first.as_i64()?, last.as_i64()?)),
            _ => None,
        };
        let mut ranges = value
            .as_array()?
            .iter()
            .map(range)
            .collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable();
        Some(Self { ranges })
    }
}

/// Whether a time is the next of a range, or close behind it.
fn goes_on(last: i64, time: i64, schedule: &Schedule) -> bool {
    time.saturating_sub(last) <= CLOSE || schedule.next_after(last) == Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(expression: &str) -> Schedule {
        Schedule::parse(expression, "UTC").unwrap()
    }

    #[test]
    fn it_grows_by_one_range_as_long_as_the_clock_goes_on() {
        let hourly = every("@hourly");
        let mut fired = Fired::default();
        for hour in 0..1000 {
            fired.add(hour * 3600, &hourly);
        }
        assert_eq!(fired.ranges, [(0, 999 * 3600)]);
        assert_eq!(fired.next_after(7, &hourly), Some(1000 * 3600));
        assert_eq!(fired.last_in(-1, 5000, &hourly), None);
        assert_eq!(fired.last_in(-7201, 5000, &hourly), Some(-3600));
    }

    #[test]
    fn a_clock_that_is_far_off_does_not_silence_the_schedule_when_it_is_set_right() {
        let hourly = every("@hourly");
        let decade = 87_600 * 3600;
        let mut fired = Fired::default();
        for time in [0, 3600, decade, decade + 3600, 7200] {
            fired.add(time, &hourly);
        }
        assert_eq!(fired.ranges, [(0, 7200), (decade, decade + 3600)]);
        assert_eq!(fired.next_after(0, &hourly), Some(3 * 3600));
        let before = decade - 1;
        assert_eq!(fired.next_after(before, &hourly), Some(decade + 7200));
    }

    #[test]
    fn its_ranges_are_bounded_and_none_of_its_times_is_ever_forgotten() {
        let daily = every("@daily");
        let mut fired = Fired::default();
        let times: Vec<i64> = (0..100)
            .map(|number| number * number * 86_400 * 3)
            .collect();
        for (number, time) in times.iter().enumerate() {
            fired.add(*time, &daily);
            assert!(fired.ranges.len() <= RANGES);
            assert!(
                times[..=number]
                    .iter()
                    .all(|time| fired.range_of(*time).is_some())
            );
            assert_eq!(Fired::from_json(&fired.to_json()).as_ref(), Some(&fired));
        }
        assert_eq!(Fired::from_json(&json!([[1, "2"]])), None);
    }
}
