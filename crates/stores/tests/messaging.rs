//! The contract of brokers.
