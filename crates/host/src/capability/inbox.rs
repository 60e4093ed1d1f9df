//! Messages that an instance fetches itself, topic by topic: grant, budget, driver.
//!
//! All instances of a component are one group. A message counts as done when the instance asks for the next one of its topic:
//! what it had when it ended is delivered again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use futures::stream::{BoxStream, StreamExt};
use hostel_app::limits;
use hostel_stores::messaging::{Delivery, Message, Settle, Subscription, is_topic, matches};
use tokio::time::timeout;

use super::denied::Wanted;
use super::messaging::{Error, Letter, failed};
use crate::state::Host;

/// Its subscriptions, by topic.
#[derive(Default)]
pub(crate) struct Inboxes(HashMap<String, Inbox>);

impl fmt::Debug for Inboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

struct Inbox {
    /// Nobody else locks it; only so is it shared between threads.
    deliveries: Mutex<BoxStream<'static, Delivery>>,
    /// The message that the instance works on.
    last: Option<Box<dyn Settle>>,
}

impl Host {
    /// Publishes a text on the app's own broker.
    pub(crate) async fn publish_text(&mut self, topic: &str, text: String) -> Result<(), Error> {
        let client = self.connect("")?;
        let letter = Letter {
            data: text.into_bytes().into(),
            ..Letter::default()
        };
        self.publish_message(&client, topic, &letter).await
    }

    /// From now on the component gets the messages of this topic.
    pub(crate) async fn subscribe_to(&mut self, topic: &str) -> Result<(), Error> {
        if self.inboxes.0.contains_key(topic) {
            return Ok(());
        }
        if !is_topic(topic) {
            return Err(Error::Other("this is not a topic".to_owned()));
        }
        let granted = &self.template().granted.topics.subscribe;
        if !granted.iter().any(|pattern| matches(pattern, topic)) {
            self.template().denied(Wanted::Subscribe, topic);
            return Err(Error::Denied(format!("the topic {topic} is not granted")));
        }
        let most = limits::INSTANCE_SUBSCRIPTIONS.size();
        if self.inboxes.0.len() >= most {
            return Err(Error::Other(format!(
                "it has subscribed to {most} topics, and that is its limit"
            )));
        }
        self.charge_store_call(0)?;
        let (client, charge) = (self.connect("")?, self.charge().clone());
        let subscription = Subscription {
            pattern: topic.to_owned(),
            group: format!("read-{}", self.template().component),
            in_flight: 1,
            ack_wait: limits::INSTANCE_ACK_WAIT_MS.duration(),
            deliveries: limits::MESSAGE_DELIVERIES.count(),
            back_off: limits::MESSAGE_BACK_OFF_MS.duration(),
            back_off_max: limits::MESSAGE_BACK_OFF_MAX_MS.duration(),
            dead_letter: None,
        };
        let deliveries = client.broker().subscribe(subscription).await;
        let deliveries = deliveries.map_err(|error| failed(&charge, &error))?;
        let inbox = Inbox {
            deliveries: Mutex::new(deliveries),
            last: None,
        };
        self.inboxes.0.insert(topic.to_owned(), inbox);
        Ok(())
    }

    /// The next message of a topic; `None` if there is none now.
    pub(crate) async fn next_message(&mut self, topic: &str) -> Result<Option<Message>, Error> {
        self.subscribe_to(topic).await?;
        self.charge_store_call(0)?;
        let charge = self.charge().clone();
        let Some(inbox) = self.inboxes.0.get_mut(topic) else {
            return Ok(None);
        };
        if let Some(last) = inbox.last.take() {
            last.ack().await.map_err(|error| failed(&charge, &error))?;
        }
        let Ok(deliveries) = inbox.deliveries.get_mut() else {
            return Err(Error::Other("the subscription has failed".to_owned()));
        };
        let next = timeout(limits::INSTANCE_READ_WAIT_MS.duration(), deliveries.next());
        let Ok(Some(delivery)) = next.await else {
            return Ok(None);
        };
        inbox.last = Some(delivery.settle);
        self.charge_store_call(delivery.message.size())?;
        Ok(Some(delivery.message))
    }
}
