//! User groups: a tree with quotas, its members, and what they may do together.

use serde_json::json;
use virtflow_logic::{can_i, get, whoami};
use virtflow_model::{Kind, dimension};
use virtflow_state::Refused;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, delete, field_of, patch};
use crate::world::World;

/// `acme` with the groups `lab` and, under it, `team`; `alice` is in neither.
struct Tree {
    world: World,
    alice: ObjectId,
    lab: ObjectId,
    team: ObjectId,
}

impl Tree {
    fn new() -> Self {
        let (mut world, _host) = World::furnished();
        let alice = world.named(Kind::User, "alice").id;
        let mut group = |name, spec| {
            let request = create(Kind::UserGroup, name, Some("acme"), spec);
            world.made(world.admin, &request).unwrap()
        };
        let lab = group("lab", json!({"quota": {"cpu_cores": 4, "vms": 3}}));
        let team = group(
            "team",
            json!({"parent_group": "lab", "quota": {"cpu_cores": 2}}),
        );
        Self {
            world,
            alice,
            lab,
            team,
        }
    }

    fn join(&mut self, group: ObjectId, user: &str) -> ObjectId {
        let member = create(
            Kind::UserGroupMember,
            "",
            None,
            json!({"user_group_id": group, "user": user}),
        );
        self.world.made(self.world.admin, &member).unwrap()
    }

    fn vm(
        &mut self,
        name: &str,
        cpu: u32,
        more: serde_json::Value,
    ) -> Result<ObjectId, virtflow_types::Error> {
        let mut spec = json!({"cpu_cores": cpu, "memory_mib": 128, "storage_gib": 1});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let reply = self.world.vm(self.alice, name, spec)?;
        Ok(reply.object_id.unwrap())
    }

    fn cores(&self, owner: ObjectId) -> u64 {
        self.world.used(owner, dimension::CPU_CORES)
    }

    fn allowed(&self, user: ObjectId, permission: &str) -> bool {
        can_i(
            &self.world.state,
            &self.world.cx(user),
            permission,
            None,
            Some("acme"),
        )
        .unwrap_or(false)
    }
}

#[test]
fn a_tree_has_no_cycles() {
    let mut tree = Tree::new();
    let admin = tree.world.admin;
    for above in [tree.lab, tree.team] {
        let cycle = patch(Kind::UserGroup, tree.lab, json!({"parent_group_id": above}));
        let error = tree.world.ask(admin, &cycle).unwrap_err();
        assert_eq!(field_of(&error), "spec.parent_group_id");
        assert!(error.message.contains("cycle"), "{}", error.message);
    }
    let out = patch(Kind::UserGroup, tree.team, json!({"parent_group": null}));
    tree.world.ask(admin, &out).unwrap();
    let under = |group, above| patch(Kind::UserGroup, group, json!({"parent_group_id": above}));
    let requests = [under(tree.lab, tree.team), under(tree.team, tree.lab)];
    let refused = tree.world.contest(admin, [&requests[0], &requests[1]]);
    assert!(
        matches!(refused, Some(Refused::Malformed(_))),
        "{refused:?}"
    );
}

#[test]
fn a_tree_is_of_bounded_depth_whichever_end_grows() {
    let mut tree = Tree::new();
    let admin = tree.world.admin;
    let mut above = tree.team;
    for level in 3..=8 {
        let deeper = create(
            Kind::UserGroup,
            &format!("level-{level}"),
            Some("acme"),
            json!({"parent_group_id": above}),
        );
        above = tree.world.made(admin, &deeper).unwrap();
    }
    let ninth = create(
        Kind::UserGroup,
        "level-9",
        Some("acme"),
        json!({"parent_group_id": above}),
    );
    let error = tree.world.ask(admin, &ninth).unwrap_err();
    assert_eq!(field_of(&error), "spec.parent_group_id");
    let top = create(Kind::UserGroup, "top", Some("acme"), json!({}));
    let top = tree.world.made(admin, &top).unwrap();
    let push = patch(Kind::UserGroup, tree.lab, json!({"parent_group_id": top}));
    let error = tree.world.ask(admin, &push).unwrap_err();
    assert_eq!(field_of(&error), "spec.parent_group_id");
    let push = patch(Kind::UserGroup, tree.team, json!({"parent_group_id": top}));
    tree.world.ask(admin, &push).unwrap();
}

#[test]
fn a_vm_takes_the_quota_of_its_users_first_group_of_all_above_and_of_the_tenant() {
    let mut tree = Tree::new();
    let acme = tree.world.named(Kind::Tenant, "acme").id;
    let alice = tree.alice;
    let loose = tree.vm("loose", 1, json!({})).unwrap();
    assert_eq!(tree.cores(tree.lab), 0, "in no group yet");
    assert_eq!(tree.cores(acme), 1);
    let (lab, team) = (tree.lab, tree.team);
    tree.join(team, "alice");
    tree.join(lab, "alice");
    let first = tree.vm("first", 2, json!({})).unwrap();
    for owner in [alice, acme] {
        assert_eq!(tree.cores(owner), 3);
    }
    for owner in [lab, team] {
        assert_eq!(tree.cores(owner), 2);
    }
    let error = tree.vm("second", 1, json!({})).unwrap_err();
    assert_eq!(error.code, ErrorCode::QuotaExceeded);
    assert_eq!(
        error.message,
        "the quota of user_group `team` is exceeded in cpu_cores: limit 2, used 2, asked 1"
    );
    tree.vm("second", 2, json!({"user_group": "lab"})).unwrap();
    assert_eq!((tree.cores(lab), tree.cores(team)), (4, 2));

    // The group below has room again, the one above has none.
    tree.world
        .ask(alice, &delete(Kind::VirtualMachine, first))
        .unwrap();
    assert_eq!((tree.cores(lab), tree.cores(team)), (2, 0));
    tree.vm("third", 2, json!({"user_group": "lab"})).unwrap();
    let error = tree.vm("fourth", 1, json!({})).unwrap_err();
    assert!(
        error.message.contains("user_group `lab`"),
        "{}",
        error.message
    );
    tree.world
        .ask(alice, &delete(Kind::VirtualMachine, loose))
        .unwrap();
    assert_eq!(tree.cores(acme), 4);
    let moved = patch(
        Kind::VirtualMachine,
        tree.world.named(Kind::VirtualMachine, "third").id,
        json!({"user_group_id": team}),
    );
    let error = tree.world.ask(alice, &moved).unwrap_err();
    assert_eq!(field_of(&error), "spec.user_group_id");
}

#[test]
fn two_vms_of_one_moment_do_not_share_the_last_core_of_a_group() {
    let mut tree = Tree::new();
    let (team, alice) = (tree.team, tree.alice);
    tree.join(team, "alice");
    let vm = |name| {
        let spec = json!({"cpu_cores": 2, "memory_mib": 128});
        create(Kind::VirtualMachine, name, None, spec)
    };
    let refused = tree.world.contest(alice, [&vm("one"), &vm("two")]);
    assert!(
        matches!(&refused, Some(Refused::OverLimit { account, .. }) if account.owner == team),
        "{refused:?}"
    );
}

#[test]
fn nobody_takes_the_quota_of_a_group_they_have_no_part_in() {
    let mut tree = Tree::new();
    let error = tree.vm("x", 1, json!({"user_group": "team"})).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(error.message.contains("user_group.manage"));
    // Who operates groups takes it for others.
    let spec = json!({"cpu_cores": 1, "memory_mib": 128, "user_group": "team"});
    let request = create(Kind::VirtualMachine, "x", Some("acme"), spec);
    tree.world.made(tree.world.admin, &request).unwrap();
    assert_eq!(tree.cores(tree.team), 1);

    tree.world.tenant("globex", "bob");
    let bob = tree.world.named(Kind::User, "bob").id;
    for group in [tree.team.to_string(), "team".into(), "none".into()] {
        let spec = json!({"cpu_cores": 1, "memory_mib": 128, "user_group": group});
        let error = tree.world.vm(bob, "x", spec).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
    }
    let spec = json!({"user_group_id": tree.team, "user": "bob"});
    let stranger = create(Kind::UserGroupMember, "", None, spec);
    let error = tree.world.ask(tree.world.admin, &stranger).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let spec = json!({"user_group_id": tree.team, "user": "admin"});
    let homeless = create(Kind::UserGroupMember, "", None, spec);
    let error = tree.world.ask(tree.world.admin, &homeless).unwrap_err();
    assert_eq!(field_of(&error), "spec.user_id");
}

#[test]
fn a_user_is_in_a_group_once_and_in_few() {
    let mut tree = Tree::new();
    let (lab, admin) = (tree.lab, tree.world.admin);
    let spec = json!({"user_group_id": lab, "user": "alice"});
    let join = create(Kind::UserGroupMember, "", None, spec);
    let refused = tree.world.contest(admin, [&join, &join]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
    for n in 2..=17 {
        let group = create(Kind::UserGroup, &format!("g-{n}"), Some("acme"), json!({}));
        let group = tree.world.made(admin, &group).unwrap();
        let spec = json!({"user_group_id": group, "user": "alice"});
        let join = create(Kind::UserGroupMember, "", None, spec);
        let joined = tree.world.ask(admin, &join);
        assert_eq!(joined.is_ok(), n <= 16, "group {n}");
        if let Err(error) = joined {
            assert_eq!(error.code, ErrorCode::LimitExceeded);
        }
    }
}

#[test]
fn what_needs_a_group_keeps_it_and_memberships_go_with_either_end() {
    let mut tree = Tree::new();
    let (lab, team, admin) = (tree.lab, tree.team, tree.world.admin);
    let error = tree
        .world
        .ask(admin, &delete(Kind::UserGroup, lab))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    let membership = tree.join(team, "alice");
    let vm = tree.vm("web", 1, json!({})).unwrap();
    let error = tree
        .world
        .ask(admin, &delete(Kind::UserGroup, team))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert!(error.message.contains("web"), "{}", error.message);
    tree.world
        .ask(admin, &delete(Kind::VirtualMachine, vm))
        .unwrap();
    tree.world
        .ask(admin, &delete(Kind::UserGroup, team))
        .unwrap();
    assert!(tree.world.state.get(membership).is_none());

    let membership = tree.join(lab, "alice");
    let alice = tree.alice;
    tree.world.ask(admin, &delete(Kind::User, alice)).unwrap();
    assert!(tree.world.state.get(membership).is_none());
    assert!(tree.world.state.get(lab).is_some());
}

#[test]
fn members_hold_what_their_group_holds_as_long_as_they_are_in_it() {
    let mut tree = Tree::new();
    let carol = tree.world.user("carol", Some("acme"));
    let (team, admin) = (tree.team, tree.world.admin);
    let bind = json!({"subject_group_id": team, "role": "developer", "scope": "tenant/acme"});
    let binding = tree.world.create(Kind::RoleBinding, "", bind);
    assert!(!tree.allowed(carol, "virtual_machine.create"));
    let membership = tree.join(team, "carol");
    assert!(tree.allowed(carol, "virtual_machine.create"));
    let me = whoami(&tree.world.state, &tree.world.cx(carol)).unwrap();
    assert_eq!(me["roles"][0]["role"], "developer");
    assert_eq!(me["roles"][0]["group"], "team");
    tree.world
        .ask(admin, &delete(Kind::UserGroupMember, membership))
        .unwrap();
    assert!(!tree.allowed(carol, "virtual_machine.create"));

    // A group gives nothing to who is only in one below it.
    let bind = json!({"subject_group_id": tree.lab, "role": "developer", "scope": "tenant/acme"});
    tree.world.create(Kind::RoleBinding, "", bind);
    tree.world
        .ask(admin, &delete(Kind::RoleBinding, binding))
        .unwrap();
    tree.join(team, "carol");
    assert!(!tree.allowed(carol, "virtual_machine.create"));
    tree.join(tree.lab, "carol");
    assert!(tree.allowed(carol, "virtual_machine.create"));
}

#[test]
fn a_binding_has_exactly_one_subject() {
    let mut tree = Tree::new();
    let admin = tree.world.admin;
    for (subjects, field) in [
        (json!({}), "spec.subject"),
        (
            json!({"subject": "alice", "subject_group_id": tree.team}),
            "spec.subject_group",
        ),
    ] {
        let mut spec = subjects;
        spec["role"] = json!("viewer");
        spec["scope"] = json!("tenant/acme");
        let request = create(Kind::RoleBinding, "", None, spec);
        let error = tree.world.ask(admin, &request).unwrap_err();
        assert_eq!(field_of(&error), field);
    }
    let spec = json!({"subject_group_id": tree.team, "role": "viewer", "scope": "tenant/acme"});
    let request = create(Kind::RoleBinding, "", None, spec);
    let refused = tree.world.contest(admin, [&request, &request]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_group_holds_so_many_roles() {
    let mut tree = Tree::new();
    let (team, admin) = (tree.team, tree.world.admin);
    for n in 0..=50 {
        let role = format!("role-{n}");
        let permissions = json!({"permissions": ["virtual_machine.read"]});
        tree.world.create(Kind::Role, &role, permissions);
        let spec = json!({"subject_group_id": team, "role": role, "scope": "tenant/acme"});
        let bound = tree
            .world
            .ask(admin, &create(Kind::RoleBinding, "", None, spec));
        assert_eq!(bound.is_ok(), n < 50, "binding {n}");
        if let Err(error) = bound {
            assert_eq!(error.code, ErrorCode::LimitExceeded);
        }
    }
}

#[test]
fn nobody_gives_more_than_they_have_by_taking_somebody_into_a_group() {
    let mut tree = Tree::new();
    let carol = tree.world.user("carol", Some("acme"));
    tree.world.bind("carol", "tenant_admin", "tenant/acme");
    let spec = json!({"subject_group_id": tree.team, "role": "operator"});
    tree.world.create(Kind::RoleBinding, "", spec);
    let join = |group: ObjectId| {
        let spec = json!({"user_group_id": group, "user": "carol"});
        create(Kind::UserGroupMember, "", None, spec)
    };
    let error = tree.world.ask(carol, &join(tree.team)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(error.message.contains("nobody gives"), "{}", error.message);
    tree.world.ask(carol, &join(tree.lab)).unwrap();
}

#[test]
fn a_group_leaves_the_quota_above_it_only_by_who_may_change_groups_there() {
    let mut tree = Tree::new();
    let admin = tree.world.admin;
    let carol = tree.world.user("carol", Some("acme"));
    let role = json!({"permissions": ["user_group.read", "user_group.update"]});
    tree.world.create(Kind::Role, "group-keeper", role);
    let bind = json!({"subject": "carol", "role": "group-keeper", "scope_id": tree.team});
    tree.world.create(Kind::RoleBinding, "", bind);
    let smaller = patch(
        Kind::UserGroup,
        tree.team,
        json!({"quota": {"cpu_cores": 1}}),
    );
    tree.world.ask(carol, &smaller).unwrap();
    let out = patch(Kind::UserGroup, tree.team, json!({"parent_group": null}));
    let error = tree.world.ask(carol, &out).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    tree.world.ask(admin, &out).unwrap();
    // What is charged moves along.
    let team = tree.team;
    tree.join(team, "alice");
    tree.vm("web", 1, json!({})).unwrap();
    assert_eq!(tree.cores(tree.lab), 0);
    let back = patch(Kind::UserGroup, team, json!({"parent_group": "lab"}));
    tree.world.ask(admin, &back).unwrap();
    assert_eq!(tree.cores(tree.lab), 1);
}

#[test]
fn a_tenant_goes_with_its_groups_even_if_they_hold_roles_elsewhere() {
    let mut tree = Tree::new();
    let (team, admin) = (tree.team, tree.world.admin);
    tree.join(team, "alice");
    let bind = json!({"subject_group_id": team, "role": "viewer"});
    let binding = tree.world.create(Kind::RoleBinding, "", bind);
    let acme = tree.world.named(Kind::Tenant, "acme").id;
    tree.world.ask(admin, &delete(Kind::Tenant, acme)).unwrap();
    tree.world.loops();
    for id in [acme, team, tree.lab, binding, tree.alice] {
        assert!(tree.world.state.get(id).is_none());
    }
}

#[test]
fn another_tenants_groups_are_not_seen() {
    let mut tree = Tree::new();
    tree.world.tenant("globex", "bob");
    let bob = tree.world.named(Kind::User, "bob").id;
    let read = |user| {
        let cx = tree.world.cx(user);
        get(
            &tree.world.state,
            &cx,
            Kind::UserGroup,
            &tree.team.to_string(),
            None,
        )
    };
    assert_eq!(read(bob).unwrap_err().code, ErrorCode::NotFound);
    assert!(read(tree.alice).is_ok());
}
