//! Async functions, to be called by their names.

mod bindings {
    wit_bindgen::generate!({
        inline: r#"
            package test:later;

            world later {
                export later: async func(ms: u32) -> string;
                export at-once: func(a: u32, b: u32) -> u32;
            }
        "#,
    });
}

use wasip3::clocks::monotonic_clock;

struct Later;

bindings::export!(Later with_types_in bindings);

impl bindings::Guest for Later {
    async fn later(ms: u32) -> String {
        monotonic_clock::wait_for(u64::from(ms) * 1_000_000).await;
        format!("after {ms} ms")
    }

    fn at_once(a: u32, b: u32) -> u32 {
        a + b
    }
}
