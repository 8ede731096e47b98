//! Role by action, written by hand: what a built-in role may do over its scope.
#![allow(clippy::unwrap_used)]

use virtflow_model::{Kind, Permission};
use virtflow_policy::{BUILT_IN_ROLES, Decision, Grant, PermissionSet, Rights, Target, authorize};
use virtflow_types::ObjectId;

const ACME: ObjectId = ObjectId::from_u128(0xac);
const GLOBEX: ObjectId = ObjectId::from_u128(0x91);
const VM: ObjectId = ObjectId::from_u128(1);
const ALICE: ObjectId = ObjectId::from_u128(2);

fn role(name: &str) -> PermissionSet {
    let role = BUILT_IN_ROLES
        .iter()
        .find(|role| role.name == name)
        .unwrap();
    PermissionSet::of(role.permissions)
}

fn bound(name: &str, scope: Option<ObjectId>) -> Rights {
    Rights {
        subject: Some(ALICE),
        home: None,
        grants: vec![Grant {
            permissions: role(name),
            scope,
        }],
        narrowed: None,
    }
}

fn ask(rights: &Rights, permission: &str, scopes: &[ObjectId]) -> Decision {
    let permission = Permission::parse(permission).unwrap();
    authorize(
        rights,
        permission,
        &Target::new(permission.kind, scopes.to_vec()),
    )
}

/// `+` allowed, `f` forbidden (seen, not allowed), `-` does not exist. Columns: admin, security_admin,
/// operator, tenant_admin, developer, user, viewer, namespace_admin; each bound over the whole system.
const TABLE: &[(&str, &str)] = &[
    ("virtual_machine.create", "+-f++fff"),
    ("virtual_machine.read", "+-++++++"),
    ("virtual_machine.update", "+-f++fff"),
    ("virtual_machine.delete", "+-f++fff"),
    ("virtual_machine.execute", "+-++++ff"),
    ("virtual_machine.manage", "+-f+ffff"),
    ("operation.read", "++++++++"),
    ("operation.manage", "+f+++fff"),
    ("tenant.read", "++++++++"),
    ("tenant.create", "+f+fffff"),
    ("tenant.update", "+f+fffff"),
    ("tenant.manage", "++++ffff"),
    ("tenant.delete", "+fffffff"),
    ("tenant.admin", "+fffffff"),
    ("user.create", "++f+--f-"),
    ("user.update", "++f+--f-"),
    ("user_group.create", "++f+f-f-"),
    ("user_group_member.create", "++f+--f-"),
    ("user_preferences.update", "+-f+--f-"),
    ("maintainer.create", "+-+---f-"),
    ("resource_maintainer.create", "+-+f--f-"),
    ("cloud_box.update", "+-++--f-"),
    ("doc.read", "+-+++++-"),
    ("doc.create", "+-+ffff-"),
    ("help_ticket.delete", "+-++--f-"),
    ("qa_question.update", "+-++fff-"),
    ("qa_answer.delete", "+-++fff-"),
    ("role.read", "+++++-+-"),
    ("role.create", "++fff-f-"),
    ("role_binding.create", "++f+--f-"),
    ("api_token.create", "++f+--f-"),
    ("session.delete", "++f+--f-"),
    ("data_center.create", "+-+ff-f-"),
    ("rack.create", "+-+---f-"),
    ("baremetal_group.update", "+-+ff-f-"),
    ("baremetal.manage", "+-+---f-"),
    ("baremetal.delete", "+-+---f-"),
    ("baremetal_group_tenant_quota.update", "+-+ff-f-"),
    ("virtual_machine_specification.create", "+-+ffff-"),
    ("join_token.create", "+-+---f-"),
    ("template.create", "+-f++ff-"),
    ("instance.create", "+-f++ff-"),
    ("snapshot.delete", "+-f++ff-"),
    ("k8s_cluster.create", "+-f++ff-"),
    ("namespace.update", "+-f++ff+"),
    ("service_mesh.create", "+-+ffff-"),
    ("billing_period.update", "+-+f--f-"),
    ("price.create", "+-+ff-f-"),
    ("alert.update", "+-++f-f-"),
    ("system_config.update", "+-+ffff-"),
    ("tenant_config.update", "+-f+fff-"),
    ("ontology.create", "+-f++-f-"),
    ("controller.create", "+-f---f-"),
    ("controller.manage", "+-+---f-"),
    ("controller.delete", "+-f---f-"),
];

#[test]
fn built_in_roles_hold_what_the_table_says() {
    for (permission, row) in TABLE {
        for (role, expected) in BUILT_IN_ROLES.iter().zip(row.chars()) {
            let found = match ask(
                &bound(role.name, None),
                permission,
                &[ObjectId::from_u128(7)],
            ) {
                Decision::Allowed => '+',
                Decision::Forbidden { missing } => {
                    assert_eq!(missing.to_string(), *permission);
                    'f'
                }
                Decision::Invisible => '-',
            };
            assert_eq!(found, expected, "{} {permission}", role.name);
        }
        assert_eq!(row.len(), BUILT_IN_ROLES.len());
    }
}

#[test]
fn a_grant_over_one_tenant_ends_at_its_border() {
    let rights = bound("developer", Some(ACME));
    assert_eq!(
        ask(&rights, "virtual_machine.delete", &[VM, ACME]),
        Decision::Allowed
    );
    for permission in [
        "virtual_machine.delete",
        "virtual_machine.read",
        "tenant.read",
    ] {
        assert_eq!(ask(&rights, permission, &[VM, GLOBEX]), Decision::Invisible);
        assert_eq!(ask(&rights, permission, &[]), Decision::Invisible);
    }
}

#[test]
fn a_grant_over_one_object_reaches_it_alone() {
    let rights = bound("user", Some(VM));
    assert_eq!(
        ask(&rights, "virtual_machine.execute", &[VM, ACME]),
        Decision::Allowed
    );
    let neighbour = ObjectId::from_u128(9);
    assert_eq!(
        ask(&rights, "virtual_machine.read", &[neighbour, ACME]),
        Decision::Invisible
    );
}

#[test]
fn a_token_only_narrows() {
    let mut rights = bound("developer", Some(ACME));
    rights.narrowed = Some(PermissionSet::of([
        "virtual_machine.read",
        "baremetal.delete",
    ]));
    assert_eq!(
        ask(&rights, "virtual_machine.read", &[VM, ACME]),
        Decision::Allowed
    );
    assert!(matches!(
        ask(&rights, "virtual_machine.delete", &[VM, ACME]),
        Decision::Forbidden { .. }
    ));
    assert_eq!(
        ask(&rights, "baremetal.delete", &[ACME]),
        Decision::Invisible
    );
}

#[test]
fn everybody_has_their_own_credentials_and_nobody_elses() {
    let nothing = Rights {
        subject: Some(ALICE),
        home: Some(ACME),
        grants: Vec::new(),
        narrowed: None,
    };
    let own = |permission: &str, owner: u128| {
        let permission = Permission::parse(permission).unwrap();
        let mut target = Target::new(permission.kind, vec![VM]);
        target.owner = Some(ObjectId::from_u128(owner));
        authorize(&nothing, permission, &target)
    };
    assert_eq!(own("api_token.create", 2), Decision::Allowed);
    assert_eq!(own("session.delete", 2), Decision::Allowed);
    assert_eq!(own("user.read", 2), Decision::Allowed);
    assert!(matches!(own("user.update", 2), Decision::Forbidden { .. }));
    assert_eq!(own("api_token.create", 3), Decision::Invisible);
    assert_eq!(own("session.delete", 3), Decision::Invisible);
    assert_eq!(ask(&nothing, "tenant.read", &[ACME]), Decision::Allowed);
    assert_eq!(ask(&nothing, "tenant.read", &[GLOBEX]), Decision::Invisible);
}

#[test]
fn what_is_shared_may_be_read_and_nothing_more() {
    let rights = bound("developer", Some(ACME));
    let ask = |permission: &str, shared: bool| {
        let permission = Permission::parse(permission).unwrap();
        let mut target = Target::new(permission.kind, vec![VM]);
        target.shared = shared;
        authorize(&rights, permission, &target)
    };
    assert_eq!(
        ask("virtual_machine_specification.read", true),
        Decision::Allowed
    );
    assert_eq!(
        ask("virtual_machine_specification.read", false),
        Decision::Invisible
    );
    let wide = Rights {
        grants: vec![Grant {
            permissions: PermissionSet::of(["virtual_machine_specification.*"]),
            scope: Some(ACME),
        }],
        ..rights.clone()
    };
    let permission = Permission::parse("virtual_machine_specification.update").unwrap();
    let mut target = Target::new(permission.kind, vec![VM]);
    target.shared = true;
    assert!(matches!(
        authorize(&wide, permission, &target),
        Decision::Forbidden { .. }
    ));
}

#[test]
fn nobody_covers_more_than_they_hold() {
    let chain = |scope: ObjectId| {
        if scope == VM {
            vec![VM, ACME]
        } else {
            vec![scope]
        }
    };
    let admin = bound("admin", None);
    let tenant_admin = bound("tenant_admin", Some(ACME));
    let developer = bound("developer", Some(ACME));
    assert!(admin.cover(&tenant_admin, chain));
    assert!(tenant_admin.cover(&developer, chain));
    assert!(tenant_admin.cover(&bound("user", Some(VM)), chain));
    assert!(!tenant_admin.cover(&admin, chain));
    assert!(!tenant_admin.cover(&bound("developer", None), chain));
    assert!(!tenant_admin.cover(&bound("developer", Some(GLOBEX)), chain));
    assert!(!developer.cover(&tenant_admin, chain));
    assert!(!bound("security_admin", None).cover(&admin, chain));
}

#[test]
fn wildcards_name_what_they_say() {
    let all = PermissionSet::all();
    for kind in Kind::ALL {
        for action in virtflow_model::Action::ALL {
            let permission = Permission::new(*kind, *action);
            assert!(all.contains(permission));
            assert_eq!(
                PermissionSet::of(["*.read"]).contains(permission),
                action.name() == "read"
            );
            assert_eq!(
                PermissionSet::of(["rack.*"]).contains(permission),
                *kind == Kind::Rack
            );
        }
    }
    assert_eq!(
        PermissionSet::of(["rack", "moon.read", "rack.fly", ""]),
        PermissionSet::EMPTY
    );
}
