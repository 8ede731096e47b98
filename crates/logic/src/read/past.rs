//! What was: which object a question about the past means, and whether the asker may know of it.

use std::sync::Arc;

use virtflow_model::{Kind, key};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::cursor;
use super::filter::Filter;
use super::list::{ListQuery, one_tenant, question};
use crate::cx::Cx;
use crate::door::Door;
use crate::typed::with_footprint;

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
        if let Ok(id) = target.parse::<ObjectId>()
            && self.door.state.get(id).is_none()
        {
            return Ok(Meant::Gone(id));
        }
        let found = self.door.find(kind, target, tenant)?;
        if self.door.is_guest(&found) {
            return Err(Error::new(
                ErrorCode::Forbidden,
                "what is shown to everybody is told as it is now",
            )
            .advise("ask without its past"));
        }
        Ok(Meant::There(found.id))
    }

    /// Whether the asker may know of something that was, as it last was.
    pub fn sees(&self, last: &Object) -> bool {
        self.door.sees(last) && !self.door.is_guest(last)
    }
}

/// A list of what was: which objects may have been there, and which of those, as they were, are asked for.
#[derive(Debug)]
pub struct PastList<'a> {
    door: Door<'a>,
    query: &'a ListQuery,
    filter: Filter,
}

impl<'a> PastList<'a> {
    /// Opens it. What the query names is looked up as it is called now.
    pub fn open(state: &'a State, cx: &'a Cx, query: &'a ListQuery) -> Result<Self, Error> {
        let door = Door::open(state, cx)?;
        let filter = Filter::of(&door, query)?;
        Ok(Self {
            door,
            query,
            filter,
        })
    }

    /// Objects of the kind that are there now, at most so many behind `after`, and the last of them if there are
    /// more. Only what does not change narrows them: tenants.
    pub fn there(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> (Vec<Arc<Object>>, Option<ObjectId>) {
        let (state, kind) = (self.door.state, self.query.kind);
        let mut found: Vec<Arc<Object>> = match one_tenant(&self.door, &self.filter, kind) {
            Some(tenant) => {
                let value = format!("{}/{tenant}", kind.name());
                let all = state.by_key(key::TENANT, &value, after);
                all.take(limit + 1).cloned().collect()
            }
            None => {
                let all = state.of_kind(kind.name(), after);
                all.take(limit + 1).cloned().collect()
            }
        };
        let has_more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().map(|object| object.id);
        (found, last.filter(|_| has_more))
    }

    /// Whether the asker may know of an object: as it is now, or as it last was.
    pub fn sees(&self, object: &Object) -> bool {
        self.door.sees(object) && !self.door.is_guest(object)
    }

    /// Whether an object, as it was, is what the query asks for.
    pub fn matches(&self, then: Object) -> bool {
        self.filter.matches(&with_footprint(then), self.query)
    }

    /// Where a page of the list at a moment goes on.
    pub fn cursor(&self, last: ObjectId, at: &str) -> String {
        cursor::write(last, &self.question(at))
    }

    /// The object after which the query's cursor goes on.
    pub fn after(&self, at: &str) -> Result<Option<ObjectId>, Error> {
        let text = self.query.cursor.as_deref();
        text.map(|text| cursor::read(text, &self.question(at)))
            .transpose()
    }

    fn question(&self, at: &str) -> String {
        format!("{} at {at}", question(self.query, &self.filter))
    }
}
