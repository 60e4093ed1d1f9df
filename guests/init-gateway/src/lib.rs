//! Posts what it reads of `topic` to `http_post_url`, and insists on the answer that it was told to expect.

use std::thread::sleep;
use std::time::Duration;

use init_abi::{config, loginfo, read, request, subscribe, taken};

#[unsafe(no_mangle)]
unsafe extern "C" fn init(path: *mut u8, path_len: usize) {
    let config = config(&unsafe { taken(path, path_len) });
    let pause = config["http_post_interval_in_milliseconds"]
        .parse()
        .unwrap();
    let topic = subscribe(&config["topic"]);
    loginfo("gateway", &format!("forwards {topic}"));
    loop {
        let message = read(&topic);
        let text = message.strip_prefix(&format!("{topic} ")).unwrap();
        if text == "empty" {
            sleep(Duration::from_millis(pause));
            continue;
        }
        let headers = "content-type:application/json\n";
        let response = request("POST", &config["http_post_url"], headers, text.as_bytes());
        let response = response.unwrap_or_else(|code| panic!("not posted: code {code}"));
        assert_eq!(
            response.status.to_string(),
            config["http_post_response_code"]
        );
        response.close();
    }
}
