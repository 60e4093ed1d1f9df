//! The contract of databases.
