//! What a subject holds over what, and how a question is answered from it.

use virtflow_model::{Action, Kind, Permission};
use virtflow_types::ObjectId;

use crate::set::PermissionSet;

/// Permissions over a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub permissions: PermissionSet,
    /// Over which object and what lies within it; `None` is the whole system.
    pub scope: Option<ObjectId>,
}

/// What a subject may do, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The user; `None` is the system itself, which may do everything.
    pub subject: Option<ObjectId>,
    /// The user's own tenant, whose name it may always know.
    pub home: Option<ObjectId>,
    /// What bindings give.
    pub grants: Vec<Grant>,
    /// What the token it came with is narrowed to.
    pub narrowed: Option<PermissionSet>,
}

/// What something is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// The object itself, if it exists, and everything it lies within: a grant over any of these
    /// reaches it.
    pub scopes: Vec<ObjectId>,
    /// Scopes from which it may be read, but nothing else: a group of hosts seen from a tenant that
    /// has a quota in it.
    pub read_scopes: Vec<ObjectId>,
    /// Readable by whoever may read its kind anywhere: specifications, roles.
    pub shared: bool,
    /// The user whose own it is: a session, a token, the user itself.
    pub owner: Option<ObjectId>,
}

impl Target {
    /// A target of `kind` within these scopes.
    pub fn new(kind: Kind, scopes: Vec<ObjectId>) -> Self {
        Self {
            kind,
            scopes,
            read_scopes: Vec::new(),
            shared: false,
            owner: None,
        }
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allowed,
    /// The subject may know of it but not do this.
    Forbidden {
        /// What it lacks.
        missing: Permission,
    },
    /// For this subject it does not exist.
    Invisible,
}

impl Rights {
    /// The rights of the system's own loops.
    pub fn system() -> Self {
        Self {
            subject: None,
            home: None,
            grants: vec![Grant {
                permissions: PermissionSet::all(),
                scope: None,
            }],
            narrowed: None,
        }
    }

    /// Everything held over something that lies within `scopes`.
    pub fn over(&self, scopes: &[ObjectId]) -> PermissionSet {
        let held = self
            .grants
            .iter()
            .filter(|grant| grant.scope.is_none_or(|scope| scopes.contains(&scope)))
            .fold(PermissionSet::EMPTY, |held, grant| {
                held.union(&grant.permissions)
            });
        self.narrow(held)
    }

    /// Everything held anywhere.
    pub fn anywhere(&self) -> PermissionSet {
        let held = self
            .grants
            .iter()
            .fold(PermissionSet::EMPTY, |held, grant| {
                held.union(&grant.permissions)
            });
        self.narrow(held)
    }

    /// Cuts a set down to what the token leaves.
    pub fn narrow(&self, held: PermissionSet) -> PermissionSet {
        match &self.narrowed {
            Some(narrowed) => held.intersection(narrowed),
            None => held,
        }
    }

    /// True if `other`, whoever holds it, is no more than what this subject holds over the same scopes:
    /// nobody grants, or takes over, more than they have. `chain` gives what a scope lies within.
    pub fn cover(&self, other: &Rights, chain: impl Fn(ObjectId) -> Vec<ObjectId>) -> bool {
        other.grants.iter().all(|grant| {
            let scopes = grant.scope.map_or_else(Vec::new, &chain);
            self.over(&scopes).covers(&other.narrow(grant.permissions))
        })
    }
}

/// May the subject do this to that? The one place where it is decided.
pub fn authorize(rights: &Rights, permission: Permission, target: &Target) -> Decision {
    debug_assert_eq!(permission.kind, target.kind, "one kind is asked about");
    if holds(rights, permission, target) {
        return Decision::Allowed;
    }
    let read = Permission::new(target.kind, Action::Read);
    if permission != read && holds(rights, read, target) {
        return Decision::Forbidden {
            missing: permission,
        };
    }
    Decision::Invisible
}

fn holds(rights: &Rights, permission: Permission, target: &Target) -> bool {
    if rights.over(&target.scopes).contains(permission) {
        return true;
    }
    if permission.action == Action::Read {
        if target.shared && rights.anywhere().contains(permission) {
            return true;
        }
        if !target.read_scopes.is_empty() && rights.over(&target.read_scopes).contains(permission) {
            return true;
        }
        let is_home = |home: ObjectId| target.kind == Kind::Tenant && target.scopes.contains(&home);
        if rights.home.is_some_and(is_home) && unnarrowed(rights, permission) {
            return true;
        }
    }
    let own = rights.subject.is_some() && rights.subject == target.owner;
    own && own_allows(permission) && unnarrowed(rights, permission)
}

fn unnarrowed(rights: &Rights, permission: Permission) -> bool {
    rights
        .narrowed
        .is_none_or(|narrowed| narrowed.contains(permission))
}

/// What everybody may do with their own, whatever their roles.
fn own_allows(permission: Permission) -> bool {
    permission.kind.rules().own.contains(&permission.action)
}
