//! Watching a list: what a change is to somebody who sees a part of what there is.

use serde_json::{Value, json};
use virtflow_state::{Change, Object, State};
use virtflow_types::Error;

use super::filter::Filter;
use super::list::ListQuery;
use super::public::public_to;
use crate::cx::Cx;
use crate::door::Door;

/// What a change is to the one who watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// It came into view: it was made, or is now such that the list has it.
    Added(Value),
    /// It was in view and is.
    Changed(Value),
    /// It went out of view: it was deleted, or is not such any more. What is known is which it was.
    Removed(Value),
}

/// A list that is watched, with the asker's rights as they are in one image.
#[derive(Debug)]
pub struct Watch<'a> {
    door: Door<'a>,
    query: &'a ListQuery,
    filter: Filter,
}

impl<'a> Watch<'a> {
    /// Opens it. Fails where [`super::list`] of the same query would.
    pub fn open(state: &'a State, cx: &'a Cx, query: &'a ListQuery) -> Result<Self, Error> {
        let door = Door::open(state, cx)?;
        let filter = Filter::of(&door, query)?;
        Ok(Self {
            door,
            query,
            filter,
        })
    }

    /// What a change is to the one who watches; nothing if it was and is out of view.
    pub fn see(&self, change: &Change) -> Option<Sight> {
        let is_seen = |object: &Object| {
            object.kind == self.query.kind.name()
                && self.filter.matches(object, self.query)
                && self.door.sees(object)
        };
        let before = change.before.as_deref().filter(|object| is_seen(object));
        let after = change.after.as_deref().filter(|object| is_seen(object));
        match (before, after) {
            (None, None) => None,
            (None, Some(after)) => Some(Sight::Added(public_to(&self.door, after))),
            (Some(_), Some(after)) => Some(Sight::Changed(public_to(&self.door, after))),
            (Some(before), None) => Some(Sight::Removed(json!({
                "id": before.id,
                "kind": before.kind,
                "name": before.name,
                "tenant_id": before.tenant,
            }))),
        }
    }
}
