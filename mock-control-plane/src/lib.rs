//! Control plane for tests and scenarios
