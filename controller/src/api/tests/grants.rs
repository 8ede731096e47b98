//! Nobody gives what they do not have: who gives which role over what, to a user and to a group, as a table written by
//! hand.

use serde_json::json;

use super::world::{LEVELS, ROLES, World};

/// Scopes, in the order of the columns.
const OVER: [&str; 7] = [
    "system",
    "tenant/acme",
    "tenant/rival",
    "baremetal_group/hosts",
    "k8s_cluster/k8s",
    "namespace/shop-ns",
    "virtual_machine/web",
];

/// Role and level of who gives, and for each scope what is answered for each role that is given, in the order of
/// [`ROLES`]: `+` given, `f` forbidden, `-` what is named does not exist for who gives.
#[rustfmt::skip]
const TABLE: &[(&str, &str, [&str; 7])] = &[
    ("admin",          "system",    ["++++++++", "++++++++", "++++++++", "++++++++", "++++++++", "++++++++", "++++++++"]),
    ("admin",          "tenant",    ["ffffffff", "++++++++", "--------", "ffffffff", "++++++++", "++++++++", "++++++++"]),
    // Who is bound over one of these sees no user to give anything to.
    ("admin",          "group",     ["--------", "--------", "--------", "--------", "--------", "--------", "--------"]),
    ("admin",          "cluster",   ["--------", "--------", "--------", "--------", "--------", "--------", "--------"]),
    ("admin",          "namespace", ["--------", "--------", "--------", "--------", "--------", "--------", "--------"]),
    ("security_admin", "system",    ["f+ffffff", "f+ffffff", "f+ffffff", "--------", "--------", "--------", "--------"]),
    ("security_admin", "tenant",    ["ffffffff", "f+ffffff", "--------", "--------", "--------", "--------", "--------"]),
    ("operator",       "system",    ["ffffffff", "ffffffff", "ffffffff", "ffffffff", "ffffffff", "ffffffff", "ffffffff"]),
    ("tenant_admin",   "system",    ["fff+++f+", "fff+++f+", "fff+++f+", "fff+++f+", "fff+++f+", "fff+++f+", "fff+++f+"]),
    ("tenant_admin",   "tenant",    ["ffffffff", "fff+++f+", "--------", "ffffffff", "fff+++f+", "fff+++f+", "fff+++f+"]),
    ("viewer",         "tenant",    ["ffffffff", "ffffffff", "--------", "ffffffff", "ffffffff", "ffffffff", "ffffffff"]),
    ("user",           "tenant",    ["--------", "--------", "--------", "--------", "--------", "--------", "--------"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gives_a_role_that_they_do_not_hold_there_to_a_user_or_a_group() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for (role, level, cells) in TABLE {
        let role_at = ROLES.iter().position(|known| known == role).unwrap();
        let level_at = LEVELS.iter().position(|known| known == level).unwrap();
        let token = world.tokens()[role_at * LEVELS.len() + level_at]
            .unwrap()
            .to_owned();
        for (scope, cell) in OVER.iter().zip(cells) {
            for (given, expected) in ROLES.iter().zip(cell.chars()) {
                // Carol has `user` over the tenant already.
                for subject in [json!({"subject": "alice"}), json!({"subject_group": "lab"})] {
                    let mut spec = subject.clone();
                    spec["role"] = (*given).into();
                    spec["scope"] = (*scope).into();
                    let ask = world
                        .rig
                        .ask("POST", "/role_bindings?dry_run=true")
                        .token(&token);
                    let reply = ask.json(&json!({"spec": spec})).send().await;
                    let found = match reply.status {
                        // There it is already, and who gives it was let in.
                        200 | 409 => '+',
                        403 => 'f',
                        404 => '-',
                        _ => '?',
                    };
                    if found != expected {
                        wrong.push(format!(
                            "{role} over {level} gives {given} over {scope} to {subject}: `{expected}` wanted, {}",
                            reply.text
                        ));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
