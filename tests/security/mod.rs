//! One attack each: what a hostile client sends, and what a hostile guest tries.

mod authority;
mod cache_entries;
mod compile_bombs;
mod heads;
mod hop_by_hop;
mod isolation;
mod smuggling;
mod terminal;
