//! Sensors: publishes readings, each sensor's in order, for as long as it runs.
//!
//! A reading counts as published once whoever takes it has said so. How far each sensor is stands in a key-value store, so that a
//! sensor goes on where it was, whatever was killed in between; the reading that nobody had confirmed is then sent again.
//!
//! With a `broker` in its configuration it speaks to that one over TCP; without one it publishes messages. `bus` is both ways.

mod bus;

mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../../wit/config",
            "../../../wit/keyvalue",
            "../../../wit/messaging",
            "../wit/readings",
        ],
        world: "telemetry:readings/readings",
        generate_all,
    });
}

use std::thread::sleep;
use std::time::Duration;

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::store::{self, Bucket};

use bus::Bus;

/// Before something is tried again that did not work.
const PAUSE: Duration = Duration::from_millis(200);

fn main() {
    let interval = Duration::from_millis(number("interval_ms", 10));
    let sensors = number("sensors", 3);
    let progress = store::open("progress").expect("the store of the manifest");
    let mut sensors: Vec<Sensor> = (1..=sensors).map(|at| Sensor::new(at, &progress)).collect();
    let mut bus = Bus::new(config::get("broker").ok().flatten());
    loop {
        for sensor in &mut sensors {
            sensor.publish_next(&mut bus, &progress);
        }
        sleep(interval);
    }
}

/// A number of the configuration.
fn number(name: &str, otherwise: u64) -> u64 {
    match config::get(name) {
        Ok(Some(text)) => text.parse().expect("a number in the configuration"),
        _ => otherwise,
    }
}

struct Sensor {
    name: String,
    /// Its last reading that was confirmed.
    published: u64,
}

impl Sensor {
    fn new(at: u64, progress: &Bucket) -> Self {
        let name = format!("sensor-{at}");
        let kept = progress.get(&name).expect("the store can be read");
        let text = kept.and_then(|bytes| String::from_utf8(bytes).ok());
        Self {
            published: text.and_then(|text| text.parse().ok()).unwrap_or(0),
            name,
        }
    }

    fn publish_next(&mut self, bus: &mut Bus, progress: &Bucket) {
        let number = self.published + 1;
        let reading = reading(&self.name, number);
        while let Err(why) = bus.publish(&self.name, number, &reading) {
            eprintln!("{} {number} waits: {why}", self.name);
            sleep(PAUSE);
        }
        while let Err(why) = progress.set(&self.name, number.to_string().as_bytes()) {
            eprintln!("{} {number} is not remembered: {why:?}", self.name);
            sleep(PAUSE);
        }
        self.published = number;
    }
}

/// A day of 1,000 readings, warm at noon.
fn reading(sensor: &str, number: u64) -> String {
    let of_day = (number % 1000) as f64 / 1000.0;
    let sun = (of_day * std::f64::consts::TAU - std::f64::consts::FRAC_PI_2).sin();
    let (temperature, pressure) = (15.0 + 8.0 * sun, 1.013 - 0.004 * sun);
    format!(
        r#"{{"sensor":"{sensor}","number":{number},"temperature":{temperature:.2},"pressure":{pressure:.4}}}"#
    )
}
