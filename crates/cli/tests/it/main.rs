//! The program as its users start it. One binary for all of it, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a test may say so by panicking")]

mod apply;
mod apply_kinds;
mod bad_input;
mod binary;
mod bulk;
mod cloud;
mod doctor;
mod edit;
mod escapes;
mod fake;
mod inputs;
mod names;
mod refused_lines;
mod signals;
mod strange_servers;
mod support;
mod verbs;
mod watch;
