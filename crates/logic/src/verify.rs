//! Recomputes every footprint by its kind: a row whose claims or charges are not what its spec and status
//! give was tampered with, or written by a rule that has changed.

use std::collections::BTreeMap;
use std::fmt;

use virtflow_model::{PerKind, Resource, dimension, space};
use virtflow_state::{Object, State};
use virtflow_types::{AccountDef, AccountKey, Claim, Footprint, Limit, ObjectId, Text};

use crate::explain::call;
use crate::typed::{decoded, derived_footprint, footprint_of, kind_of};

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
                Some(kind) => kind.dispatch(Check { state, object }),
                None => Some(format!(
                    "the kind `{}` is not known to this version",
                    object.kind
                )),
            }?;
            Some(FootprintDivergence {
                object: object.id,
                what: call(object),
                problem,
            })
        })
        .take(DIVERGENCES_MAX)
        .collect()
}

struct Check<'a> {
    state: &'a State,
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
        let stored = &self.object.footprint;
        if *stored == derived || is_former(stored, &derived) {
            return None;
        }
        first_difference(self.state, &derived, stored)
    }
}

/// What is counted since a later version than the first: rows of stores from before have no such charges and
/// accounts until a leader writes them again.
const COUNTED_LATER: &[&str] = &[
    dimension::DISKS,
    dimension::ADDRESSES,
    dimension::GPUS,
    dimension::CLUSTERS,
];

/// Spaces in which something is claimed since a later version than the first.
const CLAIMED_LATER: &[&str] = &[space::POOL_SUBNET];

/// Spaces of claims that were one before, and are as many now as there is what tells their points apart, which stands
/// behind them after a slash: what they begin with, and how many parts of them there were before.
const TOLD_APART_LATER: &[(&str, usize)] = &[
    ("name/virtual_machine_specification", 2),
    // That of a data centre.
    ("name/ip_pool", 3),
];

/// True for a footprint that lacks nothing but what is derived since a later version. One version may have begun to
/// derive some of it and another the rest.
fn is_former(stored: &Footprint, derived: &Footprint) -> bool {
    let is_later = |dimension: &str| COUNTED_LATER.contains(&dimension);
    let all_derived = stored.charges.iter().all(|it| derived.charges.contains(it))
        && stored
            .accounts
            .iter()
            .all(|it| derived.accounts.contains(it));
    let rest = |print: &Footprint| {
        let mut print = print.clone();
        let charges = print.charges.iter();
        print.charges = charges
            .filter(|charge| !is_later(&charge.account.dimension))
            .cloned()
            .collect();
        let accounts = print.accounts.iter();
        print.accounts = accounts
            .filter(|account| !is_later(&account.dimension))
            .cloned()
            .collect();
        print.claims = Default::default();
        print
    };
    let is_claimed = |claim: &Claim| {
        stored.claims.contains(claim) || stored.claims.contains(&formerly_claimed(claim))
    };
    let due = derived.claims.iter();
    let mut due = due.filter(|claim| is_claimed(claim) || !CLAIMED_LATER.contains(&&*claim.space));
    let all_claimed = stored.claims.len() == due.clone().count() && due.all(is_claimed);
    all_derived && all_claimed && rest(stored) == rest(derived)
}

/// A claim as it was before its space was divided.
fn formerly_claimed(claim: &Claim) -> Claim {
    let mut claim = claim.clone();
    let divided = TOLD_APART_LATER.iter().find(|(space, _)| {
        let rest = claim.space.strip_prefix(*space);
        rest.is_some_and(|rest| rest.starts_with('/'))
    });
    if let Some((_, parts)) = divided {
        let before: Vec<&str> = claim.space.split('/').take(*parts).collect();
        claim.space = Text::new(before.join("/"));
    }
    claim
}

/// True for a row that is sound, and of a footprint as it was derived before.
pub(crate) fn is_of_former_form(object: &Object) -> bool {
    derived_footprint(object).is_some_and(|derived| {
        derived != object.footprint && is_former(&object.footprint, &derived)
    })
}

/// The first thing that differs, in words: a whole footprint would fill a screen.
fn first_difference(state: &State, derived: &Footprint, stored: &Footprint) -> Option<String> {
    let charges = |print: &Footprint| {
        let entries = print.charges.iter();
        let entries = entries.map(|c| (account(state, &c.account), c.amount.to_string()));
        entries.collect()
    };
    let supplies = |print: &Footprint| {
        let entries = print.supplies.iter();
        let entries = entries.map(|s| (account(state, &s.account), s.amount.to_string()));
        entries.collect()
    };
    let accounts = |print: &Footprint| {
        let entries = print.accounts.iter();
        let entries = entries.map(|a| (a.dimension.to_string(), limit(state, a)));
        entries.collect()
    };
    let held = || "held".to_owned();
    let links = |print: &Footprint| {
        let entries = print.links.iter();
        entries.map(|id| (owner(state, *id), held())).collect()
    };
    let claims = |print: &Footprint| {
        let entries = print.claims.iter();
        let entries = entries.map(|claim| {
            let (lo, hi) = (claim.lo.escape_ascii(), claim.hi().escape_ascii());
            (format!("{} from {lo}", claim.space), format!("to {hi}"))
        });
        entries.collect()
    };
    let keys = |print: &Footprint| {
        let entries = print.keys.iter();
        let entries = entries.map(|key| (format!("{}={}", key.name, key.value), held()));
        entries.collect()
    };
    compare("charge on", charges(derived), charges(stored))
        .or_else(|| compare("supply to", supplies(derived), supplies(stored)))
        .or_else(|| compare("account", accounts(derived), accounts(stored)))
        .or_else(|| compare("link to", links(derived), links(stored)))
        .or_else(|| compare("claim on", claims(derived), claims(stored)))
        .or_else(|| compare("key", keys(derived), keys(stored)))
}

type Entries = BTreeMap<String, String>;

fn compare(part: &str, derived: Entries, stored: Entries) -> Option<String> {
    let nothing = || "nothing".to_owned();
    derived.keys().chain(stored.keys()).find_map(|what| {
        let should = derived.get(what).cloned().unwrap_or_else(nothing);
        let is = stored.get(what).cloned().unwrap_or_else(nothing);
        (should != is).then(|| format!("{part} {what}: the row gives {should}, stored is {is}"))
    })
}

fn owner(state: &State, id: ObjectId) -> String {
    state
        .get(id)
        .map_or_else(|| format!("object {id}"), |object| call(object))
}

fn account(state: &State, key: &AccountKey) -> String {
    format!("{} {}", owner(state, key.owner), key.dimension)
}

fn limit(state: &State, def: &AccountDef) -> String {
    let limit = match &def.limit {
        Limit::Fixed(n) => n.to_string(),
        Limit::Unlimited => "unlimited".into(),
        Limit::Share { of, ppm } => format!("{ppm} ppm of {}", account(state, of)),
    };
    match &def.parent {
        Some(parent) => format!("{limit} under {}", account(state, parent)),
        None => limit,
    }
}
