//! What happens when something fails: a guest, a client, a file. The process lives and answers the next request.

mod clients;
mod contract;
mod deadlines;
mod load;
mod loops;
mod memory;
mod overload;
mod shared;
mod start;
mod supervisor;
mod traps;
