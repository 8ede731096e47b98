//! Real controllers in one process: real TLS, Raft, SQLite and loopback sockets. Agents are played by
//! the tests themselves, word for word over the real protocol.
#![allow(clippy::unwrap_used)]

mod agents;
mod certificates;
mod cluster;
mod lives;
mod player;
mod ports;
mod records;
mod support;
