//! Sealing: what must not be read in the store is put into boxes that only whoever holds the cluster's key opens.
//! The key is not here; a decision is given who has it.

use std::fmt::Debug;

use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::cx::Cx;

/// Where a secret belongs: its box opens for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretAt<'a> {
    /// The kind of the object.
    pub kind: &'a str,
    /// The object.
    pub id: ObjectId,
    /// The field.
    pub field: &'a str,
}

/// Whoever holds the cluster's key.
pub trait Seal: Debug + Send + Sync {
    /// A box, as text, that holds `secret`.
    ///
    /// Fails with [`ErrorCode::Internal`] if the machine gives no randomness.
    fn seal(&self, at: SecretAt<'_>, secret: &str) -> Result<String, Error>;
}

impl Cx {
    /// A box that holds `secret`.
    pub(crate) fn sealed(&self, at: SecretAt<'_>, secret: &str) -> Result<String, Error> {
        match &self.seal {
            Some(seal) => seal.seal(at, secret),
            None => Err(Error::new(
                ErrorCode::Internal,
                format!("no key at hand to seal `{}` with", at.field),
            )),
        }
    }
}
