//! The memory of all guests together: so many bytes for the process, and no component may take nearly all of them.
//!
//! Each instance's own limit is `meter`'s business; this one keeps many instances within what the machine has. The first
//! bytes of every instance are free: small guests never notice, however much others have taken.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use hostel_app::limits;

/// What every instance may have without being counted.
const FREE: u64 = 2 << 20;

/// The process's part.
pub(crate) struct Budget {
    used: AtomicU64,
    max: u64,
    /// Gives back what nobody needs at the moment.
    relief: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, max) = self.stats();
        write!(f, "Budget({used} of {max})")
    }
}

/// One component's part of it.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    used: AtomicU64,
    max: u64,
}

/// What one instance has taken; given back on drop.
#[derive(Debug)]
pub(crate) struct Taken {
    share: Arc<Share>,
    bytes: u64,
}

impl Budget {
    /// So many bytes; without a number as the table of limits says, but no more than half of the machine.
    pub(crate) fn new(bytes: Option<u64>) -> Arc<Self> {
        let most = machine().map_or(u64::MAX, |machine| machine / 2);
        Arc::new(Self {
            used: AtomicU64::new(0),
            max: bytes.unwrap_or_else(|| limits::MEMORY_TOTAL.default.min(most)),
            relief: OnceLock::new(),
        })
    }

    /// What to do when there is no room, before an instance is told so.
    pub(crate) fn when_short(&self, relief: impl Fn() + Send + Sync + 'static) {
        let _first = self.relief.set(Box::new(relief));
    }

    /// The part of a component: three quarters at the most.
    pub(crate) fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share {
            budget: self.clone(),
            used: AtomicU64::new(0),
            max: self.max / 4 * 3,
        })
    }

    /// Bytes that are taken now, and that can be.
    pub(crate) fn stats(&self) -> (u64, u64) {
        (self.used.load(Relaxed), self.max)
    }
}

impl Share {
    /// For a new instance.
    pub(crate) fn open(self: &Arc<Self>) -> Taken {
        Taken {
            share: self.clone(),
            bytes: 0,
        }
    }
}

impl Taken {
    /// The instance is to have `total` bytes; false if there is no room for that many.
    pub(crate) fn grow_to(&mut self, total: u64) -> bool {
        let wanted = total.saturating_sub(FREE);
        let more = wanted.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let mut grown = self.take(more);
        if !grown && let Some(relief) = self.share.budget.relief.get() {
            relief();
            grown = self.take(more);
        }
        if grown {
            self.bytes = wanted;
        }
        grown
    }

    fn take(&self, more: u64) -> bool {
        if !take(&self.share.used, more, self.share.max) {
            return false;
        }
        if !take(&self.share.budget.used, more, self.share.budget.max) {
            self.share.used.fetch_sub(more, Relaxed);
            return false;
        }
        true
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.share.used.fetch_sub(self.bytes, Relaxed);
            self.share.budget.used.fetch_sub(self.bytes, Relaxed);
        }
    }
}

fn take(used: &AtomicU64, more: u64, max: u64) -> bool {
    let sum = |used: u64| used.checked_add(more).filter(|sum| *sum <= max);
    used.fetch_update(Relaxed, Relaxed, sum).is_ok()
}

/// Memory of the machine or of the control group that this process is in, whichever is less.
fn machine() -> Option<u64> {
    let installed = total(&fs::read_to_string("/proc/meminfo").ok()?);
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = groups(&group).filter_map(|folder| {
        let max = fs::read_to_string(folder.join("memory.max"));
        max.ok()?.trim().parse().ok()
    });
    let allowed = allowed.min();
    match (installed, allowed) {
        (Some(installed), Some(allowed)) => Some(installed.min(allowed)),
        (installed, allowed) => installed.or(allowed),
    }
}

/// The folders of the control group that `/proc/self/cgroup` names, and of those above it.
fn groups(cgroup: &str) -> impl Iterator<Item = PathBuf> {
    const ROOT: &str = "/sys/fs/cgroup";
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = Path::new(ROOT).join(path.unwrap_or_default());
    let folders: Vec<PathBuf> = own.ancestors().map(Path::to_path_buf).collect();
    folders
        .into_iter()
        .filter(|folder| folder.starts_with(ROOT))
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const MIB: u64 = 1 << 20;

    #[test]
    fn all_instances_together_have_a_bound_and_give_back_what_they_had() {
        let budget = Budget::new(Some(100 * MIB));
        let (a, b) = (budget.share(), budget.share());
        let (mut first, mut second) = (a.open(), b.open());
        assert!(first.grow_to(62 * MIB));
        assert!(
            !second.grow_to(50 * MIB),
            "60 are taken, 48 more are not there"
        );
        assert!(second.grow_to(42 * MIB));
        assert_eq!(budget.stats(), (100 * MIB, 100 * MIB));
        drop(first);
        assert!(second.grow_to(50 * MIB));
        drop(second);
        assert_eq!(budget.stats(), (0, 100 * MIB));
    }

    #[test]
    fn no_component_takes_everything() {
        let budget = Budget::new(Some(100 * MIB));
        let greedy = budget.share();
        let mut instances: Vec<_> = (0..100).map(|_| greedy.open()).collect();
        let got = instances
            .iter_mut()
            .map(|instance| instance.grow_to(7 * MIB))
            .filter(|grown| *grown)
            .count();
        assert_eq!(got, 15, "of 5 MiB each");
        let mut other = budget.share().open();
        assert!(other.grow_to(20 * MIB));
    }

    #[test]
    fn what_nobody_needs_makes_room() {
        let budget = Budget::new(Some(100 * MIB));
        let mut idle = budget.share().open();
        assert!(idle.grow_to(70 * MIB));
        let idle = Mutex::new(Some(idle));
        budget.when_short(move || drop(idle.lock().unwrap().take()));
        let mut busy = budget.share().open();
        assert!(busy.grow_to(60 * MIB));
        assert!(
            !busy.grow_to(90 * MIB),
            "there is nothing more to give back"
        );
    }

    #[test]
    fn a_small_instance_always_has_room() {
        let budget = Budget::new(Some(0));
        let mut small = budget.share().open();
        assert!(small.grow_to(FREE));
        assert!(!small.grow_to(FREE + 1));
    }

    #[test]
    fn the_default_fits_the_machine() {
        let (_, max) = Budget::new(None).stats();
        assert!(max <= limits::MEMORY_TOTAL.default && max > 0);
        assert_eq!(
            total("MemTotal:       16384 kB\nMemFree: 1 kB"),
            Some(16 * MIB)
        );
        assert_eq!(total("nothing"), None);
        let found: Vec<_> = groups("0::/system.slice/hostel.service\n").collect();
        let folders = ["system.slice/hostel.service", "system.slice", ""];
        assert_eq!(
            found,
            folders.map(|name| Path::new("/sys/fs/cgroup").join(name))
        );
        assert_eq!(groups("").count(), 1);
    }
}
