//! Who may do something, and why somebody may or may not: each binding is put alone before the one judge of rights,
//! so that what is told cannot differ from what is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use virtflow_model::kinds::user::UserState;
use virtflow_model::kinds::{Role, RoleBinding, User, UserGroupMember};
use virtflow_model::{Action, Kind, Permission};
use virtflow_policy::{Decision, Grant, PermissionSet, Rights, Target, authorize};
use virtflow_state::{Object, State};
use virtflow_types::{Error, ErrorCode, ObjectId};

use super::cursor;
use crate::cx::Cx;
use crate::door::{Door, bindings_of, forbidden, quota_of, rights_of};
use crate::limits::{LIST_SCAN_MAX, MEMBERS_TOLD_MAX, ROLES_TOLD_MAX};
use crate::typed::{Typed, decoded};

/// What is asked about: an action on an object, or on what would be made of a kind.
#[derive(Debug, Clone)]
pub struct AccessQuestion {
    /// What is to be done.
    pub permission: Permission,
    /// The object, by id or name; absent: anything of the kind.
    pub object: Option<String>,
    /// Where the object's name is looked for, or what anything of the kind is in.
    pub tenant: Option<String>,
}

/// Everybody who may do something: the bindings that allow it, a page of them, and where the next page begins.
///
/// Fails with `not_found` for an object that the asker does not see and with `forbidden` for who may not read the
/// role bindings over it.
pub fn who_can(
    state: &State,
    cx: &Cx,
    question: &AccessQuestion,
    limit: usize,
    after: Option<&str>,
) -> Result<(Value, Option<String>), Error> {
    let door = Door::open(state, cx)?;
    let asked = Asked::of(&door, question)?;
    asked.admit()?;
    let tie = format!("who-can {:?} {:?}", question.permission, asked.target);
    let after = after.map(|text| cursor::read(text, &tie)).transpose()?;
    let is_first = after.is_none();
    let (mut subjects, mut next, mut last) = (Vec::new(), None, None);
    let mut roles = Roles::new(state);
    let bindings = state.of_kind(Kind::RoleBinding.name(), after);
    for (looked, binding) in bindings.enumerate() {
        if subjects.len() == limit || looked == LIST_SCAN_MAX {
            next = last.map(|last| cursor::write(last, &tie));
            break;
        }
        last = Some(binding.id);
        let typed = decoded::<RoleBinding>(binding)?;
        if asked.allows(&typed, &mut roles) && door.sees(binding) {
            subjects.push(asked.subject(binding.id, &typed));
        }
    }
    let mut data = asked.shown();
    data.insert("subjects".into(), subjects.into());
    data.insert(
        "also".into(),
        if is_first { asked.also() } else { json!([]) },
    );
    // Said of the asker, not of what there is: whoever reads the bindings over the whole system misses none.
    let read = Permission::new(Kind::RoleBinding, Action::Read);
    data.insert(
        "is_whole".into(),
        door.rights.over(&[]).contains(read).into(),
    );
    Ok((data.into(), next))
}

/// Why somebody may do something, or what is missing: the asker, or another user for who may read the role bindings
/// over what is asked about.
///
/// Fails with `not_found` for an object or a user that the asker does not see.
pub fn explain_access(
    state: &State,
    cx: &Cx,
    question: &AccessQuestion,
    user: Option<&str>,
) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let asked = Asked::of(&door, question)?;
    let own = cx.user_id();
    let user = match (user, own) {
        (Some(text), _) => door.find(Kind::User, text, None)?,
        (None, Some(own)) => state
            .get(own)
            .cloned()
            .ok_or_else(|| Error::not_found(Kind::User.name(), &own.to_string()))?,
        (None, None) => return Err(Error::invalid("user", "is missing: whose rights?")),
    };
    let is_own = own == Some(user.id);
    let rights = if is_own {
        door.rights.clone()
    } else {
        asked.admit()?;
        rights_of(state, user.id)
    };
    let theirs = Door { state, cx, rights };
    let target = match &asked.object {
        Some(object) => theirs.target_of(object),
        None => asked.target.clone(),
    };
    let decision = authorize(&theirs.rights, question.permission, &target);
    let mut roles = Roles::new(state);
    let (mut by, mut not_shown) = (Vec::new(), 0_usize);
    for binding in bindings_of(state, user.id) {
        let typed = decoded::<RoleBinding>(binding)?;
        if !asked.allows(&typed, &mut roles) {
            continue;
        }
        if is_own || door.sees(binding) {
            by.push(asked.binding(binding.id, &typed));
        } else {
            not_shown += 1;
        }
    }
    by.extend(own_reasons(&theirs.rights, question.permission, &target));
    let narrowed = theirs.rights.narrowed;
    let is_cut = narrowed.is_some_and(|left| !left.contains(question.permission));
    let mut data = asked.shown();
    data.insert("user".into(), named(state, user.id));
    let word = match decision {
        Decision::Allowed => "allowed",
        Decision::Forbidden { .. } => "forbidden",
        Decision::Invisible => "not_visible",
    };
    data.insert("decision".into(), word.into());
    data.insert("by".into(), by.into());
    data.insert("by_not_shown".into(), not_shown.into());
    data.insert("cut_by_token".into(), is_cut.into());
    data.insert("looked_at".into(), asked.looked_at());
    if decision != Decision::Allowed {
        data.insert(
            "would_do".into(),
            roles.that_hold(&door, question.permission),
        );
    }
    if let Some(why) = why_not_at_all(&user)? {
        data.insert("user_is".into(), why.into());
    }
    Ok(data.into())
}

/// A question with its names looked up through the asker's door.
struct Asked<'d, 'a> {
    door: &'d Door<'a>,
    permission: Permission,
    object: Option<Arc<Object>>,
    target: Target,
}

impl<'d, 'a> Asked<'d, 'a> {
    fn of(door: &'d Door<'a>, question: &AccessQuestion) -> Result<Self, Error> {
        let within = door.tenant(question.tenant.as_deref())?;
        let kind = question.permission.kind;
        let object = match &question.object {
            Some(text) => Some(door.find(kind, text, within)?),
            None => None,
        };
        let target = match &object {
            Some(object) => door.target_of(object),
            None => Target::new(kind, within.into_iter().collect()),
        };
        Ok(Self {
            door,
            permission: question.permission,
            object,
            target,
        })
    }

    /// Whoever asks about others must be allowed to read the role bindings there.
    fn admit(&self) -> Result<(), Error> {
        let read = Permission::new(Kind::RoleBinding, Action::Read);
        let target = Target::new(Kind::RoleBinding, self.target.scopes.clone());
        self.door.admit(read, &target, || forbidden(read))
    }

    /// Whether a binding gives it, alone.
    fn allows(&self, binding: &Typed<RoleBinding>, roles: &mut Roles<'_>) -> bool {
        let Some(permissions) = roles.get(binding.spec.role_id) else {
            return false;
        };
        let scope = binding.spec.scope_id;
        let rights = Rights {
            subject: None,
            home: None,
            grants: vec![Grant { permissions, scope }],
            narrowed: None,
        };
        // A group of hosts is seen from the tenants with a quota in it: that depends on who looks.
        if self.permission.kind == Kind::BaremetalGroup {
            let mut target = self.target.clone();
            let quota = |scope: &ObjectId| {
                let group = self.object.as_ref().map(|object| object.id);
                group.is_some_and(|group| quota_of(self.door.state, group, *scope).is_some())
            };
            target.read_scopes = scope.into_iter().filter(quota).collect();
            return authorize(&rights, self.permission, &target) == Decision::Allowed;
        }
        authorize(&rights, self.permission, &self.target) == Decision::Allowed
    }

    fn shown(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        shown.insert("permission".into(), self.permission.to_string().into());
        let object = self.object.as_ref();
        let object = object.map_or(Value::Null, |object| named(self.door.state, object.id));
        shown.insert("object".into(), object);
        shown
    }

    fn binding(&self, id: ObjectId, binding: &Typed<RoleBinding>) -> Value {
        let state = self.door.state;
        let spec = &binding.spec;
        json!({
            "how": "binding",
            "binding_id": id,
            "role": named(state, spec.role_id),
            "scope": spec.scope_id.map_or_else(|| json!({"kind": "system"}), |scope| named(state, scope)),
            "group": spec.subject_group_id.map(|group| named(state, group)),
        })
    }

    /// A binding with whose it is; of a group, its members as far as they may be seen.
    fn subject(&self, id: ObjectId, binding: &Typed<RoleBinding>) -> Value {
        let state = self.door.state;
        let mut shown = self.binding(id, binding);
        let user = binding.spec.subject_id;
        shown["user"] = user.map_or(Value::Null, |user| named(state, user));
        if let Some(why) = user.and_then(|user| why_not_at_all(state.get(user)?).ok()?) {
            shown["user_is"] = why.into();
        }
        if let Some(group) = binding.spec.subject_group_id {
            let linking = state.linking_to(group).take(LIST_SCAN_MAX);
            let members: Vec<Value> = linking
                .filter_map(|id| state.get(id))
                .filter(|member| {
                    member.kind == Kind::UserGroupMember.name() && member.parent == Some(group)
                })
                .filter(|member| self.door.sees(member))
                .filter_map(|member| {
                    let member = decoded::<UserGroupMember>(member).ok()?;
                    Some(named(state, member.spec.user_id))
                })
                .take(MEMBERS_TOLD_MAX + 1)
                .collect();
            shown["has_more_members"] = (members.len() > MEMBERS_TOLD_MAX).into();
            shown["members"] = members.into_iter().take(MEMBERS_TOLD_MAX).collect();
        }
        shown
    }

    /// What allows it without any binding.
    fn also(&self) -> Value {
        let mut also = Vec::new();
        let rules = self.permission.kind.rules();
        if let Some(owner) = self
            .target
            .owner
            .filter(|_| rules.own.contains(&self.permission.action))
        {
            also.push(json!({"how": "own", "user": named(self.door.state, owner)}));
        }
        if self.permission == Permission::new(Kind::Tenant, Action::Read) && self.object.is_some() {
            also.push(json!({"how": "home"}));
        }
        also.into()
    }

    /// Over what a role would have to be bound, as far as the asker sees it: the object, what it lies within, and
    /// the system.
    fn looked_at(&self) -> Value {
        let state = self.door.state;
        let scopes = self.target.scopes.iter();
        scopes
            .filter(|id| state.get(**id).is_some_and(|object| self.door.sees(object)))
            .map(|id| named(state, *id))
            .chain([json!({"kind": "system"})])
            .collect()
    }
}

/// Why somebody may do something to their own, or to their own tenant, whatever their roles.
fn own_reasons(rights: &Rights, permission: Permission, target: &Target) -> Vec<Value> {
    let mut reasons = Vec::new();
    let bare = Rights {
        grants: Vec::new(),
        ..rights.clone()
    };
    if authorize(&bare, permission, target) == Decision::Allowed {
        let is_own = bare.subject.is_some() && bare.subject == target.owner;
        reasons.push(json!({"how": if is_own { "own" } else { "home" }}));
    }
    reasons
}

/// In what way a user can do nothing at present.
fn why_not_at_all(user: &Object) -> Result<Option<&'static str>, Error> {
    let typed = decoded::<User>(user)?;
    Ok(match typed.spec.state {
        _ if typed.status.deleting => Some("being deleted"),
        UserState::Active => None,
        UserState::Inactive => Some("inactive"),
        UserState::Suspended => Some("suspended"),
        UserState::Pending => Some("waiting for a first password"),
    })
}

/// `{"kind": "tenant", "id": "…", "name": "acme"}`
pub(super) fn named(state: &State, id: ObjectId) -> Value {
    match state.get(id) {
        Some(object) => {
            json!({"kind": object.kind.as_str(), "id": id, "name": object.name.as_str()})
        }
        None => json!({"kind": null, "id": id, "name": ""}),
    }
}

/// What active roles hold, each read once.
struct Roles<'a> {
    state: &'a State,
    known: BTreeMap<ObjectId, Option<PermissionSet>>,
}

impl<'a> Roles<'a> {
    fn new(state: &'a State) -> Self {
        Self {
            state,
            known: BTreeMap::new(),
        }
    }

    fn get(&mut self, role: ObjectId) -> Option<PermissionSet> {
        let state = self.state;
        *self.known.entry(role).or_insert_with(|| {
            let role = decoded::<Role>(state.get(role)?).ok()?;
            role.spec
                .active
                .then(|| PermissionSet::of(&role.spec.permissions))
        })
    }

    /// The narrowest roles that hold a permission, of those that the asker sees and the built-in ones.
    fn that_hold(&mut self, door: &Door<'_>, permission: Permission) -> Value {
        let roles = door.state.of_kind(Kind::Role.name(), None);
        let mut holding: Vec<(usize, Value)> = roles
            .take(LIST_SCAN_MAX)
            .filter(|role| {
                let built_in = decoded::<Role>(role).is_ok_and(|role| role.spec.built_in);
                built_in || door.sees(role)
            })
            .filter_map(|role| {
                let permissions = self.get(role.id)?;
                let holds = permissions.contains(permission);
                holds.then(|| (permissions.iter().count(), named(door.state, role.id)))
            })
            .collect();
        holding.sort_by_key(|(size, _)| *size);
        let nearest = holding.into_iter().take(ROLES_TOLD_MAX);
        nearest.map(|(_, role)| role).collect()
    }
}

/// A permission from its two words.
pub fn permission_of(kind: &str, action: &str) -> Result<Permission, Error> {
    let known = Kind::parse(kind)
        .ok_or_else(|| Error::invalid("kind", "is no kind of object; `GET /api/v1` lists them"))?;
    let action = Action::ALL.iter().find(|known| known.name() == action);
    let action = action.ok_or_else(|| {
        let words: Vec<&str> = Action::ALL.iter().map(|known| known.name()).collect();
        Error::new(ErrorCode::Invalid, "`action` is no action")
            .advise(format!("one of {}", words.join(", ")))
    })?;
    Ok(Permission::new(known, *action))
}
