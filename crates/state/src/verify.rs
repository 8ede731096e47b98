//! Re-derives every index and ledger from the rows alone, in another way than [`State::apply`] keeps
//! them: what differs is a bug or a damaged store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use virtflow_types::{AccountKey, Incarnation, Limit, ObjectId, Text};

use crate::account::{Account, DEPTH_MAX};
use crate::object::Object;
use crate::state::{State, StreamHead, marks_hash};

/// One place where what is kept differs from what follows from the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Which index or ledger.
    pub place: String,
    /// What the rows say.
    pub derived: String,
    /// What is kept.
    pub kept: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: the rows give {}, kept is {}",
            self.place, self.derived, self.kept
        )
    }
}
impl std::error::Error for Divergence {}

/// At most this many differences are told.
const DIVERGENCES_MAX: usize = 100;

/// Compares `state` with what its rows give; empty if it is sound.
pub fn verify(state: &State) -> Vec<Divergence> {
    let rebuilt = rebuild(
        state.cluster_id,
        state.incarnation,
        state.cluster_version,
        state.index,
        state.objects.values().cloned(),
        state
            .streams
            .iter()
            .map(|(name, head)| (name.clone(), *head)),
    );
    let rebuilt = match rebuilt {
        Ok(rebuilt) => rebuilt,
        Err(divergence) => return vec![divergence],
    };
    let mut found = Vec::new();
    let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".into());
    let mut note = |place: String, derived: Option<String>, kept: Option<String>| {
        if derived != kept && found.len() < DIVERGENCES_MAX {
            found.push(Divergence {
                place,
                derived: text(derived),
                kept: text(kept),
            });
        }
    };
    note(
        "digest".into(),
        Some(format!("{:032x}", rebuilt.digest)),
        Some(format!("{:032x}", state.digest)),
    );
    for key in both(rebuilt.accounts.keys(), state.accounts.keys()) {
        let show = |s: &State| {
            s.accounts.get(&key).map(|a| {
                format!(
                    "used {}, supplied {}, limit {:?}, {} references",
                    a.used, a.supplied, a.limit, a.references
                )
            })
        };
        note(format!("account {key}"), show(&rebuilt), show(state));
    }
    for key in both(rebuilt.claims.keys(), state.claims.keys()) {
        let show = |s: &State| {
            s.claims.get(&key).map(|(end, holder)| match end {
                Some(end) => format!("to {} by {holder}", end.escape_ascii()),
                None => format!("by {holder}"),
            })
        };
        note(
            format!("claim {} from {}", key.0, key.1.escape_ascii()),
            show(&rebuilt),
            show(state),
        );
    }
    let held = |yes: bool| yes.then(|| "held".to_owned());
    for link in both(rebuilt.links.iter(), state.links.iter()) {
        note(
            format!("link to {} by {}", link.0, link.1),
            held(rebuilt.links.contains(&link)),
            held(state.links.contains(&link)),
        );
    }
    let keys = |s: &State| flat(&s.keys, |name, (value, id)| (name, value, id));
    let (derived, kept) = (keys(&rebuilt), keys(state));
    for key in derived.symmetric_difference(&kept) {
        note(
            format!("key {}={} of {}", key.0, key.1, key.2),
            held(derived.contains(key)),
            held(kept.contains(key)),
        );
    }
    let kinds = |s: &State| flat(&s.by_kind, |kind, id| (kind, id));
    let (derived, kept) = (kinds(&rebuilt), kinds(state));
    for entry in derived.symmetric_difference(&kept) {
        note(
            format!("kind {} of {}", entry.0, entry.1),
            held(derived.contains(entry)),
            held(kept.contains(entry)),
        );
    }
    found
}

/// The entries of an index of sets, an empty set included as nothing.
fn flat<T: Ord + Clone, E: Ord>(
    index: &OrdMap<Text, OrdSet<T>>,
    entry: impl Fn(Text, T) -> E,
) -> BTreeSet<E> {
    index
        .iter()
        .flat_map(|(name, set)| set.iter().map(|item| entry(name.clone(), item.clone())))
        .collect()
}

fn both<'a, T: Ord + Clone + 'a>(
    one: impl Iterator<Item = &'a T>,
    other: impl Iterator<Item = &'a T>,
) -> BTreeSet<T> {
    one.chain(other).cloned().collect()
}

/// Builds the state that these rows give.
pub(crate) fn rebuild(
    cluster_id: Option<ObjectId>,
    incarnation: Option<Incarnation>,
    cluster_version: u32,
    index: u64,
    objects: impl IntoIterator<Item = Arc<Object>>,
    streams: impl IntoIterator<Item = (Text, StreamHead)>,
) -> Result<State, Divergence> {
    let mut state = State {
        cluster_id,
        incarnation,
        cluster_version,
        index,
        ..State::default()
    };
    state.digest = marks_hash(cluster_id, incarnation, cluster_version)
        .wrapping_sub(marks_hash(None, None, 0));
    let mut by_kind = BTreeMap::new();
    let mut links = Vec::new();
    let mut keys = BTreeMap::new();
    let mut rows = Vec::new();
    for object in objects {
        state.digest = state.digest.wrapping_add(object.hash());
        by_kind
            .entry(object.kind.clone())
            .or_insert_with(Vec::new)
            .push(object.id);
        let print = &object.footprint;
        for claim in &print.claims {
            let taken = state
                .overlapping(&claim.space, &claim.lo, claim.hi())
                .next()
                .map(|(_, holder)| holder);
            if let Some(holder) = taken {
                return Err(Divergence {
                    place: format!("claim {} from {}", claim.space, claim.lo.escape_ascii()),
                    derived: format!("held by {holder}"),
                    kept: format!("held by {} too", object.id),
                });
            }
            state.claims.insert(
                (claim.space.clone(), claim.lo.clone()),
                (claim.end().map(Box::from), object.id),
            );
        }
        links.extend(print.links.iter().map(|target| (*target, object.id)));
        for key in &print.keys {
            let entries = keys.entry(key.name.clone()).or_insert_with(Vec::new);
            entries.push((key.value.clone(), object.id));
        }
        rows.push((object.id, object));
    }
    state.accounts = ledger(&rows)?;
    state.objects = OrdMap::from_iter(rows);
    state.by_kind = by_kind
        .into_iter()
        .map(|(kind, ids)| (kind, OrdSet::from_iter(ids)))
        .collect();
    state.keys = keys
        .into_iter()
        .map(|(name, entries)| (name, OrdSet::from_iter(entries)))
        .collect();
    for (target, source) in &links {
        if !state.objects.contains_key(target) {
            return Err(Divergence {
                place: format!("link of {source}"),
                derived: format!("to {target}"),
                kept: "no such object".into(),
            });
        }
    }
    state.links = OrdSet::from_iter(links);
    for (name, head) in streams {
        if head.count > 0 {
            state.digest = state.digest.wrapping_add(head.hash(&name));
            state.streams.insert(name, head);
        }
    }
    Ok(state)
}

fn ledger(rows: &[(ObjectId, Arc<Object>)]) -> Result<OrdMap<AccountKey, Account>, Divergence> {
    let mut accounts = BTreeMap::new();
    for (id, object) in rows {
        for def in &object.footprint.accounts {
            accounts.insert(
                AccountKey::new(*id, def.dimension.clone()),
                Account {
                    parent: def.parent.clone(),
                    limit: def.limit.clone(),
                    supplied: 0,
                    used: 0,
                    references: 0,
                },
            );
        }
    }
    let missing = |id: &ObjectId, key: &AccountKey| Divergence {
        place: format!("account {key}"),
        derived: format!("named by {id}"),
        kept: "not open".into(),
    };
    for (id, object) in rows {
        let print = &object.footprint;
        for def in &print.accounts {
            let share = match &def.limit {
                Limit::Share { of, .. } => Some(of),
                Limit::Fixed(_) | Limit::Unlimited => None,
            };
            for named in def.parent.iter().chain(share) {
                let account = accounts.get_mut(named).ok_or_else(|| missing(id, named))?;
                account.references += 1;
            }
        }
        for supply in &print.supplies {
            let account = accounts
                .get_mut(&supply.account)
                .ok_or_else(|| missing(id, &supply.account))?;
            account.references += 1;
            account.supplied = account.supplied.saturating_add(supply.amount);
        }
        for charge in &print.charges {
            let mut next = Some(charge.account.clone());
            let mut depth = 0;
            while let Some(key) = next {
                let account = accounts.get_mut(&key).ok_or_else(|| missing(id, &key))?;
                if depth == 0 {
                    account.references += 1;
                }
                account.used = account.used.saturating_add(charge.amount);
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(missing(id, &key));
                }
                next = account.parent.clone();
            }
        }
    }
    Ok(OrdMap::from_iter(accounts))
}
