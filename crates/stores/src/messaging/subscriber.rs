//! One subscription of a [`Broker`]: how it waits for messages, and what becomes of those that it was given.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::broker::{Broker, now_ms};
use super::group::Key;
use super::journal::Op;
use super::{Delivery, Result, Settle, Subscription};

/// One subscription.
pub(super) struct Subscriber {
    pub(super) broker: Arc<Broker>,
    pub(super) key: Key,
    pub(super) terms: Arc<Subscription>,
    pub(super) id: u64,
}

/// What a subscriber finds.
enum Found {
    Delivery(Delivery),
    /// Nothing until it is woken, or until then.
    Nothing(Option<Instant>),
    /// Its group was forgotten.
    Gone,
}

impl Subscriber {
    pub(super) async fn next(&self) -> Option<Delivery> {
        let wake = self.broker.lock().groups.get(&self.key)?.wake.clone();
        loop {
            let woken = wake.notified();
            tokio::pin!(woken);
            // From here on no wake is missed.
            woken.as_mut().enable();
            match self.look() {
                Found::Delivery(delivery) => return Some(delivery),
                Found::Nothing(None) => woken.await,
                Found::Nothing(Some(due)) => {
                    // Late or early, what is due is looked for again.
                    let _woken = timeout_at(due, woken).await;
                }
                Found::Gone => return None,
            }
        }
    }

    fn look(&self) -> Found {
        let now = Instant::now();
        let mut state = self.broker.lock();
        while let Some((id, attempt)) = state
            .groups
            .get(&self.key)
            .and_then(|group| group.expired(now))
        {
            self.broker.fail(&mut state, &self.key, id, attempt);
        }
        let Some(group) = state.groups.get_mut(&self.key) else {
            return Found::Gone;
        };
        let Some((held, attempt)) = group.take(self.id, &self.terms, now) else {
            return Found::Nothing(group.due());
        };
        if let Some(journal) = &self.broker.journal
            && held.message.reply_to.is_none()
        {
            drop(journal.push(Op::Tried(self.key.clone(), held.id, attempt)));
        }
        Found::Delivery(Delivery {
            message: held.message.clone(),
            attempt,
            settle: Box::new(Receipt {
                broker: self.broker.clone(),
                key: self.key.clone(),
                id: held.id,
                attempt,
                settled: false,
            }),
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut state = self.broker.lock();
        if let Some(group) = state.groups.get_mut(&self.key) {
            group.leave(self.id);
            group.seen_ms = now_ms();
            if let Some(journal) = &self.broker.journal {
                drop(journal.push(Op::Seen(self.key.clone(), group.seen_ms)));
            }
        }
    }
}

/// The other half of a delivery.
#[derive(Debug)]
struct Receipt {
    broker: Arc<Broker>,
    key: Key,
    id: u64,
    attempt: u32,
    settled: bool,
}

#[async_trait]
impl Settle for Receipt {
    async fn ack(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        match self.broker.ack(&self.key, self.id) {
            Some(written) => written.await,
            None => Ok(()),
        }
    }

    async fn nack(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn reject(mut self: Box<Self>, tries: u32) -> Result<()> {
        self.settled = true;
        (self.broker).reject(&self.key, self.id, self.attempt, tries);
        Ok(())
    }

    async fn release(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        match self.broker.release(&self.key, self.id, self.attempt) {
            Some(written) => written.await,
            None => Ok(()),
        }
    }

    async fn extend(&mut self) -> Result<()> {
        self.broker.extend(&self.key, self.id, self.attempt);
        Ok(())
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.settled {
            self.broker.nack(&self.key, self.id, self.attempt);
        }
    }
}
