//! Asks a server over TCP and tells what it said, as the second sample of serverless-wasm. Where the server is, the value
//! `/env/backend` says.

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn log(text: *const u8, length: u64);
    fn response_set_status_line(status: u32, reason: *const u8, length: u64);
    fn response_set_header(name: *const u8, length: u64, value: *const u8, value_length: u64);
    fn response_set_body(body: *const u8, length: u64);
    fn tcp_connect(address: *const u8, length: u64) -> i32;
    fn tcp_read(fd: i32, to: *mut u8, length: u64) -> i64;
    fn tcp_write(fd: i32, from: *const u8, length: u64) -> i64;
    fn db_get(key: *const u8, length: u64, value: *mut u8, value_length: u64) -> i64;
}

/// A value: asked for its length first, then for itself.
fn value(key: &str) -> Option<String> {
    let mut value = Vec::new();
    let length = unsafe { db_get(key.as_ptr(), key.len() as u64, value.as_mut_ptr(), 0) };
    value.resize(usize::try_from(length).ok()?, 0);
    let read = unsafe {
        db_get(
            key.as_ptr(),
            key.len() as u64,
            value.as_mut_ptr(),
            length as u64,
        )
    };
    (read == length).then(|| String::from_utf8(value).ok())?
}

/// What the server answers to one line.
fn ask(address: &str) -> Result<String, String> {
    let fd = unsafe { tcp_connect(address.as_ptr(), address.len() as u64) };
    if fd < 0 {
        return Err(format!("could not connect to {address}: {fd}"));
    }
    let question = "hello\n";
    let written = unsafe { tcp_write(fd, question.as_ptr(), question.len() as u64) };
    if written < 0 {
        return Err("could not write".to_owned());
    }
    let mut answer = [0; 100];
    let read = unsafe { tcp_read(fd, answer.as_mut_ptr(), answer.len() as u64) };
    let read = usize::try_from(read).map_err(|_| "could not read".to_owned())?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

#[unsafe(no_mangle)]
extern "C" fn handle() {
    let body = match value("/env/backend") {
        None => "no value /env/backend\n".to_owned(),
        Some(address) => match ask(&address) {
            Ok(answer) => format!("the server says: {answer}\n"),
            Err(why) => format!("{why}\n"),
        },
    };
    let (field, length) = ("Content-length", body.len().to_string());
    unsafe {
        log(body.as_ptr(), body.len() as u64);
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
