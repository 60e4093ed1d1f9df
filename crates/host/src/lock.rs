//! The one way to take a lock in this room.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, also after a panic elsewhere: nothing that these locks protect is ever left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
