//! The value itself, and how it is read.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use virtflow_types::{AccountKey, Incarnation, Limit, ObjectId, Text, Timestamp};

use crate::account::{Account, DEPTH_MAX};
use crate::object::{Object, hash_bytes};

/// Members announce under this index key the highest cluster version they support, as decimal text.
pub const SUPPORTS_KEY: &str = "cluster.supports";

/// Where a stream of records stands: enough to verify every record of it elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamHead {
    /// Records appended so far; the first has count 1.
    pub count: u64,
    /// Chained hash: of the head before and the record's body.
    pub head: [u8; 32],
}

impl StreamHead {
    /// The head after `body` is appended.
    #[must_use]
    pub fn append(&self, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.head);
        hasher.update(body);
        Self {
            count: self.count + 1,
            head: *hasher.finalize().as_bytes(),
        }
    }
    pub(crate) fn hash(&self, stream: &str) -> u128 {
        hash_bytes(&[
            b"stream",
            stream.as_bytes(),
            &self.count.to_be_bytes(),
            &self.head,
        ])
    }
}

/// One record as it is kept outside the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// The stream.
    pub stream: Text,
    /// Its place in the stream, from 1.
    pub count: u64,
    /// What was appended.
    pub body: Bytes,
    /// The stream's head with it.
    pub head: [u8; 32],
    /// The changeset's label of time.
    pub at: Timestamp,
}

/// Space and lower end.
pub(crate) type ClaimKey = (Text, Box<[u8]>);
/// The upper end where it is another than the lower, and the holder.
pub(crate) type Held = (Option<Box<[u8]>>, ObjectId);

/// Everything that is replicated. Cloning costs a few reference counts.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(crate) cluster_id: Option<ObjectId>,
    pub(crate) incarnation: Option<Incarnation>,
    pub(crate) cluster_version: u32,
    pub(crate) index: u64,
    pub(crate) digest: u128,
    pub(crate) objects: OrdMap<ObjectId, Arc<Object>>,
    pub(crate) by_kind: OrdMap<Text, OrdSet<ObjectId>>,
    pub(crate) claims: OrdMap<ClaimKey, Held>,
    pub(crate) links: OrdSet<(ObjectId, ObjectId)>,
    pub(crate) accounts: OrdMap<AccountKey, Account>,
    pub(crate) keys: OrdMap<Text, OrdSet<(Text, ObjectId)>>,
    pub(crate) streams: OrdMap<Text, StreamHead>,
}

impl State {
    /// The state before the first entry.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The state whose rows, stream heads and marks these are: how it is loaded from its shadow.
    /// Derived indexes are rebuilt; conditions are not judged again.
    pub fn from_parts(
        cluster_id: Option<ObjectId>,
        incarnation: Option<Incarnation>,
        cluster_version: u32,
        index: u64,
        objects: impl IntoIterator<Item = Object>,
        streams: impl IntoIterator<Item = (Text, StreamHead)>,
    ) -> Result<Self, crate::Divergence> {
        crate::verify::rebuild(
            cluster_id,
            incarnation,
            cluster_version,
            index,
            objects.into_iter().map(Arc::new),
            streams,
        )
    }

    /// Which cluster this is; `None` before genesis.
    pub fn cluster_id(&self) -> Option<ObjectId> {
        self.cluster_id
    }
    /// Which life of the store this is; `None` before genesis.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }
    /// The version that every member supports.
    pub fn cluster_version(&self) -> u32 {
        self.cluster_version
    }
    /// The log index of the last entry applied.
    pub fn index(&self) -> u64 {
        self.index
    }
    /// Marks the entry just applied. Called by the replication layer at entry ends.
    pub fn set_index(&mut self, index: u64) {
        self.index = index;
    }
    /// Sum of the hashes of all rows and stream heads and marks: equal states have equal digests.
    pub fn digest(&self) -> u128 {
        self.digest
    }
    /// Number of objects.
    pub fn object_count(&self) -> usize {
        self.objects.len()
    }

    /// One object.
    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }
    /// All objects in the order of their ids.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }
    /// Objects of one kind in the order of their ids, from after `after`.
    pub fn of_kind<'a>(
        &'a self,
        kind: &str,
        after: Option<ObjectId>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_kind
            .get(kind)
            .into_iter()
            .flat_map(move |ids| ids.range((start, Bound::Unbounded)))
            .filter_map(|id| self.objects.get(id))
    }
    /// Objects with that value under that index key, in the order of their ids, from after `after`.
    pub fn by_key<'a>(
        &'a self,
        name: &str,
        value: &str,
        after: Option<ObjectId>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let value = Text::new(value);
        let start = match after {
            Some(id) => Bound::Excluded((value.clone(), id)),
            None => Bound::Included((value.clone(), ObjectId::NIL)),
        };
        self.keys
            .get(name)
            .into_iter()
            .flat_map(move |entries| entries.range((start.clone(), Bound::Unbounded)))
            .take_while(move |(v, _)| *v == value)
            .filter_map(|(_, id)| self.objects.get(id))
    }
    /// How many objects have that value under that index key: the index is counted, no object looked at.
    pub fn count_by_key(&self, name: &str, value: &str) -> usize {
        let first = (Text::new(value), ObjectId::NIL);
        let entries = self.keys.get(name).into_iter();
        entries
            .flat_map(|entries| entries.range(first.clone()..))
            .take_while(|(v, _)| *v == first.0)
            .count()
    }
    /// How many objects of a kind there are.
    pub fn count_of_kind(&self, kind: &str) -> usize {
        self.by_kind.get(kind).map_or(0, OrdSet::len)
    }
    /// Values under an index key with their objects, in the order of the values, from `from` on.
    pub fn key_values<'a>(
        &'a self,
        name: &str,
        from: &str,
    ) -> impl Iterator<Item = (&'a Text, &'a Arc<Object>)> + use<'a> {
        let start = (Text::new(from), ObjectId::NIL);
        self.keys
            .get(name)
            .into_iter()
            .flat_map(move |entries| entries.range(start.clone()..))
            .filter_map(|(v, id)| self.objects.get(id).map(|object| (v, object)))
    }
    /// Who holds a point of a space.
    pub fn holder(&self, space: &str, point: &[u8]) -> Option<&Arc<Object>> {
        let (_, holder) = self.overlapping(space, point, point).next()?;
        self.objects.get(&holder)
    }
    /// Claims of a space that overlap `[lo, hi]`, from the highest down: `(lo, holder)`.
    pub fn overlapping<'a>(
        &'a self,
        space: &str,
        lo: &'a [u8],
        hi: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], ObjectId)> + use<'a> {
        let space = Text::new(space);
        // Claims of one space never overlap, so their upper ends rise with their lower ends: walking
        // down from `hi`, the first that ends before `lo` ends the search.
        self.claims
            .range((
                Bound::Unbounded,
                Bound::Included((space.clone(), hi.into())),
            ))
            .rev()
            .take_while(move |((s, start), (end, _))| {
                *s == space && end.as_deref().unwrap_or(start) >= lo
            })
            .map(|((_, start), (_, holder))| (start.as_ref(), *holder))
    }
    /// Objects that link to `target`.
    pub fn linking_to(&self, target: ObjectId) -> impl Iterator<Item = ObjectId> + '_ {
        self.linking_to_after(target, None)
    }
    /// Objects that link to `target`, in the order of their ids, from after `after`.
    pub fn linking_to_after(
        &self,
        target: ObjectId,
        after: Option<ObjectId>,
    ) -> impl Iterator<Item = ObjectId> + '_ {
        let start = match after {
            Some(id) => Bound::Excluded((target, id)),
            None => Bound::Included((target, ObjectId::NIL)),
        };
        self.links
            .range((start, Bound::Unbounded))
            .take_while(move |(t, _)| *t == target)
            .map(|(_, source)| *source)
    }
    /// An account.
    pub fn account(&self, key: &AccountKey) -> Option<&Account> {
        self.accounts.get(key)
    }
    /// All accounts in order.
    pub fn accounts(&self) -> impl Iterator<Item = (&AccountKey, &Account)> {
        self.accounts.iter()
    }
    /// Accounts that an object opened.
    pub fn accounts_of(&self, owner: ObjectId) -> impl Iterator<Item = (&AccountKey, &Account)> {
        self.accounts
            .range(AccountKey::new(owner, "")..)
            .take_while(move |(key, _)| key.owner == owner)
    }
    /// An account's limit with supplies; `u64::MAX` for none; `None` if it, or what it shares in, is
    /// not open.
    pub fn limit_of(&self, key: &AccountKey) -> Option<u64> {
        effective_limit(&|key| self.accounts.get(key).cloned(), key)
    }
    /// Dimension, limit as [`State::limit_of`] gives it (0 for `None`), and use of each account that an object
    /// opened, by one walk over them.
    pub fn balances_of(&self, owner: ObjectId) -> impl Iterator<Item = (&Text, u64, u64)> {
        self.accounts_of(owner).map(|(key, account)| {
            let limit = match &account.limit {
                Limit::Fixed(limit) => limit.saturating_add(account.supplied),
                Limit::Unlimited => u64::MAX,
                Limit::Share { .. } => self.limit_of(key).unwrap_or(0),
            };
            (&key.dimension, limit, account.used)
        })
    }
    /// Where a stream stands.
    pub fn stream(&self, name: &str) -> StreamHead {
        self.streams.get(name).copied().unwrap_or_default()
    }
    /// All streams in order.
    pub fn streams(&self) -> impl Iterator<Item = (&Text, &StreamHead)> {
        self.streams.iter()
    }

    pub(crate) fn marks_hash(&self) -> u128 {
        marks_hash(self.cluster_id, self.incarnation, self.cluster_version)
    }
}

pub(crate) fn marks_hash(
    cluster_id: Option<ObjectId>,
    incarnation: Option<Incarnation>,
    cluster_version: u32,
) -> u128 {
    let cluster_id = cluster_id.unwrap_or(ObjectId::NIL);
    let incarnation = incarnation.unwrap_or(Incarnation::NIL);
    hash_bytes(&[
        b"marks",
        cluster_id.as_bytes(),
        incarnation.as_bytes(),
        &cluster_version.to_be_bytes(),
    ])
}

/// The limit of an account: its own, or its share of another's, plus what is supplied.
pub(crate) fn effective_limit(
    find: &dyn Fn(&AccountKey) -> Option<Account>,
    key: &AccountKey,
) -> Option<u64> {
    let mut shares = Vec::new();
    let mut account = find(key)?;
    while let Limit::Share { of, ppm } = &account.limit {
        if shares.len() >= DEPTH_MAX {
            return None;
        }
        shares.push((*ppm, account.supplied));
        account = find(of)?;
    }
    let mut limit = match account.limit {
        Limit::Fixed(n) => n.saturating_add(account.supplied),
        Limit::Unlimited | Limit::Share { .. } => u64::MAX,
    };
    for (ppm, supplied) in shares.into_iter().rev() {
        if limit != u64::MAX {
            let part = u128::from(limit) * u128::from(ppm) / 1_000_000;
            limit = u64::try_from(part)
                .unwrap_or(u64::MAX)
                .saturating_add(supplied);
        }
    }
    Some(limit)
}
