//! A wrapper that makes any driver fail, for tests: fail, delay or drop the n-th call.
