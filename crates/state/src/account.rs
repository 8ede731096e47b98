//! Ledger accounts: a limit, and what is charged against it.

use virtflow_types::{AccountKey, Limit, ObjectId, Text};

use crate::changeset::{DecodeError, wire};

/// How deep account trees and chains of shares may be: far above any real tree, so that a cycle is
/// found instead of followed.
pub(crate) const DEPTH_MAX: usize = 16;

pub(crate) fn key_to_wire(key: &AccountKey) -> wire::AccountRef {
    wire::AccountRef {
        owner: bytes::Bytes::copy_from_slice(key.owner.as_bytes()),
        dimension: key.dimension.to_string(),
    }
}

pub(crate) fn key_from_wire(wire: &wire::AccountRef) -> Result<AccountKey, DecodeError> {
    Ok(AccountKey {
        owner: ObjectId::from_slice(&wire.owner)
            .ok_or_else(|| DecodeError::Malformed("account owner".into()))?,
        dimension: Text::new(&wire.dimension),
    })
}

pub(crate) fn limit_to_wire(limit: &Limit) -> wire::AccountLimit {
    match limit {
        Limit::Fixed(n) => wire::AccountLimit::Fixed(*n),
        Limit::Unlimited => wire::AccountLimit::Unlimited(true),
        Limit::Share { of, ppm } => wire::AccountLimit::Share(wire::Share {
            of: Some(key_to_wire(of)),
            ppm: *ppm,
        }),
    }
}

pub(crate) fn limit_from_wire(wire: wire::AccountLimit) -> Result<Limit, DecodeError> {
    Ok(match wire {
        wire::AccountLimit::Fixed(n) => Limit::Fixed(n),
        wire::AccountLimit::Unlimited(_) => Limit::Unlimited,
        wire::AccountLimit::Share(share) => Limit::Share {
            of: key_from_wire(
                &share
                    .of
                    .ok_or_else(|| DecodeError::Malformed("share of nothing".into()))?,
            )?,
            ppm: share.ppm,
        },
    })
}

/// An account as the state keeps it: derived wholly from the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account every charge here counts in too.
    pub parent: Option<AccountKey>,
    /// The limit before supplies.
    pub limit: Limit,
    /// Sum of supplies.
    pub supplied: u64,
    /// Sum of charges here and below.
    pub used: u64,
    /// Charges, supplies, child accounts and shares that name this account: while there are any, it
    /// cannot be closed.
    pub references: u64,
}
