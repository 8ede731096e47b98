//! The one way the state changes.
//!
//! Two steps: judge every condition on the changeset's net effect without touching anything, then
//! commit, which cannot fail. Judging works on the objects named by the changeset and a small overlay of
//! the accounts they touch, so its cost follows the changeset, not the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use virtflow_types::{Incarnation, ObjectId, Text};

use crate::changeset::{CHANGESET_OPS_MAX, Changeset, Expect, Op};
use crate::ledger::{AccountOverlay, Ledger, same_ledger};
use crate::object::{Change, Object};
use crate::refused::Refused;
use crate::state::{RecordRow, SUPPORTS_KEY, State, marks_hash};

/// What a changeset did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// One for each object put or deleted, in the order of the ops.
    pub changes: Vec<Change>,
    /// The records appended.
    pub records: Vec<RecordRow>,
}

/// An object before and after the changeset.
type Pair = (Option<Arc<Object>>, Option<Arc<Object>>);

/// The changeset sorted by what its parts do.
#[derive(Default)]
struct Plan {
    order: Vec<ObjectId>,
    pairs: BTreeMap<ObjectId, Pair>,
    cluster_version: Option<u32>,
    genesis: Option<(Incarnation, ObjectId)>,
}

impl State {
    /// Makes all the changes of `changeset`, or none and says why.
    pub fn apply(&mut self, changeset: &Changeset) -> Result<Applied, Refused> {
        let (plan, accounts) = self.judge(changeset)?;
        Ok(self.commit(changeset, plan, accounts))
    }

    /// What [`State::apply`] would say, without changing anything: so that whoever decides can tell a
    /// refusal in the words of the request.
    pub fn check(&self, changeset: &Changeset) -> Result<(), Refused> {
        self.judge(changeset).map(drop)
    }

    fn judge(&self, changeset: &Changeset) -> Result<(Plan, AccountOverlay), Refused> {
        let plan = self.plan(changeset)?;
        self.check_claims(&plan)?;
        self.check_links(&plan)?;
        let accounts = self.check_accounts(&plan)?;
        self.check_cluster_version(&plan)?;
        Ok((plan, accounts))
    }

    /// Expectations and versions; nothing else reads the ops one by one.
    fn plan(&self, changeset: &Changeset) -> Result<Plan, Refused> {
        let malformed = |what: &str| Refused::Malformed(what.into());
        if changeset.ops.len() > CHANGESET_OPS_MAX {
            return Err(malformed("too many operations"));
        }
        let mut plan = Plan::default();
        let mut conditional = false;
        let mut counted: BTreeSet<&str> = BTreeSet::new();
        for op in &changeset.ops {
            match op {
                Op::Expect(expect) => {
                    self.check_expect(expect)?;
                    if let Expect::StreamCount(stream, _) = expect {
                        counted.insert(stream);
                    }
                }
                Op::Put(object) => {
                    conditional = true;
                    let before = self.check_put(object)?;
                    let after = Some(Arc::new(self.sharing((**object).clone())));
                    if plan.pairs.insert(object.id, (before, after)).is_some() {
                        return Err(malformed("an object changed twice"));
                    }
                    plan.order.push(object.id);
                }
                Op::Delete(id, version) => {
                    conditional = true;
                    let found = self.objects.get(id);
                    if found.map_or(0, |object| object.version) != *version || found.is_none() {
                        return Err(Refused::Version {
                            object: *id,
                            expected: *version,
                            found: found.map_or(0, |object| object.version),
                        });
                    }
                    if plan.pairs.insert(*id, (found.cloned(), None)).is_some() {
                        return Err(malformed("an object changed twice"));
                    }
                    plan.order.push(*id);
                }
                Op::Record(record) => {
                    if record.stream.is_empty() {
                        return Err(malformed("a record without a stream"));
                    }
                    conditional |= counted.contains(record.stream.as_str());
                }
                Op::ClusterVersion(version) => {
                    conditional = true;
                    if plan.cluster_version.replace(*version).is_some() {
                        return Err(malformed("two cluster versions"));
                    }
                }
                Op::Genesis(incarnation, cluster_id) => {
                    conditional = true;
                    if self.incarnation.is_some() {
                        return Err(malformed("genesis of a store that already lives"));
                    }
                    if plan.genesis.replace((*incarnation, *cluster_id)).is_some() {
                        return Err(malformed("two geneses"));
                    }
                }
            }
        }
        if !conditional {
            return Err(Refused::Unconditional);
        }
        Ok(plan)
    }

    fn check_expect(&self, expect: &Expect) -> Result<(), Refused> {
        let (object, expected, found) = match expect {
            Expect::Generation(id, n) => (
                *id,
                format!("generation {n}"),
                self.objects.get(id).map_or("no such object".into(), |o| {
                    format!("generation {}", o.generation)
                }),
            ),
            Expect::Version(id, n) => (
                *id,
                format!("version {n}"),
                self.objects.get(id).map_or("no such object".into(), |o| {
                    format!("version {}", o.version)
                }),
            ),
            Expect::Absent(id) => (
                *id,
                "no such object".into(),
                self.objects.get(id).map_or("no such object".into(), |o| {
                    format!("version {}", o.version)
                }),
            ),
            Expect::StreamCount(stream, n) => (
                ObjectId::NIL,
                format!("{n} records in `{stream}`"),
                format!("{} records in `{stream}`", self.stream(stream).count),
            ),
        };
        if expected == found {
            Ok(())
        } else {
            Err(Refused::Expectation {
                object,
                expected,
                found,
            })
        }
    }

    fn check_put(&self, object: &Object) -> Result<Option<Arc<Object>>, Refused> {
        let malformed = |what: &str| Err(Refused::Malformed(format!("{}: {what}", object.id)));
        let before = self.objects.get(&object.id).cloned();
        let found = before.as_ref().map_or(0, |before| before.version);
        if object.version != found + 1 {
            return Err(Refused::Version {
                object: object.id,
                expected: object.version.wrapping_sub(1),
                found,
            });
        }
        if object.id.is_nil() || object.kind.is_empty() {
            return malformed("no id or no kind");
        }
        if let Some(before) = &before {
            if before.kind != object.kind {
                return malformed("its kind changed");
            }
            if object.generation != before.generation && object.generation != before.generation + 1
            {
                return malformed("its generation does not follow");
            }
        }
        let print = &object.footprint;
        if print.claims.iter().any(|claim| *claim.lo > *claim.hi()) {
            return malformed("a claim ends before it begins");
        }
        let mut dimensions: Vec<&Text> = print.accounts.iter().map(|a| &a.dimension).collect();
        dimensions.sort_unstable();
        if dimensions.windows(2).any(|pair| pair[0] == pair[1]) {
            return malformed("two accounts of one dimension");
        }
        Ok(before)
    }

    /// The same object, its longer texts sharing memory with equal ones in the indexes: thousands of
    /// VMs name the same tenant and host.
    fn sharing(&self, mut object: Object) -> Object {
        for claim in &mut object.footprint.claims {
            let first = (claim.space.clone(), Box::default());
            if let Some(((space, _), _)) = self.claims.range(first..).next()
                && *space == claim.space
            {
                claim.space = space.clone();
            }
        }
        for key in &mut object.footprint.keys {
            let Some((name, entries)) = self.keys.get_key_value(&key.name) else {
                continue;
            };
            key.name = name.clone();
            let first = (key.value.clone(), ObjectId::NIL);
            if let Some((value, _)) = entries.range(first..).next()
                && *value == key.value
            {
                key.value = value.clone();
            }
        }
        object
    }

    fn check_claims(&self, plan: &Plan) -> Result<(), Refused> {
        let mut added: Vec<(&Text, &[u8], &[u8], ObjectId)> = Vec::new();
        for (id, (before, after)) in &plan.pairs {
            let Some(after) = after else { continue };
            if before
                .as_ref()
                .is_some_and(|before| before.footprint.claims == after.footprint.claims)
            {
                // Held already; only what others add can clash with it, and they look here.
                continue;
            }
            for claim in &after.footprint.claims {
                let taken = self
                    .overlapping(&claim.space, &claim.lo, claim.hi())
                    .find(|(_, holder)| !reclaims(plan, *holder));
                if let Some((_, holder)) = taken {
                    return Err(claimed(*id, &claim.space, &claim.lo, holder));
                }
                added.push((&claim.space, &claim.lo, claim.hi(), *id));
            }
        }
        added.sort_unstable();
        for pair in added.windows(2) {
            let ((space, _, end, holder), (next_space, lo, _, id)) = (&pair[0], &pair[1]);
            if space == next_space && lo <= end {
                return Err(claimed(*id, space, lo, *holder));
            }
        }
        Ok(())
    }

    fn check_links(&self, plan: &Plan) -> Result<(), Refused> {
        for (id, (before, after)) in &plan.pairs {
            if let Some(after) = after {
                for target in &after.footprint.links {
                    let is_new = before
                        .as_ref()
                        .is_none_or(|before| !before.footprint.links.contains(target));
                    let found = match plan.pairs.get(target) {
                        Some((_, target_after)) => target_after.as_ref(),
                        None => self.objects.get(target),
                    };
                    match found {
                        None if is_new => {
                            return Err(Refused::LinkMissing {
                                object: *id,
                                target: *target,
                            });
                        }
                        None => {
                            return Err(Refused::StillLinked {
                                object: *target,
                                by: *id,
                            });
                        }
                        Some(found) if is_new && found.closed => {
                            return Err(Refused::LinkClosed {
                                object: *id,
                                target: *target,
                            });
                        }
                        Some(_) => {}
                    }
                }
            } else if let Some(by) = self
                .linking_to(*id)
                .find(|source| !plan.pairs.contains_key(source))
            {
                // Sources that change in this changeset are judged above, by what they become.
                return Err(Refused::StillLinked { object: *id, by });
            }
        }
        Ok(())
    }

    fn check_accounts(&self, plan: &Plan) -> Result<AccountOverlay, Refused> {
        let mut ledger = Ledger::new(self);
        let touched: Vec<(&ObjectId, &Pair)> = plan
            .pairs
            .iter()
            .filter(|(_, (before, after))| !same_ledger(before.as_deref(), after.as_deref()))
            .collect();
        for (id, (before, _)) in &touched {
            let Some(before) = before else { continue };
            for charge in &before.footprint.charges {
                ledger.charge(**id, &charge.account, charge.amount, false)?;
            }
            for supply in &before.footprint.supplies {
                ledger.supply(**id, &supply.account, supply.amount, false)?;
            }
        }
        for (id, (before, after)) in &touched {
            ledger.define(**id, before.as_deref(), after.as_deref())?;
        }
        for (id, (before, after)) in &touched {
            ledger.attach(**id, before.as_deref(), after.as_deref())?;
        }
        for (id, (_, after)) in &touched {
            let Some(after) = after else { continue };
            for supply in &after.footprint.supplies {
                ledger.supply(**id, &supply.account, supply.amount, true)?;
            }
            for charge in &after.footprint.charges {
                ledger.charge(**id, &charge.account, charge.amount, true)?;
            }
        }
        for (id, (before, after)) in &touched {
            ledger.close(**id, before.as_deref(), after.as_deref())?;
        }
        for (id, (before, after)) in &touched {
            ledger.check_closed(**id, before.as_deref(), after.as_deref())?;
        }
        ledger.check_limits()?;
        Ok(ledger.into_overlay())
    }

    fn check_cluster_version(&self, plan: &Plan) -> Result<(), Refused> {
        let Some(asked) = plan.cluster_version else {
            return Ok(());
        };
        let refused = |why: String| Err(Refused::ClusterVersion { asked, why });
        if asked <= self.cluster_version {
            return refused(format!(
                "the cluster is already at {}",
                self.cluster_version
            ));
        }
        for (value, member) in self.key_values(SUPPORTS_KEY, "") {
            if value
                .parse::<u32>()
                .map_or(true, |supports| supports < asked)
            {
                return refused(format!("{} supports {value} at most", member.name));
            }
        }
        Ok(())
    }

    /// Cannot fail: every condition holds.
    fn commit(&mut self, changeset: &Changeset, plan: Plan, accounts: AccountOverlay) -> Applied {
        let mut applied = Applied::default();
        let Plan {
            order, mut pairs, ..
        } = plan;
        // Everything that goes, goes before anything comes: a claim may pass from one to another.
        for (before, after) in pairs.values() {
            if let Some(before) = before {
                self.remove_from_indexes(before, after.as_deref());
            }
        }
        for (before, after) in pairs.values() {
            if let Some(after) = after {
                self.add_to_indexes(before.as_deref(), after);
            }
        }
        for (key, account) in accounts {
            match account {
                Some(account) => self.accounts.insert(key, account),
                None => self.accounts.remove(&key),
            };
        }
        for id in order {
            let (before, after) = pairs.remove(&id).unwrap_or_default();
            if let Some(before) = &before {
                self.digest = self.digest.wrapping_sub(before.hash());
            }
            match &after {
                Some(after) => {
                    self.digest = self.digest.wrapping_add(after.hash());
                    self.objects.insert(id, after.clone());
                }
                None => {
                    self.objects.remove(&id);
                }
            }
            applied.changes.push(Change { id, before, after });
        }
        for op in &changeset.ops {
            if let Op::Record(record) = op {
                let stream = Text::new(&record.stream);
                let head = self.stream(&stream);
                let next = head.append(&record.body);
                if head.count > 0 {
                    self.digest = self.digest.wrapping_sub(head.hash(&stream));
                }
                self.digest = self.digest.wrapping_add(next.hash(&stream));
                self.streams.insert(stream.clone(), next);
                applied.records.push(RecordRow {
                    stream,
                    count: next.count,
                    body: record.body.clone(),
                    head: next.head,
                    at: changeset.now,
                });
            }
        }
        if plan.genesis.is_some() || plan.cluster_version.is_some() {
            let before = self.marks_hash();
            if let Some((incarnation, cluster_id)) = plan.genesis {
                self.incarnation = Some(incarnation);
                self.cluster_id = Some(cluster_id);
            }
            if let Some(version) = plan.cluster_version {
                self.cluster_version = version;
            }
            let empty = marks_hash(None, None, 0);
            self.digest = self
                .digest
                .wrapping_sub(before.wrapping_sub(empty))
                .wrapping_add(self.marks_hash().wrapping_sub(empty));
        }
        applied
    }

    fn remove_from_indexes(&mut self, before: &Object, after: Option<&Object>) {
        let kept = after.map(|after| &after.footprint);
        if kept.is_none_or(|kept| kept.claims != before.footprint.claims) {
            for claim in &before.footprint.claims {
                self.claims.remove(&(claim.space.clone(), claim.lo.clone()));
            }
        }
        if kept.is_none_or(|kept| kept.links != before.footprint.links) {
            for target in &before.footprint.links {
                self.links.remove(&(*target, before.id));
            }
        }
        if kept.is_none_or(|kept| kept.keys != before.footprint.keys) {
            for key in &before.footprint.keys {
                take(&mut self.keys, &key.name, &(key.value.clone(), before.id));
            }
        }
        if after.is_none() {
            take(&mut self.by_kind, &before.kind, &before.id);
        }
    }

    fn add_to_indexes(&mut self, before: Option<&Object>, after: &Object) {
        let had = before.map(|before| &before.footprint);
        if had.is_none_or(|had| had.claims != after.footprint.claims) {
            for claim in &after.footprint.claims {
                self.claims.insert(
                    (claim.space.clone(), claim.lo.clone()),
                    (claim.end().map(Box::from), after.id),
                );
            }
        }
        if had.is_none_or(|had| had.links != after.footprint.links) {
            for target in &after.footprint.links {
                self.links.insert((*target, after.id));
            }
        }
        if had.is_none_or(|had| had.keys != after.footprint.keys) {
            for key in &after.footprint.keys {
                self.keys
                    .entry(key.name.clone())
                    .or_default()
                    .insert((key.value.clone(), after.id));
            }
        }
        if before.is_none() {
            self.by_kind
                .entry(after.kind.clone())
                .or_default()
                .insert(after.id);
        }
    }
}

/// Removes an entry from one of the sets of an index, and the set with its last entry.
fn take<T: Ord + Clone>(index: &mut OrdMap<Text, OrdSet<T>>, name: &Text, entry: &T) {
    if let Some(set) = index.get_mut(name) {
        set.remove(entry);
        if set.is_empty() {
            index.remove(name);
        }
    }
}

fn claimed(object: ObjectId, space: &str, lo: &[u8], holder: ObjectId) -> Refused {
    Refused::Claimed {
        object,
        space: space.into(),
        lo: lo.into(),
        holder,
    }
}

/// True if the changeset changes what this object claims: then not what it held counts, but what it
/// will hold.
fn reclaims(plan: &Plan, holder: ObjectId) -> bool {
    plan.pairs.get(&holder).is_some_and(|(before, after)| {
        before.as_ref().map(|o| &o.footprint.claims) != after.as_ref().map(|o| &o.footprint.claims)
    })
}
