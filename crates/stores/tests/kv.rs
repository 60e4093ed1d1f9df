//! The contract of key-value stores.
