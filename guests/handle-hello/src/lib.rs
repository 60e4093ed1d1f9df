//! Two functions that greet, as in the first sample of serverless-wasm. No crate is needed: the functions of the host are
//! declared here, with the module that they are of: the C library has a `log` too. The linker is told to import the memory
//! (`build.rs`).

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn log(text: *const u8, length: u64);
    fn response_set_status_line(status: u32, reason: *const u8, length: u64);
    fn response_set_header(name: *const u8, length: u64, value: *const u8, value_length: u64);
    fn response_set_body(body: *const u8, length: u64);
}

fn answer(line: &str, body: &str) {
    let (field, length) = ("Content-length", body.len().to_string());
    unsafe {
        log(line.as_ptr(), line.len() as u64);
        response_set_status_line(200, "Ok".as_ptr(), 2);
        response_set_header(
            field.as_ptr(),
            field.len() as u64,
            length.as_ptr(),
            length.len() as u64,
        );
        response_set_body(body.as_ptr(), body.len() as u64);
    }
}

#[unsafe(no_mangle)]
extern "C" fn hello() {
    answer("hello is called", "Hello from a module!\n");
}

#[unsafe(no_mangle)]
extern "C" fn bonjour() {
    answer("bonjour is called", "Bonjour depuis un module !\n");
}
