//! Servers that tests share as long as one of them runs.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use hostel_backends::{Nats, Redis};

pub(crate) fn redis() -> Arc<Redis> {
    static ONE: Mutex<Weak<Redis>> = Mutex::new(Weak::new());
    one(&ONE, Redis::start)
}

pub(crate) fn nats() -> Arc<Nats> {
    static ONE: Mutex<Weak<Nats>> = Mutex::new(Weak::new());
    one(&ONE, Nats::start)
}

fn one<T>(one: &Mutex<Weak<T>>, start: fn() -> T) -> Arc<T> {
    let mut one = one.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = one.upgrade() {
        return server;
    }
    let server = Arc::new(start());
    *one = Arc::downgrade(&server);
    server
}
