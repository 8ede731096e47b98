//! Words that every part of VirtFlow shares: ids, names, sizes, time, and the one public error.
//!
//! No I/O and no chance lives here; the clock is read in one place, [`Timestamp::now`], which the
//! state and the verbs never call: time reaches them as an argument.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod footprint;
mod id;
mod limits;
mod name;
mod time;

pub use error::{Error, ErrorCode, FieldProblem};
pub use footprint::{
    AccountDef, AccountKey, Charge, Claim, Footprint, IndexKey, Limit, Supply, Text,
};
pub use id::{IdParseError, Incarnation, ObjectId, RequestId};
pub use limits::*;
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use time::Timestamp;
