//! A module of serverless-wasm that was built for WASI: what it prints goes to the log, and it sees its environment.

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn response_set_status_line(status: u32, reason: *const u8, length: u64);
    fn response_set_body(body: *const u8, length: u64);
}

#[unsafe(no_mangle)]
extern "C" fn handle() {
    println!("printed by the module");
    let body = std::env::var("GREETING").unwrap_or_else(|_| "no GREETING".to_owned());
    unsafe {
        response_set_status_line(200, std::ptr::null(), 0);
        response_set_body(body.as_ptr(), body.len() as u64);
    }
}
