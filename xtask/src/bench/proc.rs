//! What a server has cost so far, read from `/proc`: CPU time, time spent waiting for a CPU, peak memory.
//!
//! Everything is summed over the process and its descendants. Only Linux has these files; nothing here measures by sampling.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Nanoseconds of one clock tick of `/proc/PID/stat`: Linux shows 100 ticks per second on every architecture.
const TICK_NS: u64 = 10_000_000;

/// How far the tick count may exceed the exact one before it is believed: user and system time are rounded apart.
const TICK_ROUNDING_NS: u64 = 3 * TICK_NS;

/// CPU and waiting time of one thread, both in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ThreadTime {
    cpu_ns: u64,
    wait_ns: u64,
}

/// A reading of one process tree.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// By thread id, over all processes of the tree.
    threads: BTreeMap<u32, ThreadTime>,
    /// CPU time in ticks, as nanoseconds; coarse, but it still counts threads that have ended.
    ticks_ns: u64,
    /// Sum of `VmHWM`: the most memory each process has had resident, in bytes.
    pub(crate) memory_peak_bytes: u64,
}

impl Usage {
    /// Reads the process `pid` and its descendants. Fails when `pid` does not exist (any more).
    pub(crate) fn read(pid: u32) -> Result<Usage> {
        let mut usage = Usage::default();
        usage
            .add_process(pid)
            .with_context(|| format!("the server's process {pid} cannot be read"))?;
        for child in descendants(pid, &parents()?) {
            // A child may end between the listing and the reading; its CPU is in its parent's ticks then.
            usage.add_process(child).ok();
        }
        Ok(usage)
    }

    /// CPU nanoseconds of the tree between `earlier` and this reading.
    ///
    /// The scheduler's own per-thread counters are exact but vanish with their thread. When the coarse count says that
    /// visibly more was used, threads have come and gone, and the coarse count is the better answer.
    pub(crate) fn cpu_ns_since(&self, earlier: &Usage) -> u64 {
        let exact = self.sum_since(earlier, |thread| thread.cpu_ns);
        let coarse = self.ticks_ns.saturating_sub(earlier.ticks_ns);
        if coarse > exact + TICK_ROUNDING_NS.max(exact / 50) {
            coarse
        } else {
            exact
        }
    }

    /// Nanoseconds that threads of the tree were ready to run but waited for their CPU, between `earlier` and this reading.
    pub(crate) fn wait_ns_since(&self, earlier: &Usage) -> u64 {
        self.sum_since(earlier, |thread| thread.wait_ns)
    }

    fn sum_since(&self, earlier: &Usage, part: fn(&ThreadTime) -> u64) -> u64 {
        let grown = |(id, now): (&u32, &ThreadTime)| {
            let before = earlier.threads.get(id).map_or(0, part);
            part(now).saturating_sub(before)
        };
        self.threads.iter().map(grown).sum()
    }

    fn add_process(&mut self, pid: u32) -> Result<()> {
        let folder = Path::new("/proc").join(pid.to_string());
        let stat = parse_stat(&fs::read_to_string(folder.join("stat"))?)?;
        let status = fs::read_to_string(folder.join("status"))?;
        for entry in fs::read_dir(folder.join("task"))? {
            let entry = entry?;
            let Some(id) = numeric_name(&entry) else {
                continue;
            };
            // Absent when the thread ended just now, or on a kernel without scheduler statistics: the ticks count it.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            self.threads.insert(id, parse_schedstat(&text)?);
        }
        self.ticks_ns += stat.ticks * TICK_NS;
        self.memory_peak_bytes += parse_bytes(&status, "VmHWM:")?;
        Ok(())
    }
}

/// Memory of the process `pid` that is resident now, in bytes, without its children.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Most memory of the process `pid` that was resident since [`forget_peak`], or since its start.
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Starts the peak of the process `pid` anew from what is resident now (proc(5), `clear_refs`).
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

/// How many descriptors the process `pid` has open.
pub(crate) fn descriptors(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&path).with_context(|| format!("cannot list {path}"))?;
    Ok(entries.count() as u64)
}

fn status_bytes(pid: u32, key: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_bytes(&status, key)
}

/// Every process with its parent.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("/proc cannot be listed: the bench needs Linux")? {
        let entry = entry?;
        let Some(pid) = numeric_name(&entry) else {
            continue;
        };
        // Processes end while they are listed; that is no error.
        if let Ok(text) = fs::read_to_string(entry.path().join("stat")) {
            parents.insert(pid, parse_stat(&text)?.parent);
        }
    }
    Ok(parents)
}

fn numeric_name(entry: &fs::DirEntry) -> Option<u32> {
    entry.file_name().to_str()?.parse().ok()
}

/// All processes below `root`, in no particular order.
fn descendants(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for (&pid, _) in parents.iter().filter(|&(_, &of)| of == parent) {
            // A process tree has no cycles, but this listing was not taken in one instant.
            if pid != root && !found.contains(&pid) {
                found.push(pid);
                open.push(pid);
            }
        }
    }
    found
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time of the process and of the children it has waited for.
    ticks: u64,
}

/// Parses `/proc/PID/stat` (proc(5)). The name in parentheses may itself hold blanks and parentheses.
fn parse_stat(text: &str) -> Result<Stat> {
    let (_, rest) = text
        .rsplit_once(')')
        .context("/proc/PID/stat has no name in parentheses")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // `rest` begins with the third field, so field n of proc(5) is at n - 3.
    let number = |field: usize| -> Result<u64> {
        let text = fields.get(field - 3).copied().unwrap_or_default();
        text.parse()
            .with_context(|| format!("/proc/PID/stat: field {field} is `{text}`, not a number"))
    };
    let parent = u32::try_from(number(4)?).context("/proc/PID/stat: the parent's pid")?;
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Ok(Stat { parent, ticks })
}

/// Parses `/proc/PID/task/TID/schedstat`: nanoseconds on the CPU, nanoseconds waiting for it, time slices.
fn parse_schedstat(text: &str) -> Result<ThreadTime> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(cpu_ns)), Some(Ok(wait_ns))) => Ok(ThreadTime { cpu_ns, wait_ns }),
        _ => anyhow::bail!("schedstat is `{}`, not three numbers", text.trim()),
    }
}

/// A size in `/proc/PID/status` in bytes; 0 for a process that has already given its memory back.
fn parse_bytes(status: &str, key: &str) -> Result<u64> {
    let Some(line) = status.lines().find_map(|line| line.strip_prefix(key)) else {
        return Ok(0);
    };
    let kib = line.trim().trim_end_matches("kB").trim_end();
    let kib: u64 = kib
        .parse()
        .with_context(|| format!("{key} is `{}`, not a number of kB", line.trim()))?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(threads: &[(u32, u64)], ticks_ns: u64) -> Usage {
        let threads = threads
            .iter()
            .map(|&(id, cpu_ns)| (id, ThreadTime { cpu_ns, wait_ns: 1 }));
        Usage {
            threads: threads.collect(),
            ticks_ns,
            memory_peak_bytes: 0,
        }
    }

    #[test]
    fn cpu_is_the_sum_of_what_each_thread_used_in_between() {
        let before = usage(&[(1, 100), (2, 50)], 0);
        let after = usage(&[(1, 600), (2, 50), (3, 7)], 0);
        assert_eq!(after.cpu_ns_since(&before), 507);
    }

    #[test]
    fn ended_threads_are_counted_by_the_coarse_clock() {
        let before = usage(&[(1, 0), (2, 900_000_000)], 900_000_000);
        let after = usage(&[(1, 100_000_000)], 1_900_000_000);
        assert_eq!(after.cpu_ns_since(&before), 1_000_000_000);
        let rounding = usage(&[(1, 100_000_000)], 1_010_000_000);
        assert_eq!(rounding.cpu_ns_since(&before), 100_000_000);
    }

    #[test]
    fn stat_is_read_behind_a_name_with_parentheses() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 0 0 0 11 12 13 14 20 0 1 0";
        assert_eq!(
            parse_stat(text).unwrap(),
            Stat {
                parent: 7,
                ticks: 50
            }
        );
    }

    #[test]
    fn unreadable_figures_are_errors_that_quote_them() {
        assert!(parse_stat("no name").is_err());
        let short = parse_stat("1 (x) S 7 1").unwrap_err().to_string();
        assert!(short.contains("field 14"), "{short}");
        let schedstat = parse_schedstat("12 x 3").unwrap_err().to_string();
        assert!(schedstat.contains("`12 x 3`"), "{schedstat}");
        let peak = parse_bytes("VmHWM:\t lots kB\n", "VmHWM:")
            .unwrap_err()
            .to_string();
        assert!(peak.contains("`lots kB`"), "{peak}");
    }

    #[test]
    fn peak_memory_is_in_bytes() {
        assert_eq!(
            parse_bytes("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n", "VmHWM:").unwrap(),
            2048 * 1024
        );
        assert_eq!(parse_bytes("Name:\tzombie\n", "VmHWM:").unwrap(), 0);
    }

    #[test]
    fn descendants_are_found_at_every_depth() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (9, 8)]);
        let mut found = descendants(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn memory_and_descriptors_of_this_process_are_counted() {
        let here = std::process::id();
        let before = descriptors(here).unwrap();
        let resident = resident_bytes(here).unwrap();
        assert!(before > 2 && resident > 0);
        forget_peak(here).unwrap();
        assert!(peak_bytes(here).unwrap() > 0);
        assert!(resident_bytes(u32::MAX).is_err() && descriptors(u32::MAX).is_err());
    }

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_an_error() {
        let here = Usage::read(std::process::id()).unwrap();
        assert!(here.memory_peak_bytes > 0);
        assert!(!here.threads.is_empty());
        let missing = Usage::read(u32::MAX).unwrap_err().to_string();
        assert!(missing.contains("cannot be read"), "{missing}");
    }
}
