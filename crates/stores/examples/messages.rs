//! How fast a broker without a server hands messages on when no guest is involved: the control of `cargo xtask bench messages`.
//!
//! `messages URL MESSAGES PUBLISHERS` publishes so many messages from so many tasks at once, each of which waits until its
//! last one is accepted, while one subscriber acknowledges them, sixteen at a time. Prints the seconds from the first one
//! published to the last one acknowledged.

use std::error::Error;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use hostel_stores::messaging::{Message, Subscription};
use hostel_stores::place::{Kind, Place};
use hostel_stores::{Scope, Stores, StoresOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, messages, publishers] = arguments.as_slice() else {
        return Err("usage: messages URL MESSAGES PUBLISHERS".into());
    };
    let (messages, publishers): (usize, usize) = (messages.parse()?, publishers.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let seconds = runtime.block_on(measure(url, messages / publishers, publishers))?;
    println!("{seconds}");
    Ok(())
}

async fn measure(url: &str, each: usize, publishers: usize) -> Result<f64, Box<dyn Error>> {
    let data = tempfile::tempdir()?;
    let stores = Stores::new(StoresOptions {
        data: Some(data.path().to_owned()),
        ..StoresOptions::default()
    })?;
    let place = Place::parse(Kind::Messaging, url)?;
    let broker = stores.messaging(&place, &Scope::new("bench", "default").ok_or("a scope")?)?;
    let mut deliveries = broker.subscribe(terms()).await?;
    // The publishers have a thread of their own, as guests that publish do not stand in the way of those that handle.
    let publishing = std::thread::spawn({
        let broker = broker.clone();
        move || -> Result<(), String> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            let publish = || async {
                for _ in 0..each {
                    let published = broker.publish(message()).await;
                    published.map_err(|error| error.to_string())?;
                }
                Ok(())
            };
            let all: FuturesUnordered<_> = (0..publishers).map(|_| publish()).collect();
            let all = all.collect::<Vec<Result<(), String>>>();
            runtime.block_on(all).into_iter().collect()
        }
    });
    let begin = Instant::now();
    let mut acknowledging = FuturesUnordered::new();
    let (mut taken, mut settled) = (0, 0);
    while settled < each * publishers {
        tokio::select! {
            Some(delivery) = deliveries.next(), if taken < each * publishers => {
                taken += 1;
                acknowledging.push(delivery.settle.ack());
            }
            Some(acknowledged) = acknowledging.next() => {
                acknowledged?;
                settled += 1;
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    publishing.join().map_err(|_| "a publisher panicked")??;
    Ok(seconds)
}

fn message() -> Message {
    Message {
        topic: "bench.reading".to_owned(),
        body: vec![b'x'; 100].into(),
        ..Message::default()
    }
}

fn terms() -> Subscription {
    Subscription {
        pattern: "bench.*".to_owned(),
        group: "handler".to_owned(),
        in_flight: 16,
        ack_wait: Duration::from_secs(60),
        deliveries: 5,
        back_off: Duration::from_millis(100),
        back_off_max: Duration::from_secs(30),
        dead_letter: None,
    }
}
