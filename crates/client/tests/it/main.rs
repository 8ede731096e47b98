//! The client against servers that speak real TLS and HTTP and answer as each test says.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
mod reading;
mod retries;
mod sessions;
mod trust;
mod watch;
