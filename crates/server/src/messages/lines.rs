//! [`Lines`]: the messages of an ordered trigger that wait behind others of their key.
//!
//! One message of each key is being handled; the rest of that key stands in line, in the order in which it came. The broker is
//! told that those are not forgotten, and gets them back when the server stops.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use hostel_app::OrderedBy;
use hostel_host::messaging::Message;

use super::Arrival;

/// See the module's documentation. `T` is a delivery.
#[derive(Debug)]
pub(super) struct Lines<T> {
    /// Each key of which a message is being handled, and what waits behind that.
    busy: HashMap<String, VecDeque<T>>,
    waiting: usize,
}

impl<T> Lines<T> {
    pub(super) fn new() -> Self {
        Self {
            busy: HashMap::new(),
            waiting: 0,
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A message has come: it comes back if it is its turn, as no other one of its key is being handled.
    pub(super) fn enter(&mut self, key: Option<&str>, message: T) -> Option<T> {
        let Some(key) = key else {
            return Some(message);
        };
        if let Some(line) = self.busy.get_mut(key) {
            line.push_back(message);
            self.waiting += 1;
            return None;
        }
        self.busy.insert(key.to_owned(), VecDeque::new());
        Some(message)
    }

    /// The message of this key is dealt with: whose turn is it now?
    pub(super) fn leave(&mut self, key: Option<&str>) -> Option<T> {
        let key = key?;
        let next = self.busy.get_mut(key).and_then(VecDeque::pop_front);
        match next {
            Some(_) => self.waiting -= 1,
            None => drop(self.busy.remove(key)),
        }
        next
    }

    /// All that wait.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.busy.values_mut().flatten()
    }

    /// The same, taken out; each line in its order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.waiting = 0;
        std::mem::take(&mut self.busy).into_values().flatten()
    }
}

/// What a message has in common with those that it must not overtake; `None` where it is free.
pub(super) fn key(by: Option<&OrderedBy>, message: &Message) -> Option<String> {
    match by? {
        OrderedBy::Topic => Some(message.topic.clone()),
        OrderedBy::Metadata(name) => {
            let mut headers = message.headers.iter();
            let header = headers.find(|(header, _)| header.eq_ignore_ascii_case(name));
            header.map(|(_, value)| value.clone())
        }
    }
}

/// Tells the broker of messages that still wait. Where it cannot be told, the rest is left for the next time.
pub(super) async fn remind_of(waiting: impl Iterator<Item = &mut Arrival>) {
    for arrival in waiting {
        if arrival.delivery.settle.extend().await.is_err() {
            return;
        }
    }
}

/// Does something with the broker, which may be slow, while guests go on; what of theirs has ended meanwhile.
pub(super) async fn meanwhile<H: Future>(
    told: impl Future<Output = ()>,
    handling: &mut FuturesUnordered<H>,
) -> Vec<H::Output> {
    let (mut told, mut ended) = (pin!(told), Vec::new());
    loop {
        tokio::select! {
            () = &mut told => return ended,
            Some(one) = handling.next() => ended.push(one),
        }
    }
}

/// Gives messages back on which nobody has worked, all at once: a broker that writes them down does so together. Without the
/// broker they come again when their time is over.
pub(super) async fn give_back(waiting: impl Iterator<Item = Arrival>) {
    let released = waiting.map(|arrival| arrival.delivery.settle.release());
    let _told = join_all(released).await;
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn one_of_a_key_has_its_turn_and_the_rest_waits_in_its_order() {
        let mut lines = Lines::new();
        assert_eq!(lines.enter(Some("a"), 1), Some(1));
        assert_eq!(lines.enter(Some("a"), 2), None);
        assert_eq!(lines.enter(Some("b"), 3), Some(3));
        assert_eq!(lines.enter(Some("a"), 4), None);
        assert_eq!(lines.enter(None, 5), Some(5));
        assert_eq!(lines.waiting(), 2);
        assert_eq!(lines.iter_mut().map(|message| *message).sum::<i32>(), 6);
        assert_eq!(lines.leave(Some("b")), None);
        assert_eq!(lines.leave(None), None);
        assert_eq!(lines.leave(Some("a")), Some(2));
        assert_eq!(lines.leave(Some("a")), Some(4));
        assert_eq!(lines.leave(Some("a")), None);
        assert_eq!(lines.enter(Some("a"), 6), Some(6));
        assert_eq!(lines.enter(Some("a"), 7), None);
        assert_eq!(lines.enter(Some("a"), 8), None);
        assert_eq!(lines.take().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(lines.waiting(), 0);
    }

    #[tokio::test]
    async fn guests_go_on_while_the_broker_is_told_something() {
        let (heard, waits) = oneshot::channel::<()>();
        let mut handling = FuturesUnordered::new();
        handling.push(async move {
            heard.send(()).unwrap();
            "a"
        });
        // The broker answers no sooner than a guest has gone on.
        let told = async { waits.await.unwrap() };
        assert_eq!(meanwhile(told, &mut handling).await, ["a"]);
        assert!(meanwhile(async {}, &mut handling).await.is_empty());
    }

    #[test]
    fn a_key_is_the_topic_or_a_value_and_a_message_without_it_is_free() {
        let message = Message {
            topic: "a.b".to_owned(),
            headers: vec![("Shop".to_owned(), "north".to_owned())],
            ..Message::default()
        };
        let by = |name: &str| OrderedBy::Metadata(name.to_owned());
        let key_by = |by: &OrderedBy| key(Some(by), &message);
        assert_eq!(key(None, &message), None);
        assert_eq!(key_by(&OrderedBy::Topic).as_deref(), Some("a.b"));
        assert_eq!(key_by(&by("shop")).as_deref(), Some("north"));
        assert_eq!(key_by(&by("sensor")), None);
    }
}
