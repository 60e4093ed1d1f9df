//! Two functions that answer requests: one greets as its values say, the other sends a body back.

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn response_set_status_line(status: u32, reason: *const u8, length: u64);
    fn response_set_body(body: *const u8, length: u64);
    fn db_get(key: *const u8, length: u64, value: *mut u8, value_length: u64) -> i64;
    fn request_body(to: *mut u8, length: u64) -> i64;
}

/// What a function of the host has: asked for its length first, then for itself.
fn read(ask: impl Fn(*mut u8, u64) -> i64) -> Option<Vec<u8>> {
    let length = ask(std::ptr::null_mut(), 0);
    let mut value = vec![0; usize::try_from(length).ok()?];
    ask(value.as_mut_ptr(), value.len() as u64);
    Some(value)
}

fn answer(status: u32, body: &[u8]) {
    unsafe {
        response_set_status_line(status, std::ptr::null(), 0);
        response_set_body(body.as_ptr(), body.len() as u64);
    }
}

#[unsafe(no_mangle)]
extern "C" fn handle() {
    let key = "/greeting";
    let value = read(|to, length| unsafe { db_get(key.as_ptr(), key.len() as u64, to, length) });
    let mut page = value.unwrap_or_else(|| b"Hello".to_vec());
    page.extend_from_slice(b" from a module.\n");
    answer(200, &page);
}

#[unsafe(no_mangle)]
extern "C" fn echo() {
    match read(|to, length| unsafe { request_body(to, length) }) {
        Some(body) => answer(200, &body),
        None => answer(413, b"That is too much.\n"),
    }
}
