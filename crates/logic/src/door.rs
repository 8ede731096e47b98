//! The door that every read and write goes through: who asks is checked on the state at hand, and
//! every object that is touched or named is looked at with the asker's eyes.

use std::sync::Arc;

use serde_json::Value;
use virtflow_model::kinds::tenant::TenantState;
use virtflow_model::kinds::{
    BaremetalGroupTenantQuota, Doc, Image, Residue, ResourceMaintainer, Role, RoleBinding,
    Template, Tenant, User, VirtualMachine, image, template,
};
use virtflow_model::{Action, Kind, Owner, PerKind, Permission, Resource, Tie, key, space};
use virtflow_policy::{Decision, Grant, PermissionSet, Rights, Target, authorize};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::cx::{Cx, Principal, Via, check_principal};
use crate::limits::{BINDINGS_PER_GROUP_MAX, BINDINGS_PER_USER_MAX, GROUPS_PER_USER_MAX};
use crate::typed::{decoded, kind_of};

/// Bindings of one user and the user's groups that are looked at: as many as can be made.
const BINDINGS_MAX: usize = BINDINGS_PER_USER_MAX + GROUPS_PER_USER_MAX * BINDINGS_PER_GROUP_MAX;
/// How deep objects lie within one another.
const DEPTH_MAX: usize = 8;

/// A state seen with somebody's rights.
#[derive(Debug)]
pub(crate) struct Door<'a> {
    pub(crate) state: &'a State,
    pub(crate) cx: &'a Cx,
    pub(crate) rights: Rights,
}

impl<'a> Door<'a> {
    /// Checks who asks and gathers what they may do.
    pub(crate) fn open(state: &'a State, cx: &'a Cx) -> Result<Self, Error> {
        check_principal(state, cx.now, &cx.principal)?;
        let rights = match &cx.principal {
            Principal::System => Rights::system(),
            Principal::User { user_id, via } => {
                let mut rights = rights_of(state, *user_id);
                if let Via::Token(id) = via {
                    rights.narrowed = narrowing(state, *id)?;
                }
                rights
            }
        };
        Ok(Self { state, cx, rights })
    }

    /// The one place where a verb is let in. What may not be seen is answered by `unseen`, which must
    /// read the same as for what does not exist.
    pub(crate) fn admit(
        &self,
        permission: Permission,
        target: &Target,
        unseen: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        match authorize(&self.rights, permission, target) {
            Decision::Allowed => Ok(()),
            Decision::Forbidden { missing } => Err(forbidden(missing)),
            Decision::Invisible => Err(unseen()),
        }
    }

    /// True if the object exists for the asker.
    pub(crate) fn sees(&self, object: &Object) -> bool {
        let Some(kind) = kind_of(object) else {
            return false;
        };
        let read = Permission::new(kind, Action::Read);
        authorize(&self.rights, read, &self.target_of(object)) == Decision::Allowed
            && self.is_shown(kind, object)
    }

    /// True if the asker sees an object only because those whose it is show it to everybody: of who made it, of what it
    /// refers to and of what it was before they learn nothing.
    pub(crate) fn is_guest(&self, object: &Object) -> bool {
        let mut target = self.target_of(object);
        // Whether these are shown to everybody changes; of what is there for all anyway nothing is hidden.
        let is_shown_by_choice = matches!(
            target.kind,
            Kind::Doc | Kind::Template | Kind::TemplateVersion
        );
        if !is_shown_by_choice && object.tenant.is_none() {
            return false;
        }
        if !std::mem::take(&mut target.shared) {
            return false;
        }
        let read = Permission::new(target.kind, Action::Read);
        authorize(&self.rights, read, &target) != Decision::Allowed
    }

    /// False for what is shown to groups of users only, of which the asker is in none, unless they may change it.
    fn is_shown(&self, kind: Kind, object: &Object) -> bool {
        let whole = match kind {
            Kind::Template | Kind::Image => Some(object),
            Kind::TemplateVersion | Kind::ImageVersion | Kind::ImageTag => {
                let parent = object.parent.and_then(|id| self.state.get(id));
                parent.map(|parent| &**parent)
            }
            _ => return true,
        };
        let Some(whole) = whole else {
            return true;
        };
        let (kind, groups) = if whole.kind == Kind::Template.name() {
            let found = decoded::<Template>(whole).ok();
            let found =
                found.filter(|it| it.spec.visibility == template::Visibility::GroupSpecific);
            (
                Kind::Template,
                found.map(|it| it.spec.user_group_ids.clone()),
            )
        } else {
            let found = decoded::<Image>(whole).ok();
            let found = found.filter(|it| it.spec.visibility == image::Visibility::GroupSpecific);
            (Kind::Image, found.map(|it| it.spec.user_group_ids.clone()))
        };
        let Some(groups) = groups else {
            return true;
        };
        let update = Permission::new(kind, Action::Update);
        if authorize(&self.rights, update, &self.target_of(whole)) == Decision::Allowed {
            return true;
        }
        let user = self.rights.subject.into_iter();
        user.flat_map(|user| groups_of(self.state, user))
            .any(|group| groups.contains(&group))
    }

    /// An object by id or name, if it exists for the asker; within `tenant` if one is named. One that lies under
    /// another may be named with that: `web/1.0.0`; one of several of a name with what tells them apart: `small/gen2`.
    pub(crate) fn find(
        &self,
        kind: Kind,
        text: &str,
        tenant: Option<ObjectId>,
    ) -> Result<Arc<Object>, Error> {
        let missing = || Error::not_found(kind.name(), text);
        let within = |object: &Object| tenant.is_none() || object.tenant == tenant;
        if let Ok(id) = text.parse::<ObjectId>() {
            return self
                .state
                .get(id)
                .filter(|object| object.kind == kind.name() && within(object) && self.sees(object))
                .cloned()
                .ok_or_else(missing);
        }
        let above = kind.rules().parent();
        let told_apart = kind.rules().told_apart;
        // What lies under something may be named with that: no name has a slash.
        let (parent, name, apart) = match (above, text.split_once('/')) {
            (Some(above), Some((parent, name))) => {
                let parent = self.find(above.kind, parent, tenant);
                (Some(parent.map_err(|_| missing())?.id), name, None)
            }
            (None, Some((name, apart))) if told_apart.is_some() => (None, name, Some(apart)),
            _ => (None, text, None),
        };
        let value = format!("{}/{name}", kind.name());
        let mut found: Option<&Arc<Object>> = None;
        let mut several = false;
        for object in self.state.by_key(key::NAME, &value, None) {
            let is_under = parent.is_none() || object.parent == parent;
            if !within(object) || !is_under || !self.sees(object) {
                continue;
            }
            if let Some(field) = told_apart {
                match (apart, told_by(object, field)) {
                    (Some(apart), is) if apart != is => continue,
                    (None, is) if is.is_empty() => return Ok(object.clone()),
                    _ => {}
                }
            }
            several |= found.is_some();
            found = Some(object);
            // One that nothing tells apart is named by its name alone, however many others have it.
            if several && told_apart.is_none() {
                break;
            }
        }
        if !several {
            return found.cloned().ok_or_else(missing);
        }
        let advice = match (above.filter(|_| parent.is_none()), told_apart) {
            (Some(above), _) => format!(
                "name the {} that it lies under, too, `{}/{name}`, or use the id",
                above.kind.name(),
                above.field.to_uppercase()
            ),
            (None, Some(field)) => format!(
                "name its {field}, too, `{name}/{}`, or use the id",
                field.to_uppercase()
            ),
            (None, None) => "name the tenant too, or use the id".to_owned(),
        };
        Err(Error::new(
            ErrorCode::Conflict,
            format!("`{text}` names more than one {}", kind.name()),
        )
        .advise(advice))
    }

    /// The tenant that a request names, or the asker's own; `None` for the system's users who name none.
    pub(crate) fn tenant(&self, named: Option<&str>) -> Result<Option<ObjectId>, Error> {
        match named {
            Some(text) => Ok(Some(self.find(Kind::Tenant, text, None)?.id)),
            None => Ok(None),
        }
    }

    /// Everything an object lies within, itself first.
    pub(crate) fn scopes(&self, object: &Object) -> Vec<ObjectId> {
        let mut scopes = Vec::with_capacity(4);
        self.add_scopes(object, &mut scopes, DEPTH_MAX);
        scopes
    }

    /// Everything that `id` lies within, itself first, whether it exists or not.
    pub(crate) fn chain(&self, id: ObjectId) -> Vec<ObjectId> {
        match self.state.get(id) {
            Some(object) => self.scopes(object),
            None => vec![id],
        }
    }

    fn add_scopes(&self, object: &Object, scopes: &mut Vec<ObjectId>, depth: usize) {
        if depth == 0 || scopes.contains(&object.id) {
            return;
        }
        scopes.push(object.id);
        let mut within: Vec<ObjectId> = object.parent.into_iter().collect();
        match kind_of(object) {
            Some(Kind::VirtualMachine) => {
                if let Ok(vm) = decoded::<VirtualMachine>(object) {
                    within.extend(vm.status.placement.as_ref().map(|at| at.group_id));
                }
            }
            Some(Kind::Residue) => {
                if let Ok(residue) = decoded::<Residue>(object) {
                    within.push(residue.spec.host_id);
                }
            }
            Some(Kind::RoleBinding) => {
                if let Ok(binding) = decoded::<RoleBinding>(object) {
                    within.extend(binding.spec.scope_id);
                }
            }
            Some(Kind::ResourceMaintainer) => {
                if let Ok(assignment) = decoded::<ResourceMaintainer>(object) {
                    within.push(assignment.spec.resource_id);
                }
            }
            _ => {}
        }
        if let Some(kind) = kind_of(object) {
            within.extend(self.linked_within(kind, object));
        }
        if let Some(tenant) = object.tenant
            && !scopes.contains(&tenant)
        {
            scopes.push(tenant);
        }
        for id in within {
            match self.state.get(id) {
                Some(outer) => self.add_scopes(outer, scopes, depth - 1),
                None => scopes.push(id),
            }
        }
    }

    /// What an object lies within because its spec names it. All of these are linked, so that nothing has to be
    /// read from the spec.
    fn linked_within(&self, kind: Kind, object: &Object) -> Vec<ObjectId> {
        let references = kind.rules().references;
        let lies_within = |linked: &Object| {
            references.iter().any(|reference| {
                reference.tie == Tie::Within && linked.kind == reference.kind.name()
            })
        };
        if references
            .iter()
            .all(|reference| reference.tie != Tie::Within)
        {
            return Vec::new();
        }
        let links = object.footprint.links.iter();
        links
            .filter(|id| {
                self.state
                    .get(**id)
                    .is_some_and(|linked| lies_within(linked))
            })
            .copied()
            .collect()
    }

    /// The user whose own an object is.
    fn owner_of(kind: Kind, object: &Object) -> Option<ObjectId> {
        match kind.rules().owner {
            Owner::Nobody => None,
            Owner::Itself => Some(object.id),
            Owner::Parent => object.parent,
            Owner::Creator => kind.dispatch(Creator(object)),
            Owner::Named(_) if kind == Kind::RoleBinding => decoded::<RoleBinding>(object)
                .ok()
                .and_then(|binding| binding.spec.subject_id),
            Owner::Named(field) => {
                let spec: Value = serde_json::from_str(&object.spec).ok()?;
                spec[field].as_str()?.parse().ok()
            }
        }
    }

    /// What an object is to the rules of access.
    pub(crate) fn target_of(&self, object: &Object) -> Target {
        let kind = kind_of(object).unwrap_or(Kind::IdempotencyKey);
        let mut target = Target::new(kind, self.scopes(object));
        target.shared = kind.rules().shared;
        target.owner = Self::owner_of(kind, object);
        match kind {
            Kind::BaremetalGroupTenantQuota => {
                if let Ok(quota) = decoded::<BaremetalGroupTenantQuota>(object) {
                    target.read_scopes.push(quota.spec.tenant_id);
                }
            }
            Kind::Doc => {
                target.shared = decoded::<Doc>(object).is_ok_and(|doc| doc.spec.published);
            }
            // What the cloud itself asks and answers is there for all tenants.
            Kind::QaQuestion | Kind::QaAnswer => target.shared = object.tenant.is_none(),
            Kind::Ontology => target.shared = object.tenant.is_none(),
            Kind::Template => target.shared = is_public(object),
            Kind::TemplateVersion => {
                let template = object.parent.and_then(|id| self.state.get(id));
                target.shared = template.is_some_and(|template| is_public(template));
            }
            // A group is there for the tenants that have a quota in it. Looked up from the asker's
            // side: a group may have thousands of tenants, an asker has few scopes.
            Kind::BaremetalGroup => {
                let scopes = self.rights.grants.iter().filter_map(|grant| grant.scope);
                for scope in scopes {
                    if quota_of(self.state, object.id, scope).is_some() {
                        target.read_scopes.push(scope);
                    }
                }
            }
            // Public addresses are there for every tenant.
            Kind::IpPool => target.shared = object.tenant.is_none(),
            Kind::Image | Kind::ImageVersion | Kind::ImageTag => {
                target.shared = self.is_public_image(object);
            }
            _ => {}
        }
        target
    }

    /// True for an image that all tenants see, and for what lies within one.
    fn is_public_image(&self, object: &Object) -> bool {
        let image = match object.parent {
            Some(image) => self.state.get(image).map(|image| &**image),
            None => Some(object),
        };
        image
            .and_then(|image| decoded::<Image>(image).ok())
            .is_some_and(|found| found.spec.visibility == image::Visibility::Public)
    }

    /// Refuses what would give more than the asker has: permissions over a scope.
    pub(crate) fn may_give(
        &self,
        permissions: &PermissionSet,
        scope: Option<ObjectId>,
    ) -> Result<(), Error> {
        let scopes = scope.map_or_else(Vec::new, |scope| self.chain(scope));
        match self.rights.over(&scopes).first_beyond(permissions) {
            None => Ok(()),
            Some(missing) => Err(Error::new(
                ErrorCode::Forbidden,
                format!("nobody gives what they do not have: you lack `{missing}` over that scope"),
            )
            .advise("ask somebody who holds the whole role there")),
        }
    }

    /// Refuses to take over or to shut out a user who may do more than the asker.
    pub(crate) fn may_act_as(&self, user: ObjectId) -> Result<(), Error> {
        if self.rights.subject.is_none() || self.rights.subject == Some(user) {
            return Ok(());
        }
        if self
            .rights
            .cover(&rights_of(self.state, user), |scope| self.chain(scope))
        {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::Forbidden,
            "that user may do things that you may not; you cannot change their state or credentials, nor delete them",
        )
        .advise("ask somebody who holds all of that user's roles"))
    }

    /// Suspended and inactive tenants are read only, for their users and for what is theirs.
    pub(crate) fn refuse_if_read_only(&self, tenant: Option<ObjectId>) -> Result<(), Error> {
        let own = self
            .cx
            .user_id()
            .and_then(|user| self.state.get(user))
            .and_then(|user| user.tenant);
        for tenant in [tenant, own].into_iter().flatten() {
            let Some(object) = self.state.get(tenant) else {
                continue;
            };
            let typed = decoded::<Tenant>(object)?;
            let word = match typed.spec.state {
                _ if typed.status.deleting => "being deleted",
                TenantState::Active => continue,
                TenantState::Inactive => "inactive",
                TenantState::Suspended => "suspended",
            };
            return Err(Error::new(
                ErrorCode::Conflict,
                format!(
                    "tenant `{}` is {word}: it can be read, not changed",
                    object.name
                ),
            )
            .advise("ask an operator to make the tenant active"));
        }
        Ok(())
    }
}

/// What an object has in the field that tells it apart from others of its name.
fn told_by(object: &Object, field: &str) -> String {
    let spec: Value = serde_json::from_str(&object.spec).unwrap_or_default();
    spec[field].as_str().unwrap_or_default().to_owned()
}

fn is_public(template: &Object) -> bool {
    decoded::<Template>(template)
        .is_ok_and(|found| found.spec.visibility == template::Visibility::Public)
}

/// The quota of a tenant in a group.
pub(crate) fn quota_of(state: &State, group: ObjectId, tenant: ObjectId) -> Option<&Arc<Object>> {
    state.holder(space::PAIR, format!("quota/{group}/{tenant}").as_bytes())
}

/// The user who made an object.
struct Creator<'o>(&'o Object);

impl PerKind for Creator<'_> {
    type Out = Option<ObjectId>;
    fn run<R: Resource>(self) -> Option<ObjectId> {
        decoded::<R>(self.0).ok()?.stamps.created_by.parse().ok()
    }
}

/// The groups that a user is in, in the order in which they came into them.
pub(crate) fn groups_of(state: &State, user: ObjectId) -> impl Iterator<Item = ObjectId> + '_ {
    state
        .by_key(key::MEMBER_USER, &user.to_string(), None)
        .take(GROUPS_PER_USER_MAX)
        .filter_map(|membership| membership.parent)
}

/// The bindings whose subject is the user or a group that the user is in.
pub(crate) fn bindings_of(state: &State, user: ObjectId) -> impl Iterator<Item = &Arc<Object>> {
    std::iter::once(user)
        .chain(groups_of(state, user))
        .flat_map(|subject| state.by_key(key::BINDING_SUBJECT, &subject.to_string(), None))
        .take(BINDINGS_MAX)
}

/// What the bindings of a user, and of the groups that the user is in, give.
pub(crate) fn rights_of(state: &State, user_id: ObjectId) -> Rights {
    let user = state.get(user_id);
    let mut rights = Rights {
        subject: Some(user_id),
        home: user.and_then(|user| user.tenant),
        grants: Vec::new(),
        narrowed: None,
    };
    if user.is_none_or(|user| decoded::<User>(user).is_err()) {
        return rights;
    }
    for binding in bindings_of(state, user_id) {
        let Ok(binding) = decoded::<RoleBinding>(binding) else {
            continue;
        };
        let role = state
            .get(binding.spec.role_id)
            .and_then(|role| decoded::<Role>(role).ok());
        if let Some(role) = role.filter(|role| role.spec.active) {
            rights.grants.push(Grant {
                permissions: PermissionSet::of(&role.spec.permissions),
                scope: binding.spec.scope_id,
            });
        }
    }
    rights
}

fn narrowing(state: &State, token: ObjectId) -> Result<Option<PermissionSet>, Error> {
    let Some(token) = state.get(token) else {
        return Ok(Some(PermissionSet::EMPTY));
    };
    let token = decoded::<virtflow_model::kinds::ApiToken>(token)?;
    let entries = &token.spec.permissions;
    Ok((!entries.is_empty()).then(|| PermissionSet::of(entries)))
}

pub(crate) fn forbidden(missing: Permission) -> Error {
    Error::new(
        ErrorCode::Forbidden,
        format!("not allowed: this needs the permission `{missing}`"),
    )
    .advise("ask an administrator for a role that has it; `virtflow whoami` shows yours")
    .with_details(format!("{{\"missing\":\"{missing}\"}}"))
}
