//! What every member applied, side by side, and the rules that hold after each entry.
//!
//! The first member to apply an entry shows it to the rules; each later one must show the very same. So the
//! ledger is also the witness: the one order in which everything happened.

use std::collections::{BTreeMap, BTreeSet};

use virtflow_logic::{decoded, desired_of, hosts_touched};
use virtflow_model::Kind;
use virtflow_model::kinds::VirtualMachine;
use virtflow_state::port::AppliedEntry;
use virtflow_state::{State, verify};
use virtflow_types::{AccountKey, ObjectId};

use super::graves::Graves;
use super::{skew, trace};

/// How often, in entries, everything is derived again from the rows.
const WHOLE_CHECK_EVERY: u64 = 64;

/// What one entry did, as far as a history needs it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) term: u64,
    pub(crate) digest: u128,
    /// When it was first applied anywhere, in microseconds.
    pub(crate) at_us: u64,
    /// Objects as they were left: kind, name and spec; no spec if deleted.
    pub(crate) objects: Vec<Left>,
}

#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) id: ObjectId,
    pub(crate) spec: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: BTreeMap<u64, Seen>,
    /// Who led which term.
    leaders: BTreeMap<u64, String>,
    /// Every (host, VM, placement epoch) that a host was ever told to remove.
    pub(crate) ordered_away: BTreeSet<(ObjectId, ObjectId, u64)>,
    pub(crate) graves: Graves,
    /// The newest state that any member applied.
    pub(crate) newest: State,
    pub(crate) violations: Vec<String>,
    /// Members that came to lead.
    pub(crate) elections: u64,
}

impl Ledger {
    pub(crate) fn violation(&mut self, what: String) {
        trace::note(format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    pub(crate) fn leads(&mut self, member: &str, term: u64) {
        match self.leaders.get(&term) {
            Some(other) if other != member => {
                let what = format!("term {term} is led by {other} and by {member}");
                self.violation(what);
            }
            Some(_) => {}
            None => {
                self.elections += 1;
                trace::note(format!("{member} leads term {term}"));
                self.leaders.insert(term, member.to_owned());
            }
        }
    }

    /// A member's state is of a cluster version.
    pub(crate) fn is_at_version(&mut self, member: &str, version: u32) {
        let supports = skew::supported_by(member);
        if version > supports {
            self.violation(format!(
                "{member} is at cluster version {version} and supports {supports} at most"
            ));
        }
    }

    /// A member applied an entry.
    pub(crate) fn applied(&mut self, member: &str, entry: &AppliedEntry) {
        self.is_at_version(member, entry.image.cluster_version());
        let digest = entry.image.digest();
        trace::note(format!(
            "applied {} {} {digest:032x}",
            entry.index, entry.term
        ));
        if let Some(known) = self.entries.get(&entry.index) {
            if (known.term, known.digest) != (entry.term, digest) {
                let what = format!(
                    "{member} applied entry {} of term {} with digest {digest:032x}, another applied one of term {} with {:032x}",
                    entry.index, entry.term, known.term, known.digest
                );
                self.violation(what);
            }
            return;
        }
        if entry.index <= self.newest.index() {
            // Skipped by whoever installed a snapshot: nothing to compare with.
            return;
        }
        self.judge(entry);
        self.graves.dig(&entry.image, &entry.changes);
        let objects = entry.changes.iter().filter_map(|change| {
            let row = change.after.as_ref().or(change.before.as_ref())?;
            Some(Left {
                kind: row.kind.to_string(),
                name: row.name.to_string(),
                id: row.id,
                spec: change.after.as_ref().map(|row| row.spec.to_string()),
            })
        });
        self.entries.insert(
            entry.index,
            Seen {
                term: entry.term,
                digest,
                at_us: u64::try_from(super::clock::elapsed().as_micros()).unwrap_or(u64::MAX),
                objects: objects.collect(),
            },
        );
        self.newest = entry.image.clone();
    }

    fn judge(&mut self, entry: &AppliedEntry) {
        let image = &entry.image;
        let mut found = Vec::new();
        if entry.index == self.newest.index() + 1 || self.newest.index() == 0 {
            raised(&self.newest, image, &mut found);
        }
        let mut hosts = BTreeSet::new();
        for change in &entry.changes {
            hosts.extend(hosts_touched(change));
            let Some(row) = &change.after else { continue };
            if row.kind.as_str() != Kind::VirtualMachine.name() {
                continue;
            }
            if let Ok(vm) = decoded::<VirtualMachine>(row)
                && vm.status.phase.is_transitional()
                && vm.status.deadline.is_none()
            {
                found.push(format!(
                    "VM {} is {} without a deadline",
                    row.name,
                    vm.status.phase.name()
                ));
            }
        }
        for host in hosts {
            let away = desired_of(image, host).tombstones;
            self.ordered_away
                .extend(away.into_iter().map(|(vm, epoch)| (host, vm, epoch)));
        }
        if entry.index.is_multiple_of(WHOLE_CHECK_EVERY) {
            whole(image, &mut found);
        }
        for what in found {
            self.violation(format!("after entry {}: {what}", entry.index));
        }
    }

    /// Everything that follows from the rows, at the end.
    pub(crate) fn check_whole(&mut self) {
        let mut found = Vec::new();
        whole(&self.newest.clone(), &mut found);
        for what in found {
            self.violation(format!("at the end: {what}"));
        }
    }
}

/// No account is used beyond its limit, unless it was so before and did not grow.
fn raised(before: &State, after: &State, found: &mut Vec<String>) {
    for (key, account) in after.accounts() {
        let Some(limit) = after.limit_of(key) else {
            continue;
        };
        let was = before.account(key).map_or(0, |account| account.used);
        if account.used > limit.max(was) {
            found.push(format!(
                "{} of {} was raised from {was} to {} past its limit {limit}",
                key.dimension, key.owner, account.used
            ));
        }
    }
}

/// A claim's ends and its holder.
type Held<'a> = (&'a [u8], &'a [u8], ObjectId);

/// Indexes and ledgers, once by the product's own verifier and once by sums and sorting of our own.
fn whole(state: &State, found: &mut Vec<String>) {
    found.extend(verify(state).into_iter().map(|d| d.to_string()));
    let mut claims: BTreeMap<&str, Vec<Held<'_>>> = BTreeMap::new();
    let mut used: BTreeMap<AccountKey, u64> = BTreeMap::new();
    let mut parents: BTreeMap<AccountKey, Option<AccountKey>> = BTreeMap::new();
    for row in state.objects() {
        for claim in &row.footprint.claims {
            let held = (claim.lo.as_ref(), claim.hi(), row.id);
            claims.entry(&claim.space).or_default().push(held);
        }
        for account in &row.footprint.accounts {
            let key = AccountKey {
                owner: row.id,
                dimension: account.dimension.clone(),
            };
            parents.insert(key, account.parent.clone());
        }
        for link in &row.footprint.links {
            if state.get(*link).is_none() {
                found.push(format!(
                    "{} {} refers to {link}, which is not there",
                    row.kind, row.id
                ));
            }
        }
    }
    for (space, mut held) in claims {
        held.sort_unstable();
        for pair in held.windows(2) {
            if pair[0].1 >= pair[1].0 {
                found.push(format!(
                    "{} and {} hold the same of {space}",
                    pair[0].2, pair[1].2
                ));
            }
        }
    }
    for row in state.objects() {
        for charge in &row.footprint.charges {
            let mut account = Some(charge.account.clone());
            while let Some(key) = account {
                *used.entry(key.clone()).or_default() += charge.amount;
                account = parents.get(&key).cloned().flatten();
            }
        }
    }
    for (key, account) in state.accounts() {
        let sum = used.get(key).copied().unwrap_or(0);
        if sum != account.used {
            found.push(format!(
                "{} of {}: the rows charge {sum}, the account says {}",
                key.dimension, key.owner, account.used
            ));
        }
    }
}
