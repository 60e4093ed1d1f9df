//! Functions of many types, to be called by their names. `init` is one to start with: what it was given is in the answer to
//! every request, with how often it was called in this instance.

mod bindings {
    wit_bindgen::generate!({
        inline: r#"
            package test:calls@1.2.0;

            interface stock {
                record item { name: string, count: u32, note: option<string> }
                variant order { nothing, some-of(u32), all-of(list<item>) }
                enum size { small, large }
                flags marks { fresh, sold }

                total: func(items: list<item>) -> u64;
                weigh: func(order: order, size: size, marks: marks) -> tuple<string, f64>;
            }

            world calls {
                export stock;
                export greet: func(name: string) -> string;
                export refuse: func(why: string) -> result<u32, string>;
                export fail: func(how: string);
                export started: func() -> string;
                export init: func(greeting: string, times: option<u32>) -> result<_, string>;
            }
        "#,
    });
}

use std::sync::Mutex;

use bindings::exports::test::calls::stock::{self, Item, Marks, Order, Size};
use wasip2::exports::http::incoming_handler;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Calls;

wasip2::http::proxy::export!(Calls);
bindings::export!(Calls with_types_in bindings);

/// What each call of `init` was given.
static STARTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn started() -> String {
    STARTED.lock().unwrap().join(";")
}

impl incoming_handler::Guest for Calls {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        http_p2::answer(out, 200, &format!("started with {}\n", started()));
    }
}

impl stock::Guest for Calls {
    fn total(items: Vec<Item>) -> u64 {
        items.iter().map(|item| u64::from(item.count)).sum()
    }

    fn weigh(order: Order, size: Size, marks: Marks) -> (String, f64) {
        let count = match order {
            Order::Nothing => 0,
            Order::SomeOf(count) => count,
            Order::AllOf(items) => items.len() as u32,
        };
        let each = if size == Size::Large { 2.5 } else { 0.5 };
        (format!("{marks:?}"), f64::from(count) * each)
    }
}

impl bindings::Guest for Calls {
    fn greet(name: String) -> String {
        println!("greeting {name}");
        format!("hello {name}")
    }

    fn refuse(why: String) -> Result<u32, String> {
        if why.is_empty() { Ok(7) } else { Err(why) }
    }

    fn fail(how: String) {
        match how.as_str() {
            "loop" => loop {
                std::hint::black_box(&how);
            },
            _ => core::arch::wasm32::unreachable(),
        }
    }

    fn started() -> String {
        started()
    }

    fn init(greeting: String, times: Option<u32>) -> Result<(), String> {
        match greeting.as_str() {
            "refuse" => return Err("this greeting is none".to_owned()),
            "trap" => core::arch::wasm32::unreachable(),
            _ => {}
        }
        STARTED
            .lock()
            .unwrap()
            .push(format!("{greeting} {times:?}"));
        Ok(())
    }
}
