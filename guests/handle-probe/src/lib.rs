//! Uses one part of the module `env` for each request: `/?do=NAME` and more.
//!
//! `echo`: method, address, `x-name` and the number of fields, then the body; `how=read` reads the body in pieces ·
//! `answer`: `status` `reason` `name` `value` `body` `bytes` · `get` `set` `delete`: `key` `value` · `file`: `name`, `chunk`
//! bytes at a time; `open=N` opens it N times · `tcp`: `to` `send` `read=0`; `times` connects so often, `close=1` closes each ·
//! `log`: `bytes` of them that are not UTF-8 · `place`: a call with the place `at`, `length` · `grow`: `pages` · `loop` ·
//! `trap` · `nothing` · `no-body` · `no-status`

use std::fmt::Write;

mod env {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn log(text: *const u8, length: u64);
        pub fn response_set_status_line(status: i32, reason: *const u8, length: u64);
        pub fn response_set_header(
            name: *const u8,
            length: u64,
            value: *const u8,
            value_length: u64,
        );
        pub fn response_set_body(body: *const u8, length: u64);
        pub fn tcp_connect(address: *const u8, length: u64) -> i32;
        pub fn tcp_read(fd: i32, to: *mut u8, length: u64) -> i64;
        pub fn tcp_write(fd: i32, from: *const u8, length: u64) -> i64;
        pub fn tcp_close(fd: i32) -> i32;
        pub fn db_get(key: *const u8, length: u64, value: *mut u8, value_length: u64) -> i64;
        pub fn db_set(key: *const u8, length: u64, value: *const u8, value_length: u64) -> i64;
        pub fn db_delete(key: *const u8, length: u64) -> i64;
        pub fn request_method(to: *mut u8, length: u64) -> i64;
        pub fn request_uri(to: *mut u8, length: u64) -> i64;
        pub fn request_header(name: *const u8, length: u64, to: *mut u8, to_length: u64) -> i64;
        pub fn request_headers(to: *mut u8, length: u64) -> i64;
        pub fn request_body(to: *mut u8, length: u64) -> i64;
        pub fn request_body_read(to: *mut u8, length: u64) -> i64;
        pub fn file_open(name: *const u8, length: u64) -> i32;
        pub fn file_read(fd: i32, to: *mut u8, length: u64) -> i64;
        pub fn file_size(fd: i32) -> i64;
        pub fn file_close(fd: i32) -> i32;
    }
}

/// A value whose length is asked first.
fn sized(ask: impl Fn(*mut u8, u64) -> i64) -> Option<Vec<u8>> {
    let length = usize::try_from(ask(std::ptr::null_mut(), 0)).ok()?;
    let mut value = vec![0; length];
    let told = ask(value.as_mut_ptr(), value.len() as u64);
    assert_eq!(told, length as i64);
    Some(value)
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(
        || "-1".to_owned(),
        |value| String::from_utf8_lossy(&value).into_owned(),
    )
}

fn uri() -> String {
    text(sized(|to, length| unsafe { env::request_uri(to, length) }))
}

fn parameter(key: &str) -> Option<String> {
    query::value(&uri(), key)
}

fn number(key: &str, otherwise: i64) -> i64 {
    parameter(key).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn say(text: &str) {
    unsafe {
        env::response_set_status_line(200, std::ptr::null(), 0);
        env::response_set_body(text.as_ptr(), text.len() as u64);
    }
}

fn field(name: &str, value: &str) {
    unsafe {
        env::response_set_header(
            name.as_ptr(),
            name.len() as u64,
            value.as_ptr(),
            value.len() as u64,
        );
    }
}

#[unsafe(no_mangle)]
extern "C" fn handle() {
    match parameter("do").unwrap_or_default().as_str() {
        "echo" => echo(),
        "answer" => answer(),
        "get" | "set" | "delete" => values(),
        "file" => file(),
        "tcp" => tcp(),
        "log" => {
            let text = vec![0xff_u8; number("bytes", 3) as usize];
            unsafe { env::log(text.as_ptr(), text.len() as u64) };
            say("logged");
        }
        "place" => {
            let (at, length) = (number("at", 0), number("length", 0));
            let at = at as usize as *mut u8;
            match parameter("of").as_deref() {
                Some("read") => say(&unsafe { env::request_uri(at, length as u64) }.to_string()),
                Some("tcp") => say(&unsafe { env::tcp_connect(at, length as u64) }.to_string()),
                Some("log") => unsafe { env::log(at, length as u64) },
                _ => {
                    say("");
                    unsafe { env::response_set_body(at, length as u64) };
                }
            }
        }
        "grow" => {
            let before = core::arch::wasm32::memory_grow(0, number("pages", 1) as usize);
            say(if before == usize::MAX {
                "refused"
            } else {
                "grown"
            });
        }
        "loop" => loop {
            std::hint::black_box(());
        },
        "trap" => {
            say("never seen");
            core::arch::wasm32::unreachable()
        }
        "nothing" => {}
        "no-body" => unsafe { env::response_set_status_line(200, std::ptr::null(), 0) },
        "no-status" => unsafe { env::response_set_body(std::ptr::null(), 0) },
        "twice" => {
            say("first");
            field("x-field", "1");
            field("X-Field", "2");
            unsafe { env::response_set_status_line(404, "Gone away".as_ptr(), 9) };
            unsafe { env::response_set_body("second".as_ptr(), 6) };
        }
        other => say(&format!("nothing to do: {other:?}")),
    }
}

fn echo() {
    let method = text(sized(|to, length| unsafe {
        env::request_method(to, length)
    }));
    let header = |name: &str| {
        let (at, size) = (name.as_ptr(), name.len() as u64);
        text(sized(|to, length| unsafe {
            env::request_header(at, size, to, length)
        }))
    };
    let all = text(sized(|to, length| unsafe {
        env::request_headers(to, length)
    }));
    let fields = all.lines().filter(|line| line.contains(": ")).count();
    let mut page = format!(
        "{method} {} host={} x-name={} missing={} fields={fields}\n",
        uri(),
        header("Host"),
        header("X-Name"),
        header("x-missing"),
    );
    if parameter("how").as_deref() == Some("read") {
        let mut piece = [0; 1000];
        let mut total = 0;
        loop {
            let read = unsafe { env::request_body_read(piece.as_mut_ptr(), piece.len() as u64) };
            if read <= 0 {
                let _written = writeln!(page, "{total} bytes, then {read}");
                break;
            }
            total += read;
        }
    } else {
        page.push_str(&text(sized(|to, length| unsafe {
            env::request_body(to, length)
        })));
    }
    say(&page);
}

fn answer() {
    let reason = parameter("reason").unwrap_or_default();
    let status = number("status", 200) as i32;
    let body = match parameter("bytes") {
        Some(bytes) => "x".repeat(bytes.parse().expect("a number")),
        None => parameter("body").unwrap_or_default(),
    };
    if let Some(name) = parameter("name") {
        for _ in 0..number("times", 1) {
            field(&name, &parameter("value").unwrap_or_default());
        }
    }
    unsafe {
        env::response_set_status_line(status, reason.as_ptr(), reason.len() as u64);
        env::response_set_body(body.as_ptr(), body.len() as u64);
    }
}

fn values() {
    let key = parameter("key").unwrap_or_default();
    let (at, size) = (key.as_ptr(), key.len() as u64);
    let get = || {
        text(sized(|to, length| unsafe {
            env::db_get(at, size, to, length)
        }))
    };
    match parameter("do").as_deref() {
        Some("set") => {
            let value = match parameter("bytes") {
                Some(bytes) => "x".repeat(bytes.parse().expect("a number")),
                None => parameter("value").unwrap_or_default(),
            };
            let code = unsafe { env::db_set(at, size, value.as_ptr(), value.len() as u64) };
            say(&format!("{code} {}", get()));
        }
        Some("delete") => {
            let code = unsafe { env::db_delete(at, size) };
            say(&format!("{code} {}", get()));
        }
        _ => {
            // Less room than the value has: so much of it.
            let mut two = [b'.'; 3];
            let told = unsafe { env::db_get(at, size, two.as_mut_ptr(), 2) };
            say(&format!(
                "{told} {} {}",
                String::from_utf8_lossy(&two),
                get()
            ));
        }
    }
}

fn file() {
    let name = parameter("name").unwrap_or_default();
    let open = || unsafe { env::file_open(name.as_ptr(), name.len() as u64) };
    let mut fd = open();
    for _ in 1..number("open", 1) {
        fd = open();
    }
    if fd < 0 {
        return say(&format!("open: {fd}"));
    }
    let size = unsafe { env::file_size(fd) };
    let mut piece = vec![0; number("chunk", 1 << 20) as usize];
    let mut all = Vec::new();
    let last = loop {
        let read = unsafe { env::file_read(fd, piece.as_mut_ptr(), piece.len() as u64) };
        if read <= 0 {
            break read;
        }
        all.extend_from_slice(&piece[..read as usize]);
    };
    let closed = unsafe { env::file_close(fd) };
    let again = unsafe { env::file_close(fd) };
    let after = unsafe { env::file_read(fd, piece.as_mut_ptr(), 1) };
    let sum: u64 = all.iter().map(|byte| u64::from(*byte)).sum();
    let start = String::from_utf8_lossy(&all[..all.len().min(20)]).into_owned();
    say(&format!(
        "fd={fd} size={size} read={} sum={sum} last={last} close={closed},{again} after={after} {start}",
        all.len()
    ));
}

fn tcp() {
    let to = parameter("to").unwrap_or_default();
    let mut codes = Vec::new();
    for _ in 0..number("times", 1) {
        let fd = unsafe { env::tcp_connect(to.as_ptr(), to.len() as u64) };
        if number("close", 0) == 1 && fd >= 0 {
            codes.push(unsafe { env::tcp_close(fd) });
        } else {
            codes.push(fd);
        }
    }
    if codes.len() > 1 {
        let last = codes.last().copied().unwrap_or_default();
        let most = codes.iter().max().copied().unwrap_or_default();
        return say(&format!(
            "{} attempts, highest {most}, last {last}",
            codes.len()
        ));
    }
    let fd = codes.first().copied().unwrap_or(-9);
    if fd < 0 {
        return say(&format!("connect: {fd}"));
    }
    let send = match parameter("bytes") {
        Some(bytes) => "x".repeat(bytes.parse().expect("a number")),
        None => parameter("send").unwrap_or_default(),
    };
    let written = unsafe { env::tcp_write(fd, send.as_ptr(), send.len() as u64) };
    let (mut page, mut piece, mut all) = (format!("wrote {written}"), [0; 4096], Vec::new());
    let last = loop {
        let read = unsafe { env::tcp_read(fd, piece.as_mut_ptr(), piece.len() as u64) };
        if read <= 0 {
            break read;
        }
        all.extend_from_slice(&piece[..read as usize]);
    };
    let start = String::from_utf8_lossy(&all[..all.len().min(100)]).into_owned();
    let wrong = unsafe { env::tcp_read(99, piece.as_mut_ptr(), 1) };
    let _written = write!(
        page,
        " read {} last {last} other {wrong}: {start}",
        all.len()
    );
    say(&page);
}
