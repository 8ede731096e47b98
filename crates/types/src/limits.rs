//! Limits that more than one part must agree on.

/// Largest body of an API request, in bytes.
pub const REQUEST_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Objects on one page of a list.
pub const PAGE_OBJECTS_MAX: usize = 1000;
/// Objects on a page when the client names no number.
pub const PAGE_OBJECTS_DEFAULT: usize = 100;
/// Console bytes returned by one call.
pub const CONSOLE_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait on an operation by one call, in seconds.
pub const OPERATION_WAIT_S_MAX: u64 = 60;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
