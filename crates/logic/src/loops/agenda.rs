//! What a loop has to look at, kept from change to change, so that a pass costs what there is to do and
//! not what there is.

use std::collections::BTreeSet;

use virtflow_state::{Change, Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use crate::limits::Limits;

/// A loop whose work hangs on objects that changed.
#[derive(Debug, Clone, Copy)]
pub struct Watching {
    /// Its name.
    pub name: &'static str,
    /// Every object that it might have to do with: what a leader begins with.
    pub(super) scan: fn(&State) -> Vec<ObjectId>,
    /// The objects that a change may have given it something to do with; the image is the one after.
    pub(super) touched: fn(&State, &Change) -> Vec<ObjectId>,
    /// Whether there is something to do with an object.
    pub(super) due: fn(&State, ObjectId) -> bool,
    /// Does it, for objects with which there is.
    pub(super) work: fn(&State, Timestamp, &Limits, &[ObjectId]) -> Vec<Changeset>,
}

impl Watching {
    /// A pass that looks at everything.
    pub(super) fn pass(&self, state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
        (self.work)(state, now, limits, &self.all_due(state))
    }

    fn all_due(&self, state: &State) -> Vec<ObjectId> {
        let mut found = (self.scan)(state);
        found.retain(|id| (self.due)(state, *id));
        found
    }
}

/// What one loop has to look at.
#[derive(Debug)]
pub struct Agenda {
    watching: Watching,
    objects: BTreeSet<ObjectId>,
}

impl Agenda {
    /// Everything that there is to do in an image.
    #[must_use]
    pub fn new(watching: Watching, state: &State) -> Self {
        Self {
            watching,
            objects: watching.all_due(state).into_iter().collect(),
        }
    }

    /// The loop's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.watching.name
    }

    /// Begins anew, for it may have missed changes.
    pub fn resync(&mut self, state: &State) {
        *self = Self::new(self.watching, state);
    }

    /// Follows what was applied; `state` is the image after it.
    pub fn absorb(&mut self, state: &State, changes: &[Change]) {
        for change in changes {
            self.objects.extend((self.watching.touched)(state, change));
        }
    }

    /// Decides what is to be done, in the image up to which changes were absorbed. What is due stays on
    /// the agenda until an image shows that it is done: a proposal may fail.
    pub fn pass(&mut self, state: &State, now: Timestamp, limits: &Limits) -> Vec<Changeset> {
        self.objects.retain(|id| (self.watching.due)(state, *id));
        let due: Vec<ObjectId> = self.objects.iter().copied().collect();
        (self.watching.work)(state, now, limits, &due)
    }

    /// True if nothing is to be looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects with which there is something to do, as far as was absorbed.
    #[must_use]
    pub fn due(&self, state: &State) -> Vec<ObjectId> {
        let due = self.objects.iter().copied();
        due.filter(|id| (self.watching.due)(state, *id)).collect()
    }
}
