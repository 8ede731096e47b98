//! The agent from outside: its side of the wire, and the program as its users meet it.
#![allow(clippy::unwrap_used)]

mod process;
mod session;
mod support;
