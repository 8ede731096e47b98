//! What was: which object a question about the past means, and whether the asker may know of it.

use virtflow_model::Kind;
use virtflow_state::{Object, State};
use virtflow_types::{Error, ObjectId};

use crate::cx::Cx;
use crate::door::Door;

/// The past with somebody's eyes: their rights are those of now.
#[derive(Debug)]
pub struct Past<'a> {
    door: Door<'a>,
}

/// What a question about the past is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// Something that is there and that the asker sees.
    There(ObjectId),
    /// Something that is not there (any more). What is known of it has to be shown to [`Past::sees`] first.
    Gone(ObjectId),
}

impl<'a> Past<'a> {
    /// Opens it.
    pub fn open(state: &'a State, cx: &'a Cx) -> Result<Self, Error> {
        Ok(Self {
            door: Door::open(state, cx)?,
        })
    }

    /// By name or id what is there, by id alone what is not.
    pub fn meant(&self, kind: Kind, target: &str, tenant: Option<&str>) -> Result<Meant, Error> {
        let tenant = self.door.tenant(tenant)?;
        match target.parse::<ObjectId>() {
            Ok(id) if self.door.state.get(id).is_none() => Ok(Meant::Gone(id)),
            _ => Ok(Meant::There(self.door.find(kind, target, tenant)?.id)),
        }
    }

    /// Whether the asker may know of something that was, as it last was.
    pub fn sees(&self, last: &Object) -> bool {
        self.door.sees(last)
    }
}
