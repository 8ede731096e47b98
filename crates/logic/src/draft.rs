//! A changeset in the making: objects are written through it, so that versions, stamps and
//! footprints are right by construction, and a verb reads back what it has just written.

use std::collections::BTreeMap;
use std::sync::Arc;

use virtflow_model::{PerKind, Resource, Stamps};
use virtflow_state::{Changeset, Expect, Object, Op, Record, State};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Text};

use crate::audit::AUDIT_STREAM;
use crate::cx::Cx;
use crate::typed::{Typed, compose, decoded, kind_of};
use crate::{instances, metering};

/// What a new object is called and where it lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) id: Option<ObjectId>,
    pub(crate) name: Text,
    pub(crate) tenant: Option<ObjectId>,
    pub(crate) parent: Option<ObjectId>,
}

#[derive(Debug)]
enum Slot {
    Put(Arc<Object>),
    /// At this version.
    Delete(u64),
    /// Made and unmade here: nothing of it remains.
    Never,
}

#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) state: &'a State,
    pub(crate) cx: &'a Cx,
    order: Vec<ObjectId>,
    slots: BTreeMap<ObjectId, Slot>,
    records: Vec<Record>,
    cluster_version: Option<u32>,
    alone: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a State, cx: &'a Cx) -> Self {
        Self {
            state,
            cx,
            order: Vec::new(),
            slots: BTreeMap::new(),
            records: Vec::new(),
            cluster_version: None,
            alone: false,
        }
    }

    /// What is recorded counts even if no object changes; the changeset then rests on the stream's count,
    /// so that it, too, is once-only.
    pub(crate) fn record_even_alone(&mut self) {
        self.alone = true;
    }

    /// An object as it will be.
    pub(crate) fn get(&self, id: ObjectId) -> Option<Arc<Object>> {
        match self.slots.get(&id) {
            Some(Slot::Put(object)) => Some(object.clone()),
            Some(Slot::Delete(_) | Slot::Never) => None,
            None => self.state.get(id).cloned(),
        }
    }

    /// Its typed value as it will be.
    pub(crate) fn typed<R: Resource>(&self, id: ObjectId) -> Result<Arc<Typed<R>>, Error> {
        match self.get(id) {
            Some(object) => decoded::<R>(&object),
            None => Err(Error::not_found(R::KIND.name(), &id.to_string())),
        }
    }

    /// The objects that are there and that it changes or removes.
    pub(crate) fn touched(&self) -> Vec<Arc<Object>> {
        let stored = self.order.iter().filter_map(|id| self.state.get(*id));
        stored.cloned().collect()
    }

    /// How many objects it changes.
    pub(crate) fn len(&self) -> usize {
        self.slots
            .values()
            .filter(|slot| !matches!(slot, Slot::Never))
            .count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && self.cluster_version.is_none()
    }

    /// Raises the cluster version.
    pub(crate) fn raise_cluster_version(&mut self, version: u32) {
        self.cluster_version = Some(version);
    }

    /// Makes an object.
    pub(crate) fn create<R: Resource>(
        &mut self,
        place: Place,
        spec: R::Spec,
        mut status: R::Status,
    ) -> Result<Arc<Object>, Error> {
        R::settle(&mut status, self.cx.now);
        let id = place.id.unwrap_or_else(ObjectId::generate);
        let mut object = Object::new(R::KIND.name(), id, place.name);
        object.tenant = place.tenant;
        object.parent = place.parent;
        let actor = self.cx.actor();
        let typed = Typed::<R> {
            spec,
            status,
            stamps: Stamps {
                created_at: self.cx.now,
                created_by: actor.clone(),
                updated_at: self.cx.now,
                updated_by: actor,
            },
        };
        compose(&mut object, &typed)?;
        let object = Arc::new(object);
        self.put(object.clone());
        Ok(object)
    }

    /// Changes an object's spec and status; nothing is written if nothing changed.
    pub(crate) fn update<R: Resource>(
        &mut self,
        id: ObjectId,
        change: impl FnOnce(&mut R::Spec, &mut R::Status),
    ) -> Result<Arc<Object>, Error> {
        self.rewrite::<R>(id, |_, spec, status| change(spec, status))
    }

    /// Changes an object, its tenant and name included.
    pub(crate) fn rewrite<R: Resource>(
        &mut self,
        id: ObjectId,
        change: impl FnOnce(&mut Object, &mut R::Spec, &mut R::Status),
    ) -> Result<Arc<Object>, Error> {
        let current = self
            .get(id)
            .ok_or_else(|| Error::not_found(R::KIND.name(), &id.to_string()))?;
        let old = decoded::<R>(&current)?;
        let mut typed = (*old).clone();
        let mut object = self.next_of(&current);
        change(&mut object, &mut typed.spec, &mut typed.status);
        R::settle(&mut typed.status, self.cx.now);
        let moved = object.tenant != current.tenant || object.name != current.name;
        if typed == *old && !moved {
            return Ok(current);
        }
        if typed.spec != old.spec {
            let stored = self.state.get(id).map_or(0, |stored| stored.generation);
            object.generation = stored + 1;
        }
        typed.stamps.updated_at = self.cx.now;
        typed.stamps.updated_by = self.cx.actor();
        compose(&mut object, &typed)?;
        let object = Arc::new(object);
        self.put(object.clone());
        Ok(object)
    }

    /// Its next version. Written once more within this changeset, it is still the same one.
    fn next_of(&self, current: &Object) -> Object {
        let mut next = current.next();
        if self.slots.contains_key(&current.id) {
            next.version = current.version;
        }
        next
    }

    /// Writes an object again as it is, with the footprint that its kind gives it now.
    pub(crate) fn renew(&mut self, id: ObjectId) -> Result<(), Error> {
        struct Renew(Object);
        impl PerKind for Renew {
            type Out = Result<Object, Error>;
            fn run<R: Resource>(mut self) -> Self::Out {
                let typed = decoded::<R>(&self.0)?;
                compose(&mut self.0, &typed)?;
                Ok(self.0)
            }
        }
        if let Some(current) = self.get(id)
            && let Some(kind) = kind_of(&current)
        {
            let object = kind.dispatch(Renew(self.next_of(&current)))?;
            self.put(Arc::new(object));
        }
        Ok(())
    }

    /// Removes an object.
    pub(crate) fn delete(&mut self, id: ObjectId) {
        let slot = match self.state.get(id) {
            Some(stored) => Slot::Delete(stored.version),
            None => Slot::Never,
        };
        self.set(id, slot);
    }

    /// Appends to a stream.
    pub(crate) fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The changeset; without ops if no object changes, whatever was recorded.
    pub(crate) fn finish(self) -> Changeset {
        self.finish_as(None)
    }

    /// The same under a request id of its own: one request may end in several changesets.
    pub(crate) fn finish_as(mut self, request_id: Option<RequestId>) -> Changeset {
        instances::follow(&mut self);
        metering::bill(&mut self);
        let request_id = request_id.unwrap_or(self.cx.request_id);
        let mut changeset = Changeset::new(request_id, self.cx.now, self.cx.actor());
        if self.is_empty() && !self.alone {
            return changeset;
        }
        if self.is_empty() {
            let count = self.state.stream(AUDIT_STREAM).count;
            let expect = Expect::StreamCount(AUDIT_STREAM.into(), count);
            changeset.ops.push(Op::Expect(expect));
        }
        let mut slots = self.slots;
        for id in self.order {
            match slots.remove(&id) {
                Some(Slot::Put(object)) => {
                    changeset.ops.push(Op::Put(Box::new((*object).clone())));
                }
                Some(Slot::Delete(version)) => changeset.ops.push(Op::Delete(id, version)),
                Some(Slot::Never) | None => {}
            }
        }
        changeset
            .ops
            .extend(self.cluster_version.map(Op::ClusterVersion));
        changeset
            .ops
            .extend(self.records.into_iter().map(Op::Record));
        changeset
    }

    fn put(&mut self, object: Arc<Object>) {
        let id = object.id;
        self.set(id, Slot::Put(object));
    }

    fn set(&mut self, id: ObjectId, slot: Slot) {
        if self.slots.insert(id, slot).is_none() {
            self.order.push(id);
        }
    }
}

/// A rule of ours was broken: what was to be written contradicts itself.
pub(crate) fn internal(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Internal, message)
}
