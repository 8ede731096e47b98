//! The REST API of a VirtFlow cluster, from outside.
//!
//! A [`Client`] knows several controllers and asks whichever answers. What it may repeat follows from
//! one question: could the first attempt have been carried out? A read may be repeated always; a
//! write if it carries an idempotency key; any other write only while nothing of it was sent. An
//! answer that got lost is [`ClientError::OutcomeUnknown`], never a plain failure.
//!
//! Servers are recognised by the cluster's CA and the role in their certificate, not by name: they
//! are dialled by whatever address reaches them.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod call;
mod client;
mod endpoint;
mod error;
#[cfg(test)]
mod fuzz;
mod journal;
mod operation;
mod session;
mod trust;
mod watch;

pub use answer::{Answer, Listed, RESPONSE_BYTES_MAX};
pub use call::{Call, Method, PathError};
pub use client::{Client, Credentials, Limits};
pub use endpoint::{Endpoint, EndpointError, learned};
pub use error::{ApiError, Attempt, ClientError};
pub use journal::{Done, Journal, Sent};
pub use operation::Waited;
pub use session::{Session, SessionKeeper};
pub use trust::{ClusterCa, TrustError};
pub use watch::{Event, Watch};

#[cfg(test)]
#[global_allocator]
static MEMORY: virtflow_testkit::fuzz::memory::Counting = virtflow_testkit::fuzz::memory::Counting;
