//! Objects as the state holds them: a row and the footprint that its kind computed.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;
use virtflow_types::{
    AccountDef, AccountKey, Charge, Claim, Footprint, IndexKey, ObjectId, Supply, Text,
};

use crate::account::{key_from_wire, key_to_wire, limit_from_wire, limit_to_wire};
use crate::changeset::{DecodeError, wire};

/// One object at one version.
#[derive(Clone)]
pub struct Object {
    /// Its id.
    pub id: ObjectId,
    /// Its kind: `virtual_machine`.
    pub kind: Text,
    /// The tenant it belongs to, if any.
    pub tenant: Option<ObjectId>,
    /// The object it lives under, if any.
    pub parent: Option<ObjectId>,
    /// Its name, empty where the kind has none.
    pub name: Text,
    /// Grows when the spec changes.
    pub generation: u64,
    /// Grows with any change, by one.
    pub version: u64,
    /// No new links to it.
    pub closed: bool,
    /// What was asked for: canonical JSON.
    pub spec: Box<str>,
    /// What was seen: canonical JSON.
    pub status: Box<str>,
    /// What it holds of the shared.
    pub footprint: Footprint,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.to_wire() == other.to_wire()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("name", &self.name)
            .field("generation", &self.generation)
            .field("version", &self.version)
            .field("closed", &self.closed)
            .field("spec", &self.spec)
            .field("status", &self.status)
            .field("footprint", &self.footprint)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// A first version (generation 1, version 1, open) with empty JSON objects and no footprint.
    pub fn new(kind: impl Into<Text>, id: ObjectId, name: impl Into<Text>) -> Self {
        Self {
            id,
            kind: kind.into(),
            tenant: None,
            parent: None,
            name: name.into(),
            generation: 1,
            version: 1,
            closed: false,
            spec: "{}".into(),
            status: "{}".into(),
            footprint: Footprint::default(),
            decoded: OnceLock::new(),
        }
    }

    /// A copy to be changed: the next version, with no decoded value yet.
    pub fn next(&self) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.decoded = OnceLock::new();
        next
    }

    /// The typed value beside the JSON: decoded once by whoever knows the kind, shared after.
    pub fn decoded<T: Any + Send + Sync>(&self, decode: impl FnOnce(&Self) -> T) -> Option<Arc<T>> {
        self.decoded
            .get_or_init(|| Arc::new(decode(self)))
            .clone()
            .downcast()
            .ok()
    }

    /// The stored bytes; equal objects have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// Reads [`Object::encode`]'s bytes.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let row =
            wire::Row::decode(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        Self::from_wire(row)
    }

    /// This row's share of the state's digest.
    pub fn hash(&self) -> u128 {
        hash_bytes(&[b"object", &self.encode()])
    }

    pub(crate) fn to_wire(&self) -> wire::Row {
        let optional = |id: &Option<ObjectId>| {
            id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes()))
        };
        let print = &self.footprint;
        let amount = |account: &AccountKey, amount: u64| wire::Amount {
            owner: Bytes::copy_from_slice(account.owner.as_bytes()),
            dimension: account.dimension.to_string(),
            amount,
        };
        wire::Row {
            kind: self.kind.to_string(),
            id: Bytes::copy_from_slice(self.id.as_bytes()),
            tenant: optional(&self.tenant),
            parent: optional(&self.parent),
            name: self.name.to_string(),
            generation: self.generation,
            version: self.version,
            closed: self.closed,
            spec: self.spec.to_string(),
            status: self.status.to_string(),
            claims: print
                .claims
                .iter()
                .map(|claim| wire::Claim {
                    space: claim.space.to_string(),
                    lo: claim.lo.to_vec(),
                    hi: claim.end().unwrap_or_default().to_vec(),
                })
                .collect(),
            links: print
                .links
                .iter()
                .map(|id| Bytes::copy_from_slice(id.as_bytes()))
                .collect(),
            supplies: print
                .supplies
                .iter()
                .map(|s| amount(&s.account, s.amount))
                .collect(),
            charges: print
                .charges
                .iter()
                .map(|c| amount(&c.account, c.amount))
                .collect(),
            accounts: print
                .accounts
                .iter()
                .map(|account| wire::Account {
                    dimension: account.dimension.to_string(),
                    parent: account.parent.as_ref().map(key_to_wire),
                    limit: Some(limit_to_wire(&account.limit)),
                })
                .collect(),
            keys: print
                .keys
                .iter()
                .map(|key| wire::Key {
                    name: key.name.to_string(),
                    value: key.value.to_string(),
                })
                .collect(),
        }
    }

    pub(crate) fn from_wire(row: wire::Row) -> Result<Self, DecodeError> {
        let malformed = |what: &str| DecodeError::Malformed(format!("row: {what}"));
        let id_of =
            |bytes: &[u8], what: &str| ObjectId::from_slice(bytes).ok_or_else(|| malformed(what));
        let optional = |bytes: &[u8], what: &str| {
            if bytes.is_empty() {
                Ok(None)
            } else {
                id_of(bytes, what).map(Some)
            }
        };
        let key_of = |amount: &wire::Amount| {
            Ok::<_, DecodeError>(AccountKey {
                owner: id_of(&amount.owner, "account owner")?,
                dimension: Text::new(&amount.dimension),
            })
        };
        let claims = row
            .claims
            .into_iter()
            .map(|claim| {
                let hi = if claim.hi.is_empty() {
                    &claim.lo
                } else {
                    &claim.hi
                };
                Claim::range(&claim.space[..], &claim.lo, hi)
            })
            .collect();
        let mut accounts = Vec::with_capacity(row.accounts.len());
        for account in row.accounts {
            accounts.push(AccountDef {
                dimension: Text::new(&account.dimension),
                parent: account.parent.as_ref().map(key_from_wire).transpose()?,
                limit: limit_from_wire(account.limit.ok_or_else(|| malformed("account limit"))?)?,
            });
        }
        Ok(Self {
            id: id_of(&row.id, "id")?,
            kind: Text::new(&row.kind),
            tenant: optional(&row.tenant, "tenant")?,
            parent: optional(&row.parent, "parent")?,
            name: Text::new(&row.name),
            generation: row.generation,
            version: row.version,
            closed: row.closed,
            spec: row.spec.into(),
            status: row.status.into(),
            footprint: Footprint {
                claims,
                links: row
                    .links
                    .iter()
                    .map(|bytes| id_of(bytes, "link"))
                    .collect::<Result<_, _>>()?,
                supplies: row
                    .supplies
                    .iter()
                    .map(|s| {
                        Ok(Supply {
                            account: key_of(s)?,
                            amount: s.amount,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
                charges: row
                    .charges
                    .iter()
                    .map(|c| {
                        Ok(Charge {
                            account: key_of(c)?,
                            amount: c.amount,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
                accounts: accounts.into(),
                keys: row
                    .keys
                    .into_iter()
                    .map(|key| IndexKey {
                        name: Text::new(&key.name),
                        value: Text::new(&key.value),
                    })
                    .collect(),
            },
            decoded: OnceLock::new(),
        })
    }
}

/// What one changeset did to one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The object.
    pub id: ObjectId,
    /// As it was; `None` if it was made.
    pub before: Option<Arc<Object>>,
    /// As it is; `None` if it was deleted.
    pub after: Option<Arc<Object>>,
}

/// 128 bits of BLAKE3 over length-prefixed parts.
pub(crate) fn hash_bytes(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}
