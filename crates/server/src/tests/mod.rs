//! The server over real sockets, with a callee that answers on command instead of a guest. Clients are raw sockets:
//! what is tested here is what stands on the wire.

mod client;
mod clients;
pub(crate) mod fake;
mod http1;
mod http2;
mod lifecycle;
mod server;
