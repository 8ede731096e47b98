//! Tests of the public key infrastructure from outside: real handshakes on loopback, real files.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets an unexpected error shall stop there"
)]

mod admission;
mod authority;
mod files;
mod first_contact;
mod grpc;
mod limits;
mod pinned;
mod rotation;
mod seal;
mod support;
mod token;
mod versions;
mod zoo;
