//! The contract of blob stores.
