//! How many of each somebody may make: as many as is said, and not one more.

use serde_json::json;
use virtflow_logic::{Request, decide};
use virtflow_model::Kind;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::asking::{create, delete};
use crate::world::World;

/// Decides and applies. The world's own way derives every index again after each change, which thousands of them
/// need not wait for.
fn done(world: &mut World, user: ObjectId, request: &Request) -> Result<ObjectId, Error> {
    let (changeset, reply) = decide(&world.state, &world.cx(user), request)?;
    world.state.apply(&changeset).unwrap();
    Ok(reply.object_id.unwrap())
}

#[test]
fn a_tenant_has_a_thousand_user_groups_and_no_more() {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let admin = world.admin;
    let group = |name: &str| create(Kind::UserGroup, name, Some("acme"), json!({}));
    let first = done(&mut world, admin, &group("g0")).unwrap();
    for n in 1..1000 {
        done(&mut world, admin, &group(&format!("g{n}"))).unwrap();
    }
    let refused = done(&mut world, admin, &group("one-more")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LimitExceeded, "{refused}");
    // Another tenant has its own thousand, and one that goes makes room.
    let other = create(Kind::UserGroup, "g0", Some("globex"), json!({}));
    done(&mut world, admin, &other).unwrap();
    done(&mut world, admin, &delete(Kind::UserGroup, first)).unwrap();
    done(&mut world, admin, &group("one-more")).unwrap();
    world.verify();
}

#[test]
fn somebody_asks_five_hundred_questions_and_answers_a_thousand_times_and_no_more() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let carol = world.user("carol", Some("acme"));
    let question = |n: u32| {
        create(
            Kind::QaQuestion,
            "",
            None,
            json!({"title": format!("How? {n}")}),
        )
    };
    let first = done(&mut world, alice, &question(0)).unwrap();
    for n in 1..500 {
        done(&mut world, alice, &question(n)).unwrap();
    }
    let refused = done(&mut world, alice, &question(500)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LimitExceeded, "{refused}");
    done(&mut world, carol, &question(0)).unwrap();
    let answer = |n: u32| {
        let spec = json!({"question_id": first, "body": format!("So. {n}")});
        create(Kind::QaAnswer, "", None, spec)
    };
    for n in 0..1000 {
        done(&mut world, alice, &answer(n)).unwrap();
    }
    let refused = done(&mut world, alice, &answer(1000)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LimitExceeded, "{refused}");
    world.verify();
}
