//! The API as a client meets it: real requests through the whole router, against
//! controllers with their real log, shadow and state.

mod access;
mod access_table;
mod addresses;
mod audited;
mod bulk;
mod by_schema;
mod catalogue;
mod configs;
mod contract;
mod discovery;
mod followers;
mod foreign;
mod grants;
mod lists;
mod model;
mod moment;
mod objects;
mod openapi;
mod past;
mod races;
mod refused;
mod rows;
mod samples;
mod search;
mod support;
mod tokens;
mod upgrade;
mod watch;
mod who;
mod wire;
mod world;
