//! What an object holds of the shared. A kind computes it, the state understands it without knowing
//! the kind: names and addresses as claims, references as links, capacity and quota as accounts.

use smol_str::SmolStr;

use crate::ObjectId;

/// Short text, inline up to 23 bytes.
pub type Text = SmolStr;

/// An interval `[lo, hi]` of a named space that nobody else may overlap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Which space; `names/<parent>` or `serial_number`.
    pub space: Text,
    /// Lower end, compared as bytes.
    pub lo: Box<[u8]>,
    /// Upper end where it differs from the lower: most claims are points, and there are many.
    end: Option<Box<[u8]>>,
}

impl Claim {
    /// A single point of a space.
    pub fn point(space: impl Into<Text>, value: impl AsRef<[u8]>) -> Self {
        Self {
            space: space.into(),
            lo: value.as_ref().into(),
            end: None,
        }
    }
    /// An interval, both ends included.
    pub fn range(space: impl Into<Text>, lo: impl AsRef<[u8]>, hi: impl AsRef<[u8]>) -> Self {
        let (lo, hi) = (lo.as_ref(), hi.as_ref());
        Self {
            space: space.into(),
            lo: lo.into(),
            end: (lo != hi).then(|| hi.into()),
        }
    }
    /// Upper end, included.
    pub fn hi(&self) -> &[u8] {
        self.end.as_deref().unwrap_or(&self.lo)
    }
    /// The upper end of an interval, `None` for a point.
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref()
    }
}

/// An amount added to an account's limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Supply {
    /// The account.
    pub account: AccountKey,
    /// In the dimension's unit.
    pub amount: u64,
}

/// An amount taken from an account and all its parents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Charge {
    /// The account.
    pub account: AccountKey,
    /// In the dimension's unit.
    pub amount: u64,
}

/// An account that the object opens; the owner is the object itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountDef {
    /// What it counts, with its unit: `memory_mib`.
    pub dimension: Text,
    /// The account that every charge here counts in too.
    pub parent: Option<AccountKey>,
    /// The limit, before supplies.
    pub limit: Limit,
}

/// What lists are filtered by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexKey {
    /// Which index: `virtual_machine.host`.
    pub name: Text,
    /// The value, compared as text.
    pub value: Text,
}

/// What an object holds of the shared: computed by its kind, understood without knowing the kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Intervals nobody else may overlap.
    pub claims: Box<[Claim]>,
    /// Objects whose deletion this one blocks.
    pub links: Box<[ObjectId]>,
    /// Amounts added to limits.
    pub supplies: Box<[Supply]>,
    /// Amounts taken.
    pub charges: Box<[Charge]>,
    /// Accounts opened.
    pub accounts: Box<[AccountDef]>,
    /// Index entries.
    pub keys: Box<[IndexKey]>,
}

/// Names an account: who opened it, and what it counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    /// The object that opened it.
    pub owner: ObjectId,
    /// What it counts, with its unit: `memory_mib`.
    pub dimension: Text,
}

impl AccountKey {
    /// An account of `owner`.
    pub fn new(owner: ObjectId, dimension: impl Into<Text>) -> Self {
        Self {
            owner,
            dimension: dimension.into(),
        }
    }
}

impl std::fmt::Display for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.dimension)
    }
}

/// How much an account may hold, before supplies are added.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// A number, in the dimension's unit.
    Fixed(u64),
    /// No limit; the account only counts.
    Unlimited,
    /// A share of another account's limit, in parts per million.
    Share {
        /// The other account.
        of: AccountKey,
        /// Parts per million.
        ppm: u64,
    },
}
