//! The API as a client meets it: real requests through the whole router, against a cluster of one
//! controller with its real log, shadow and state.

mod access;
mod catalogue;
mod objects;
mod support;
mod tokens;
