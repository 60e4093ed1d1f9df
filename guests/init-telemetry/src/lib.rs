//! Publishes `count` readings, one every `telemetry_interval_in_milliseconds`, and then waits for ever.

use std::thread::sleep;
use std::time::Duration;

use init_abi::{config, loginfo, publish, taken};

#[unsafe(no_mangle)]
unsafe extern "C" fn init(path: *mut u8, path_len: usize) {
    let path = unsafe { taken(path, path_len) };
    let config = config(&path);
    let number = |key: &str| config[key].parse::<u64>().unwrap();
    let pause = Duration::from_millis(number("telemetry_interval_in_milliseconds"));
    loginfo("telemetry", &format!("configured by {path}"));
    for reading in 0..number("count") {
        publish(
            "telemetry",
            &format!("{{\"device Id\":\"001\",\"reading\":{reading}}}"),
        );
        sleep(pause);
    }
    loop {
        sleep(Duration::from_secs(3600));
    }
}
