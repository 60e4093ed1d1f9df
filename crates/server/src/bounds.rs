//! The bounds of listeners and connections, taken from the limits table.
//!
//! They travel as one value so that a test can tighten a timeout to milliseconds; the server itself never
//! reads the table anywhere else. What each bound means is written in [`hostel_app::limits`].

use std::time::Duration;

use hostel_app::limits;

/// What one server grants to its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections over all listeners.
    pub connections: usize,
    /// Open connections of one address over all listeners.
    pub connections_per_address: usize,
    /// Clients without a seat that may stay until they have read so.
    pub turned_away: usize,
    /// Connections that the kernel keeps for one listening socket until they are accepted.
    pub backlog: i32,
    /// Bytes of one HTTP/1 request head.
    pub head_bytes: usize,
    /// Header fields of one request.
    pub headers_count: usize,
    /// From the first byte of a head to its last; also from accept to the first complete head.
    pub head_timeout: Duration,
    /// Silence between two requests.
    pub idle_timeout: Duration,
    /// Silence inside a request body that the guest is waiting for.
    pub body_stall: Duration,
    /// Slowest request body, in bytes per second, once the guest has waited for it for `head_timeout`.
    pub body_rate: u64,
    /// How long a client may refuse to read.
    pub write_stall: Duration,
    /// How long a client that is still sending when its request was refused may read the refusal.
    pub linger: Duration,
    /// Buffer for incoming bytes of one HTTP/1 connection.
    pub read_buffer_bytes: usize,
    /// The largest piece of a request body that is handed to a guest at once.
    pub chunk_bytes: usize,
    /// Bytes of one HTTP/2 request body that the client may send ahead of the guest.
    pub h2_stream_window_bytes: u32,
    /// The same for all requests of one HTTP/2 connection together.
    pub h2_connection_window_bytes: u32,
    /// HTTP/2 frames in one second that carry nothing of a request.
    pub h2_control_frames: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: u32,
    /// Bytes of one HTTP/2 header list.
    pub h2_header_list_bytes: u32,
    /// Streams of one HTTP/2 connection that the client reset before they were accepted.
    pub h2_resets: usize,
    /// Streams of one HTTP/2 connection that the client made us reset by breaking the protocol.
    pub h2_local_resets: usize,
    /// Bytes buffered for sending on one HTTP/2 stream.
    pub h2_send_buffer_bytes: usize,
    /// Silence on an HTTP/2 connection before a ping, and again before it counts as dead.
    pub h2_keepalive: Duration,
    /// How long an HTTP/2 client may take to acknowledge that its idle connection ends.
    pub h2_goodbye: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_TOTAL.size(),
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS.size(),
            turned_away: limits::TURNED_AWAY.size(),
            backlog: i32::try_from(limits::BACKLOG.default).unwrap_or(i32::MAX),
            head_bytes: limits::HEAD_BYTES.size(),
            headers_count: limits::HEADERS_COUNT.size(),
            head_timeout: limits::HEAD_TIMEOUT_MS.duration(),
            idle_timeout: limits::IDLE_TIMEOUT_MS.duration(),
            body_stall: limits::BODY_STALL_MS.duration(),
            body_rate: limits::BODY_RATE.default,
            write_stall: limits::WRITE_STALL_MS.duration(),
            linger: limits::LINGER_MS.duration(),
            read_buffer_bytes: limits::READ_BUFFER_BYTES.size(),
            chunk_bytes: limits::STREAM_CHUNK_BYTES.size(),
            h2_stream_window_bytes: limits::H2_STREAM_WINDOW_BYTES.count(),
            h2_connection_window_bytes: limits::H2_CONNECTION_WINDOW_BYTES.count(),
            h2_control_frames: limits::H2_CONTROL_FRAMES.count(),
            h2_streams: limits::H2_STREAMS.count(),
            h2_header_list_bytes: limits::H2_HEADER_LIST_BYTES.count(),
            h2_resets: limits::H2_RESETS.size(),
            h2_local_resets: limits::H2_LOCAL_RESETS.size(),
            h2_send_buffer_bytes: limits::H2_SEND_BUFFER_BYTES.size(),
            h2_keepalive: limits::H2_KEEPALIVE_MS.duration(),
            h2_goodbye: limits::H2_GOODBYE_MS.duration(),
        }
    }
}
