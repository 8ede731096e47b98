//! Upgrades: the cluster version rises when every controller supports more and answers, and no controller falls behind it.

use serde_json::json;
use virtflow_logic::{Group, GroupMember, Request, upgrade_view};
use virtflow_model::Kind;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::world::World;

/// The store of the first controller of every world here, which leads.
const LEADER: u128 = 77;

/// Three controllers that support this much.
fn three(supports: [u32; 3]) -> World {
    let mut world = World::new();
    for (n, supports) in (1..).zip(supports) {
        world
            .announce_supporting(LEADER + u128::from(n) - 1, n, supports)
            .unwrap();
    }
    world
}

fn member(n: u32, answered_ms_ago: Option<u64>) -> GroupMember {
    GroupMember {
        store_id: ObjectId::from_u128(LEADER + u128::from(n) - 1),
        name: format!("c{n}"),
        answered_ms_ago,
    }
}

fn group(members: &[u32]) -> Group {
    Group {
        leader: ObjectId::from_u128(LEADER),
        members: members.iter().map(|n| member(*n, Some(0))).collect(),
    }
}

/// The versions before and after.
fn finish(world: &mut World, group: Group) -> Result<(u64, u64), Error> {
    let reply = world.ask(world.admin, &Request::FinishUpgrade(group))?;
    let told = |field: &str| reply.extra[field].as_u64().unwrap();
    Ok((told("before"), told("cluster_version")))
}

#[test]
fn a_new_cluster_begins_with_what_its_first_controller_supports() {
    for supports in [1, 3] {
        let world = World::begun_with(supports);
        assert_eq!(world.state.cluster_version(), supports);
    }
}

#[test]
fn the_cluster_version_rises_to_what_all_support_once() {
    let mut world = three([3, 2, 2]);
    let audited = world.state.stream("audit").count;
    assert_eq!(finish(&mut world, group(&[1, 2, 3])).unwrap(), (1, 2));
    assert_eq!(world.state.cluster_version(), 2);
    assert_eq!(world.state.stream("audit").count, audited + 1);
    // c1 supports more; the others do not yet.
    let again = finish(&mut world, group(&[1, 2, 3])).unwrap_err();
    assert_eq!(again.code, ErrorCode::Conflict);
    assert_eq!(
        again.message,
        "the cluster version stays 2: c2: it supports cluster version 2, others 3; c3: it supports cluster version 2, \
         others 3"
    );
    world.announce_supporting(LEADER, 1, 2).unwrap();
    assert_eq!(finish(&mut world, group(&[1, 2, 3])).unwrap(), (2, 2));
    assert_eq!(world.state.stream("audit").count, audited + 2, "announced");
}

#[test]
fn who_stands_in_the_way_is_named_with_what_to_do() {
    let refused = |world: &mut World, group: Group| {
        let error = finish(world, group).unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert_eq!(world.state.cluster_version(), 1);
        (error.message, error.advice.unwrap())
    };
    let (message, advice) = refused(&mut three([2, 2, 1]), group(&[1, 2, 3]));
    assert_eq!(
        (message.as_str(), advice.as_str()),
        (
            "the cluster version stays 1: c3: it supports cluster version 1, others 2",
            "c3: install the newer release on its machine and restart it"
        )
    );
    let (_, advice) = refused(&mut three([2, 2, 1]), group(&[1, 2]));
    assert_eq!(
        advice,
        "c3: it is no member any more: `virtflow controller remove c3`"
    );
    let mut with = group(&[1, 2]);
    with.members.push(member(3, Some(41_000)));
    let (message, advice) = refused(&mut three([2, 2, 2]), with);
    assert_eq!(
        (message.as_str(), advice.as_str()),
        (
            "the cluster version stays 1: c3: it last answered the leader 41 s ago",
            "c3: start it, or take it out for good: `virtflow controller remove c3`"
        )
    );
    let mut with = group(&[1, 2]);
    with.members.push(member(3, None));
    let (message, _) = refused(&mut three([2, 2, 2]), with);
    assert_eq!(
        message,
        "the cluster version stays 1: c3: it has not answered the leader yet"
    );
    let (message, _) = refused(&mut three([2, 2, 2]), group(&[1, 2, 3, 4]));
    assert_eq!(
        message,
        "the cluster version stays 1: c4: it has not said yet what it supports"
    );
    // Where nobody supports more, there is nothing to stand in the way of.
    let mut with = group(&[1, 2]);
    with.members.push(member(3, None));
    assert_eq!(finish(&mut three([1, 1, 1]), with).unwrap(), (1, 1));
}

#[test]
fn an_older_release_comes_back_before_the_raise_and_not_after_it() {
    let mut world = three([2, 2, 2]);
    world.announce_supporting(LEADER + 2, 3, 1).unwrap();
    let names_c3 = finish(&mut world, group(&[1, 2, 3])).unwrap_err();
    assert!(names_c3.message.contains("c3: it supports"), "{names_c3}");
    world.announce_supporting(LEADER + 2, 3, 2).unwrap();
    finish(&mut world, group(&[1, 2, 3])).unwrap();
    for (store, n) in [(LEADER + 2, 3), (LEADER + 3, 4)] {
        let refused = world.announce_supporting(store, n, 1).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert!(
            refused.message.starts_with(
                "the cluster is at version 2, this controller supports 1 at most; install a release"
            ),
            "{refused}"
        );
    }
    world.announce_supporting(LEADER + 3, 4, 2).unwrap();
}

#[test]
fn only_who_operates_controllers_ends_an_upgrade_and_only_who_sees_hosts_watches_one() {
    let (mut world, _host) = World::furnished();
    world.announce_supporting(LEADER, 1, 2).unwrap();
    let alice = world.named(Kind::User, "alice").id;
    let request = Request::FinishUpgrade(group(&[1]));
    let refused = world.ask(alice, &request).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.message.contains("controller.manage"), "{refused}");
    assert_eq!(world.state.cluster_version(), 1);
    let view = |world: &World, who| upgrade_view(&world.state, &world.cx(who), &group(&[1]));
    assert_eq!(view(&world, alice).unwrap_err().code, ErrorCode::Forbidden);
    let shown = view(&world, world.admin).unwrap();
    assert_eq!(
        shown,
        json!({
            "cluster_version": 1,
            "raise_to": 2,
            "blocks": [],
            "controllers": [{
                "id": ObjectId::from_u128(LEADER), "name": "c1", "version": "0.2.0", "supports": 2, "seen": true,
            }],
            "agents": {"0.1.0": 1},
        })
    );
}
