//! Why a changeset was refused.

use virtflow_types::{AccountKey, ObjectId};

/// Why a changeset changed nothing: a normal result, the same on every replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The changeset breaks a rule of the vocabulary; a bug of its author.
    #[error("malformed changeset: {0}")]
    Malformed(String),
    /// Nothing in it would be false after it succeeded: applied twice it would act twice.
    #[error("a changeset needs a condition that its own success makes false")]
    Unconditional,
    /// An expectation did not hold.
    #[error("expected {expected} of {object}, found {found}")]
    Expectation {
        /// The object, or nil for a stream.
        object: ObjectId,
        /// What the changeset rested on.
        expected: String,
        /// What is so.
        found: String,
    },
    /// A put or delete of another version than today's.
    #[error("{object} is at version {found}, not {expected}")]
    Version {
        /// The object.
        object: ObjectId,
        /// The version the changeset replaces; 0 for "nothing".
        expected: u64,
        /// Today's; 0 if there is no such object.
        found: u64,
    },
    /// A claim overlaps another object's.
    #[error("{object} claims what {holder} holds in `{space}`")]
    Claimed {
        /// The claimant.
        object: ObjectId,
        /// The space.
        space: String,
        /// Lower end of the claim.
        lo: Vec<u8>,
        /// Who holds it.
        holder: ObjectId,
    },
    /// A link to nothing.
    #[error("{object} links to {target}, which does not exist")]
    LinkMissing {
        /// The object that links.
        object: ObjectId,
        /// What is missing.
        target: ObjectId,
    },
    /// A new link to what takes no new links.
    #[error("{object} links to {target}, which is closed")]
    LinkClosed {
        /// The object that links.
        object: ObjectId,
        /// What is closed.
        target: ObjectId,
    },
    /// Something still links to what would be deleted.
    #[error("{object} is still needed by {by}")]
    StillLinked {
        /// What would be deleted.
        object: ObjectId,
        /// One of those that need it.
        by: ObjectId,
    },
    /// A charge, supply, parent or share names an account that is not open.
    #[error("{object} names the account {account}, which is not open")]
    AccountMissing {
        /// The object that names it.
        object: ObjectId,
        /// The account.
        account: AccountKey,
    },
    /// An account would close while something is still counted in it.
    #[error("the account {account} is still in use")]
    AccountInUse {
        /// The account.
        account: AccountKey,
    },
    /// An account would be raised past its limit.
    #[error("{account}: {asked} more than {used} used exceeds the limit of {limit}")]
    OverLimit {
        /// The account.
        account: AccountKey,
        /// Its limit with supplies, as it would be.
        limit: u64,
        /// What was used before.
        used: u64,
        /// By how much it would be raised.
        asked: u64,
    },
    /// The cluster version does not grow, or a member does not support it.
    #[error("cluster version {asked}: {why}")]
    ClusterVersion {
        /// The version asked for.
        asked: u32,
        /// What is in the way.
        why: String,
    },
}
