//! How many files and sockets this process may have open, and what follows for the number of connections.
//!
//! A process that runs out of descriptors can accept nobody, so it is made to be rare: the soft limit is raised to the
//! hard one, and no more connections are served than nine tenths of the descriptors allow; the last tenth is for what
//! guests open. What happens when they run out all the same is `listen`'s business.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bounds::Bounds;

/// What is asked for where there is no hard limit: what Linux grants at most (`fs.nr_open`) unless told otherwise.
const WITHOUT_HARD_LIMIT: u64 = 1 << 20;

/// What the runtime of one thread opens.
const PER_THREAD: u64 = 4;

/// What is assumed to be open where the system does not tell.
const IN_USE_ASSUMED: u64 = 64;

/// The descriptors of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// So many may be open at once.
    limit: u64,
    /// So many are open now, or will be before the first connection.
    in_use: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, and counts, for a server that is about to start so many threads.
    pub(crate) fn raise(threads: usize) -> Self {
        let before = getrlimit(Resource::Nofile);
        let wanted = Rlimit {
            current: Some(before.maximum.unwrap_or(WITHOUT_HARD_LIMIT)),
            maximum: before.maximum,
        };
        // Where it cannot be raised, the server lives with what there is.
        let _raised = setrlimit(Resource::Nofile, wanted);
        let now = getrlimit(Resource::Nofile).current;
        Self {
            limit: now.unwrap_or(u64::MAX),
            in_use: in_use().saturating_add(PER_THREAD.saturating_mul(threads as u64)),
        }
    }

    /// Connections that there is room for.
    fn connections(self) -> usize {
        let usable = self.limit - self.limit.div_ceil(10);
        let free = usable.saturating_sub(self.in_use).max(1);
        usize::try_from(free).unwrap_or(usize::MAX)
    }

    /// Lowers the bounds on connections to what there is room for, with the same share for one address, and says so;
    /// `None` where there is room enough.
    pub(crate) fn fit(self, bounds: &mut Bounds) -> Option<String> {
        let connections = self.connections();
        if connections >= bounds.connections {
            return None;
        }
        let wanted = std::mem::replace(&mut bounds.connections, connections);
        let per_address = &mut bounds.connections_per_address;
        *per_address = (connections.saturating_mul(*per_address) / wanted.max(1)).max(1);
        // Those who leave have no seats: they live on half of the last tenth.
        let leaving = usize::try_from(self.limit / 20).unwrap_or(usize::MAX);
        bounds.turned_away = bounds.turned_away.min(leaving);
        Some(format!(
            "the system allows {} open files (RLIMIT_NOFILE), so {connections} connections are served at once instead of \
             {wanted}, {per_address} from one address; raise the hard limit, as with `ulimit -Hn 65536` or \
             LimitNOFILE=65536 in a unit of systemd",
            self.limit
        ))
    }
}

/// Open descriptors, the one that counts them not included.
fn in_use() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(IN_USE_ASSUMED, |open| {
        (open.count() as u64).saturating_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(limit: u64, in_use: u64) -> (usize, usize, Option<String>) {
        let mut bounds = Bounds {
            connections: 10_000,
            connections_per_address: 2_500,
            ..Bounds::default()
        };
        let notice = Descriptors { limit, in_use }.fit(&mut bounds);
        (bounds.connections, bounds.connections_per_address, notice)
    }

    #[test]
    fn enough_descriptors_change_nothing() {
        assert_eq!(fitted(1 << 20, 30), (10_000, 2_500, None));
        assert_eq!(fitted(u64::MAX, 30), (10_000, 2_500, None));
    }

    #[test]
    fn few_descriptors_lower_the_bounds_and_that_is_said() {
        let (connections, per_address, notice) = fitted(256, 25);
        assert_eq!((connections, per_address), (205, 51));
        let notice = notice.unwrap();
        assert!(
            notice.starts_with(
                "the system allows 256 open files (RLIMIT_NOFILE), so 205 connections"
            ) && notice.contains("instead of 10000, 51 from one address")
                && notice.contains("ulimit -Hn 65536"),
            "{notice}"
        );
    }

    #[test]
    fn a_tenth_stays_free() {
        for limit in [100, 1024, 4096, 11_000] {
            let (connections, ..) = fitted(limit, 20);
            assert!(
                connections as u64 + 20 + limit.div_ceil(10) <= limit,
                "{limit}"
            );
        }
    }

    #[test]
    fn those_who_leave_live_on_what_is_left() {
        for (limit, leaving) in [(256, 12), (10, 0), (1 << 20, 64)] {
            let mut bounds = Bounds {
                turned_away: 64,
                ..Bounds::default()
            };
            let _notice = Descriptors { limit, in_use: 20 }.fit(&mut bounds);
            assert_eq!(bounds.turned_away, leaving, "{limit}");
        }
    }

    #[test]
    fn there_is_always_room_for_one() {
        assert_eq!(fitted(10, 30).0, 1);
        assert_eq!(fitted(0, 0).0, 1);
        assert_eq!(fitted(0, 0).1, 1);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let descriptors = Descriptors::raise(0);
        let now = getrlimit(Resource::Nofile);
        assert_eq!(Some(descriptors.limit), now.current);
        if now.maximum.is_some() {
            assert_eq!(now.current, now.maximum);
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(in_use() > 3 && in_use() < descriptors.limit);
        drop(file);
    }
}
