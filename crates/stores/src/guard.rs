//! The circuit breaker and the time-outs around every driver that needs a server.
