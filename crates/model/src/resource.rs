//! The contract of a kind.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use virtflow_types::{Footprint, Timestamp};

use crate::print::{key, space};
use crate::{Invalid, Kind, Meta, Print, Rules};

/// Whose an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The cloud's own.
    System,
    /// A tenant's.
    Tenant,
    /// A tenant's or the cloud's own: users, roles' bindings.
    Either,
}

/// What one kind must say of itself.
pub trait Resource: 'static {
    /// Which kind this is.
    const KIND: Kind;
    /// Whose its objects are.
    const SCOPE: Scope;
    /// What is declared of it.
    const RULES: Rules;
    /// False for kinds whose objects have no name.
    const NAMED: bool = true;
    /// What a person asks for.
    type Spec: Serialize
        + DeserializeOwned
        + JsonSchema
        + Clone
        + PartialEq
        + Debug
        + Send
        + Sync
        + 'static;
    /// What the system saw.
    type Status: Serialize
        + DeserializeOwned
        + JsonSchema
        + Default
        + Clone
        + PartialEq
        + Debug
        + Send
        + Sync
        + 'static;

    /// A valid spec: feeds documentation and tests.
    fn example() -> Self::Spec;

    /// Refuses what can be refused by looking at the spec alone.
    fn validate(spec: &Self::Spec) -> Result<(), Invalid>;

    /// Refuses what must not change.
    fn validate_update(_old: &Self::Spec, new: &Self::Spec) -> Result<(), Invalid> {
        Self::validate(new)
    }

    /// What follows in the status from the rest of it, whenever the object is written; `now` is the moment of the
    /// decision.
    fn settle(_status: &mut Self::Status, _now: Timestamp) {}

    /// What the object holds of the shared, besides its name.
    fn print(meta: &Meta, spec: &Self::Spec, status: &Self::Status, print: &mut Print);

    /// The space its name is unique in.
    fn name_space(meta: &Meta, _spec: &Self::Spec) -> String {
        space::names(Self::KIND, meta.parent.or(meta.tenant))
    }

    /// The whole footprint.
    fn footprint(meta: &Meta, spec: &Self::Spec, status: &Self::Status) -> Footprint {
        let mut print = Print::new();
        if Self::NAMED {
            print.claim(Self::name_space(meta, spec), meta.name.as_bytes());
            print.key(key::NAME, format!("{}/{}", Self::KIND.name(), meta.name));
        }
        if let Some(tenant) = meta.tenant {
            print.link(tenant);
            print.key(key::TENANT, format!("{}/{tenant}", Self::KIND.name()));
        }
        print.link(meta.parent);
        Self::print(meta, spec, status, &mut print);
        print.finish()
    }
}

/// One generic function, run for the type behind a runtime [`Kind`].
pub trait PerKind {
    /// What it gives.
    type Out;
    /// The function.
    fn run<R: Resource>(self) -> Self::Out;
}
