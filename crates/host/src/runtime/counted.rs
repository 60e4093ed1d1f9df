//! What is counted for the whole process, beside what each component counts.

use super::Shared;
use crate::cache::CacheStats;
use crate::metrics::{Family, Kind};

impl Shared {
    /// What is counted for the whole process.
    pub(super) fn families(&self, cache: CacheStats) -> Vec<Family> {
        let (memory, memory_max) = self.memory.stats();
        let counters = [
            (
                "hostel_cache_hits_total",
                "Components whose compiled code was loaded from the cache.",
                cache.hits,
            ),
            (
                "hostel_cache_misses_total",
                "Components whose compiled code was not in the cache.",
                cache.misses,
            ),
            (
                "hostel_cache_rejected_total",
                "Entries of the cache that were not authentic or could not be loaded; each was compiled again.",
                cache.rejected,
            ),
            (
                "hostel_log_dropped_total",
                "Lines that the log dropped, the host's own included.",
                self.log.lost(),
            ),
        ];
        let gauges = [
            (
                "hostel_slow_lane_calls",
                "Calls in the slow lane, running or waiting for their turn.",
                self.lanes.jobs() as u64,
            ),
            (
                "hostel_guest_memory_bytes",
                "Memory of all guests beyond what each has for free.",
                memory,
            ),
            (
                "hostel_guest_memory_limit_bytes",
                "What that may be at the most.",
                memory_max,
            ),
        ];
        let family = |kind| move |(name, help, value)| Family::single(name, help, kind, value);
        let counters = counters.into_iter().map(family(Kind::Counter));
        let gauges = gauges.into_iter().map(family(Kind::Gauge));
        counters.chain(gauges).collect()
    }
}
