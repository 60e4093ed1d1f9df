//! [`Held`]: bytes of blobs that the host holds for one instance, and their limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one instance may have the host hold: bodies whose place is not known yet, and values that are read at once. Clones
/// count together.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    bytes: Arc<AtomicUsize>,
    most: usize,
}

impl Held {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            bytes: Arc::default(),
            most,
        }
    }

    /// The limit, in bytes.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// What may be added.
    pub(super) fn free(&self) -> usize {
        self.most.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    /// Counts so many more until the share is dropped; `None` if that is too much.
    pub(super) fn take(&self, bytes: usize) -> Option<Share> {
        let mut share = self.none();
        share.add(bytes).then_some(share)
    }

    /// A share that has nothing yet.
    pub(super) fn none(&self) -> Share {
        Share {
            held: self.clone(),
            bytes: 0,
        }
    }
}

/// Some of what is held.
#[derive(Debug)]
pub(super) struct Share {
    held: Held,
    bytes: usize,
}

impl Share {
    /// What may be added.
    pub(super) fn free(&self) -> usize {
        self.held.free()
    }

    /// The limit, in bytes.
    pub(super) fn most(&self) -> usize {
        self.held.most
    }

    /// Whether there was room for so many more.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        let most = self.held.most;
        let fits = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= most);
        let added = self
            .held
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if added.is_ok() {
            self.bytes += bytes;
        }
        added.is_ok()
    }

    /// Gives back up to so many.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.held.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_count_together_and_come_back() {
        let held = Held::new(10);
        let mut one = held.take(4).unwrap();
        assert!(held.clone().take(7).is_none());
        let two = held.take(6).unwrap();
        assert!(!one.add(1) && held.free() == 0);
        one.give_back(3);
        assert_eq!(held.free(), 3);
        drop((one, two));
        assert_eq!(held.free(), 10);
        assert!(held.take(usize::MAX).is_none());
    }
}
