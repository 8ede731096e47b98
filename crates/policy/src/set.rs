use std::fmt;

use virtflow_model::{Action, Kind, Permission};

const KINDS: usize = Kind::ALL.len();

/// A set of permissions: one bit an action, one byte a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PermissionSet([u8; KINDS]);

impl PermissionSet {
    /// No permission.
    pub const EMPTY: Self = Self([0; KINDS]);

    /// Every permission there is.
    pub fn all() -> Self {
        let mut set = Self::EMPTY;
        set.insert_text("*.*");
        set
    }

    /// The union of entries such as `virtual_machine.execute`, `rack.*`, `*.read` and `*.*`. What is in
    /// no catalogue gives nothing: a stored role may name a kind that this version does not know.
    pub fn of<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Self {
        let mut set = Self::EMPTY;
        for entry in entries {
            set.insert_text(entry.as_ref());
        }
        set
    }

    fn insert_text(&mut self, entry: &str) {
        let Some((kind, action)) = entry.split_once('.') else {
            return;
        };
        let one_kind = Kind::parse(kind);
        let kinds = Kind::ALL
            .iter()
            .filter(|known| kind == "*" || one_kind == Some(**known));
        for kind in kinds {
            for known in Action::ALL {
                if action == "*" || action == known.name() {
                    self.0[*kind as usize] |= bit(*known);
                }
            }
        }
    }

    /// True if it holds this permission.
    pub fn contains(&self, permission: Permission) -> bool {
        self.0[permission.kind as usize] & bit(permission.action) != 0
    }
    /// True if it holds all that `other` holds.
    pub fn covers(&self, other: &Self) -> bool {
        self.first_beyond(other).is_none()
    }
    /// The first permission of `other` that is not in this set.
    pub fn first_beyond(&self, other: &Self) -> Option<Permission> {
        other.iter().find(|permission| !self.contains(*permission))
    }
    /// All that either holds.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
        self
    }
    /// What both hold.
    #[must_use]
    pub fn intersection(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine &= theirs;
        }
        self
    }
    /// What this one holds and `other` does not.
    #[must_use]
    pub fn difference(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine &= !theirs;
        }
        self
    }
    /// Its permissions in the order of the catalogue.
    pub fn iter(&self) -> impl Iterator<Item = Permission> + '_ {
        Kind::ALL.iter().flat_map(move |kind| {
            Action::ALL
                .iter()
                .map(move |action| Permission::new(*kind, *action))
                .filter(move |permission| self.contains(*permission))
        })
    }
}

fn bit(action: Action) -> u8 {
    1 << action as u8
}

impl fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|p| p.to_string()))
            .finish()
    }
}
