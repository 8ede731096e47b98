//! The kinds of object: what a person asks for (spec), what the system saw (status), and what an
//! object of that kind holds of the shared (footprint).
//!
//! A kind is one file under `kinds/` and one line in the list below; storage, API, permissions,
//! audit and watching are written once, for all of them. Verbs that are more than create, read,
//! update and delete live in `virtflow-logic`, one file each.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod article;
mod checks;
pub mod config;
mod decimal;
mod filters;
#[cfg(test)]
mod fuzz;
mod invalid;
pub mod kinds;
mod meta;
pub mod net;
mod permission;
mod print;
pub mod recorded;
mod resource;
mod rules;
mod schema;
mod sizes;
mod sorts;
pub mod states;

pub use article::with_article;
pub use decimal::Decimal;
pub use filters::{By, Filter, LOCKED};
pub use invalid::Invalid;
pub use kinds::Kind;
pub use meta::{Meta, Stamps, StoredStatus};
pub use permission::{Action, Permission};
pub use print::{Print, dimension, key, space};
pub use resource::{PerKind, Resource, Scope};
pub use rules::{Anything, ByPeople, Owner, Reference, Rules, Tie};
pub use schema::schema_of;
pub use sizes::{Amounts, Capacity, Room};
pub use sorts::{Sort, SortBy};

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
