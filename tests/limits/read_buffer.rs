//! Buffer of one connection's incoming bytes.

use std::io::Write;

use crate::harness::message::sized_head;
use crate::harness::server::Server;
use crate::harness::upstream::Held;

const MIB: usize = 1 << 20;

#[test]
fn a_client_is_not_read_faster_than_the_guest_reads() {
    let upstream = Held::new();
    let server = Server::with("outgoing-p2", &["--grant", "http=http://127.0.0.1:*"]);
    server.connect().ask(&crate::harness::message::get("/"));
    let before = server.memory_peak();
    let mut connection = server.connect();
    connection.send(sized_head(&upstream.query(), 64 * MIB));
    let _call = upstream.accept();
    // The guest waits for the upstream and reads nothing of this.
    let mut stream = connection.stream();
    stream.set_nonblocking(true).expect("a socket");
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    loop {
        match stream.write(&piece) {
            Ok(bytes) => sent += bytes,
            Err(_) => {
                server.comes_to_rest();
                match stream.write(&piece) {
                    Ok(bytes) => sent += bytes,
                    // At rest, and nothing more is taken: what is on the way is all that fits.
                    Err(_) => break,
                }
            }
        }
        assert!(sent < 64 * MIB, "the server took everything");
    }
    // Most of that is in the kernel's buffers.
    let grown = server.memory_peak() - before;
    assert!(grown < 4 * MIB as u64, "{grown} bytes");
}
