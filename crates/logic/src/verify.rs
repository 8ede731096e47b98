//! Recomputes every footprint by its kind: a row whose claims or charges are not what its spec and status
//! give was tampered with, or written by a rule that has changed.

use std::fmt;

use virtflow_model::{PerKind, Resource};
use virtflow_state::{Object, State};
use virtflow_types::{Footprint, ObjectId};

use crate::typed::{decoded, footprint_of, kind_of};

/// Rows that are told.
const DIVERGENCES_MAX: usize = 100;

/// A row whose footprint is not what its kind gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FootprintDivergence {
    /// The object.
    pub object: ObjectId,
    /// Its kind and name.
    pub what: String,
    /// Which part differs, what follows from the row and what is stored.
    pub problem: String,
}

impl fmt::Display for FootprintDivergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.what, self.object, self.problem)
    }
}

/// Compares every stored footprint with the one its kind computes; at most a hundred differences.
pub fn verify_footprints(state: &State) -> Vec<FootprintDivergence> {
    state
        .objects()
        .filter_map(|object| {
            let problem = match kind_of(object) {
                Some(kind) => kind.dispatch(Check { object }),
                None => Some(format!(
                    "the kind `{}` is not known to this version",
                    object.kind
                )),
            }?;
            Some(FootprintDivergence {
                object: object.id,
                what: crate::explain::call(object),
                problem,
            })
        })
        .take(DIVERGENCES_MAX)
        .collect()
}

struct Check<'a> {
    object: &'a Object,
}

impl PerKind for Check<'_> {
    type Out = Option<String>;

    fn run<R: Resource>(self) -> Option<String> {
        let typed = match decoded::<R>(self.object) {
            Ok(typed) => typed,
            Err(error) => return Some(error.message),
        };
        let derived = footprint_of::<R>(self.object, &typed);
        first_difference(&derived, &self.object.footprint)
    }
}

fn first_difference(derived: &Footprint, stored: &Footprint) -> Option<String> {
    let differs = |part: &str, derived: String, stored: String| {
        (derived != stored).then(|| format!("{part}: the row gives {derived}, stored is {stored}"))
    };
    let show = |it: &dyn fmt::Debug| format!("{it:?}");
    differs("charges", show(&derived.charges), show(&stored.charges))
        .or_else(|| differs("supplies", show(&derived.supplies), show(&stored.supplies)))
        .or_else(|| differs("accounts", show(&derived.accounts), show(&stored.accounts)))
        .or_else(|| differs("links", show(&derived.links), show(&stored.links)))
        .or_else(|| differs("claims", show(&derived.claims), show(&stored.claims)))
        .or_else(|| differs("keys", show(&derived.keys), show(&stored.keys)))
}
