//! Who may do what: permissions held over scopes, and one question, [`authorize`].
//!
//! Pure: rights and targets come as plain values; who looks them up is `virtflow-logic`. A subject's
//! rights are the union of its grants, narrowed by the token it came with. What a subject may not even
//! read does not exist for it: the answer is then [`Decision::Invisible`], never "forbidden".
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod rights;
mod roles;
mod set;

pub use rights::{Decision, Grant, Rights, Target, authorize};
pub use roles::{AUDIT_READ, BUILT_IN_ROLES, BuiltInRole};
pub use set::PermissionSet;
