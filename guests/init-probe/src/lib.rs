//! Uses one part of the interfaces of server-side-wasm in each export, and tells in the log what came of it.

use init_abi::{loginfo, loginfo_bytes, publish, read, request, subscribe, taken};

fn tell(text: &str) {
    loginfo("probe", text);
}

/// Subscribes, publishes one message, and reads twice.
#[unsafe(no_mangle)]
unsafe extern "C" fn talk(topic: *mut u8, topic_len: usize, text: *mut u8, text_len: usize) {
    let (topic, text) = unsafe { (taken(topic, topic_len), taken(text, text_len)) };
    tell(&format!("subscribed to {}", subscribe(&topic)));
    publish(&topic, &text);
    tell(&read(&topic));
    tell(&read(&topic));
}

/// Publishes one message.
#[unsafe(no_mangle)]
unsafe extern "C" fn say(topic: *mut u8, topic_len: usize, text: *mut u8, text_len: usize) {
    let (topic, text) = unsafe { (taken(topic, topic_len), taken(text, text_len)) };
    publish(&topic, &text);
}

/// Reads one message.
#[unsafe(no_mangle)]
unsafe extern "C" fn hear(topic: *mut u8, topic_len: usize) {
    tell(&read(&unsafe { taken(topic, topic_len) }));
}

/// Subscribes to so many topics.
#[unsafe(no_mangle)]
extern "C" fn subscribe_to(count: u32) -> u32 {
    for number in 0..count {
        subscribe(&format!("t{number}"));
    }
    count
}

/// Hands the host a string that is none.
#[unsafe(no_mangle)]
extern "C" fn not_utf8() {
    loginfo_bytes("probe", b"\xff\xfe");
}

/// Posts a body, and returns the status, or the interface's code where there is none.
#[unsafe(no_mangle)]
unsafe extern "C" fn post(url: *mut u8, url_len: usize, body: *mut u8, body_len: usize) -> u32 {
    let (url, body) = unsafe { (taken(url, url_len), taken(body, body_len)) };
    let response = match request("POST", &url, "x-probe:yes\n", body.as_bytes()) {
        Ok(response) => response,
        Err(code) => return code,
    };
    tell(&format!("type {:?}", response.header("content-type")));
    tell(&format!("absent {:?}", response.header("x-absent")));
    tell(&format!("small buffer {:?}", response.headers(1)));
    tell(&format!(
        "headers {}",
        response.headers(4096).unwrap().contains("content-type:")
    ));
    tell(&format!(
        "body {}",
        String::from_utf8_lossy(&response.body())
    ));
    tell(&format!("closed {} {}", response.close(), response.close()));
    u32::from(response.status)
}

/// Posts so many times without closing anything; the code of the last request, 0 if it was answered.
#[unsafe(no_mangle)]
unsafe extern "C" fn hold(url: *mut u8, url_len: usize, count: u32) -> u32 {
    let url = unsafe { taken(url, url_len) };
    let mut last = 0;
    for _ in 0..count {
        last = request("POST", &url, "", b"").map_or_else(|code| code, |_| 0);
    }
    last
}
