//! Words that every part of VirtFlow shares: ids, names, sizes, time, and the one public error.
//!
//! No I/O lives here. The wall clock is read in one place, [`Timestamp::now`], and chance comes from one,
//! [`chance`]; the state and the verbs call neither: time and ids reach them as arguments.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
pub mod chance;
mod error;
mod footprint;
mod id;
mod limits;
mod name;
#[cfg(virtflow_sim)]
pub mod simulated;
mod time;

pub use address::is_host_port;
pub use error::{Error, ErrorCode, FieldProblem};
pub use footprint::{
    AccountDef, AccountKey, Charge, Claim, Footprint, IndexKey, Limit, Supply, Text,
};
pub use id::{IdParseError, Incarnation, ObjectId, RequestId};
pub use limits::*;
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use time::Timestamp;
