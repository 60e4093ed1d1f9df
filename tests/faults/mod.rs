//! What happens when something fails: a guest, a client, a file. The process lives and answers the next request.

mod cgi;
mod clients;
mod contract;
mod crowds;
mod deadlines;
mod descriptors;
mod durability;
mod floods;
mod handle;
mod load;
mod loops;
mod memory;
mod outages;
mod overload;
mod panics;
mod services;
mod shared;
mod slow;
mod start;
mod supervisor;
mod traps;
