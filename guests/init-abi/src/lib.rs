//! What the guests of server-side-wasm share, written by hand as wit-bindgen 0.2 made it: strings are a place and a length, the
//! host puts its own where `canonical_abi_realloc` says, and a returned string is written to a place that the guest names.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::collections::BTreeMap;

#[link(wasm_import_module = "hostobservability")]
unsafe extern "C" {
    #[link_name = "loginfo"]
    fn import_loginfo(module: *const u8, module_len: usize, text: *const u8, text_len: usize);
    #[link_name = "publish"]
    fn import_publish(topic: *const u8, topic_len: usize, text: *const u8, text_len: usize);
    #[link_name = "subscribe"]
    fn import_subscribe(topic: *const u8, topic_len: usize, out: *mut [usize; 2]);
    #[link_name = "read"]
    fn import_read(topic: *const u8, topic_len: usize, out: *mut [usize; 2]);
}

#[link(wasm_import_module = "wasi_experimental_http")]
unsafe extern "C" {
    #[link_name = "req"]
    fn import_req(
        url: *const u8,
        url_len: usize,
        method: *const u8,
        method_len: usize,
        headers: *const u8,
        headers_len: usize,
        body: *const u8,
        body_len: usize,
        status: *mut u16,
        handle: *mut u32,
    ) -> u32;
    #[link_name = "close"]
    fn import_close(handle: u32) -> u32;
    #[link_name = "header_get"]
    fn import_header_get(
        handle: u32,
        name: *const u8,
        name_len: usize,
        buffer: *mut u8,
        buffer_len: usize,
        written: *mut u32,
    ) -> u32;
    #[link_name = "headers_get_all"]
    fn import_headers(handle: u32, buffer: *mut u8, buffer_len: usize, written: *mut u32) -> u32;
    #[link_name = "body_read"]
    fn import_body_read(handle: u32, buffer: *mut u8, buffer_len: usize, read: *mut u32) -> u32;
}

/// Lends the host the guest's allocator.
///
/// # Safety
/// `old` is null, or was allocated here with this length and alignment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn canonical_abi_realloc(
    old: *mut u8,
    old_len: usize,
    align: usize,
    new_len: usize,
) -> *mut u8 {
    if new_len == 0 {
        return align as *mut u8;
    }
    unsafe {
        let layout =
            Layout::from_size_align_unchecked(if old_len == 0 { new_len } else { old_len }, align);
        match old_len {
            0 => alloc(layout),
            _ => realloc(old, layout, new_len),
        }
    }
}

/// Takes back what [`canonical_abi_realloc`] gave.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn canonical_abi_free(at: *mut u8, len: usize, align: usize) {
    if len > 0 {
        unsafe { dealloc(at, Layout::from_size_align_unchecked(len, align)) }
    }
}

/// A string that the host handed over; it is the guest's from now on.
///
/// # Safety
/// The host allocated it with [`canonical_abi_realloc`].
pub unsafe fn taken(at: *mut u8, len: usize) -> String {
    if len == 0 {
        return String::new();
    }
    unsafe { String::from_raw_parts(at, len, len) }
}

pub fn loginfo(module: &str, text: &str) {
    loginfo_bytes(module, text.as_bytes());
}

/// With bytes that need not be a string.
pub fn loginfo_bytes(module: &str, text: &[u8]) {
    unsafe { import_loginfo(module.as_ptr(), module.len(), text.as_ptr(), text.len()) }
}

pub fn publish(topic: &str, text: &str) {
    unsafe { import_publish(topic.as_ptr(), topic.len(), text.as_ptr(), text.len()) }
}

pub fn subscribe(topic: &str) -> String {
    let mut out = [0; 2];
    unsafe {
        import_subscribe(topic.as_ptr(), topic.len(), &mut out);
        taken(out[0] as *mut u8, out[1])
    }
}

pub fn read(topic: &str) -> String {
    let mut out = [0; 2];
    unsafe {
        import_read(topic.as_ptr(), topic.len(), &mut out);
        taken(out[0] as *mut u8, out[1])
    }
}

/// An answer that the host holds.
pub struct Response {
    pub status: u16,
    pub handle: u32,
}

/// Sends a request; the error is the interface's code.
pub fn request(method: &str, url: &str, headers: &str, body: &[u8]) -> Result<Response, u32> {
    let (mut status, mut handle) = (0, 0);
    let code = unsafe {
        import_req(
            url.as_ptr(),
            url.len(),
            method.as_ptr(),
            method.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            &mut status,
            &mut handle,
        )
    };
    match code {
        0 => Ok(Response { status, handle }),
        code => Err(code),
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Result<String, u32> {
        let (mut buffer, mut written) = (vec![0; 1024], 0);
        let code = unsafe {
            let (name_at, at) = (name.as_ptr(), buffer.as_mut_ptr());
            import_header_get(
                self.handle,
                name_at,
                name.len(),
                at,
                buffer.len(),
                &mut written,
            )
        };
        text(code, buffer, written)
    }

    /// All of them, in a buffer of this size.
    pub fn headers(&self, room: usize) -> Result<String, u32> {
        let (mut buffer, mut written) = (vec![0; room], 0);
        let code =
            unsafe { import_headers(self.handle, buffer.as_mut_ptr(), buffer.len(), &mut written) };
        text(code, buffer, written)
    }

    /// The body, read in small pieces.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let (mut buffer, mut read) = ([0; 16], 0);
            let code = unsafe {
                import_body_read(self.handle, buffer.as_mut_ptr(), buffer.len(), &mut read)
            };
            if code != 0 || read == 0 {
                return body;
            }
            body.extend_from_slice(&buffer[..read as usize]);
        }
    }

    pub fn close(&self) -> u32 {
        unsafe { import_close(self.handle) }
    }
}

fn text(code: u32, mut buffer: Vec<u8>, written: u32) -> Result<String, u32> {
    if code != 0 {
        return Err(code);
    }
    buffer.truncate(written as usize);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// A configuration file: lines of `key = 'value'`.
pub fn config(path: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((
            key.trim().to_owned(),
            value.trim().trim_matches('\'').to_owned(),
        ))
    };
    text.lines().filter_map(pair).collect()
}
