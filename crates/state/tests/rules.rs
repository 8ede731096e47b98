//! Each rule of `apply`, one story a rule: what was there, what is tried, what comes of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use virtflow_state::{
    AccountDef, AccountKey, Applied, Changeset, Charge, Claim, Expect, Footprint, IndexKey, Limit,
    Object, Op, Record, Refused, State, Supply, verify,
};
use virtflow_types::{Incarnation, ObjectId, RequestId, Timestamp};

fn id(n: u128) -> ObjectId {
    ObjectId::from_u128(n)
}

fn object(n: u128, footprint: Footprint) -> Object {
    let mut object = Object::new("thing", id(n), format!("thing-{n}"));
    object.footprint = footprint;
    object
}

fn changeset(ops: Vec<Op>) -> Changeset {
    let mut changeset = Changeset::new(RequestId::from_u128(7), Timestamp::from_ms(1), "tester");
    changeset.ops = ops;
    changeset
}

fn put(object: Object) -> Op {
    Op::Put(Box::new(object))
}

/// Applies and checks what must hold after anything: a refusal changes nothing, and every index
/// follows from the rows.
fn apply(state: &mut State, ops: Vec<Op>) -> Result<Applied, Refused> {
    let before = state.clone();
    let result = state.apply(&changeset(ops));
    if result.is_err() {
        assert_eq!(before.digest(), state.digest());
        assert_eq!(before.object_count(), state.object_count());
    }
    assert_eq!(verify(state), Vec::new());
    result
}

fn account(dimension: &str, limit: Limit, parent: Option<AccountKey>) -> AccountDef {
    AccountDef {
        dimension: dimension.into(),
        parent,
        limit,
    }
}

fn accounts(defs: Vec<AccountDef>) -> Footprint {
    Footprint {
        accounts: defs.into(),
        ..Footprint::default()
    }
}

fn charges(of: &[(u128, u64)]) -> Footprint {
    Footprint {
        charges: of
            .iter()
            .map(|(owner, amount)| Charge {
                account: AccountKey::new(id(*owner), "mib"),
                amount: *amount,
            })
            .collect(),
        ..Footprint::default()
    }
}

fn used(state: &State, owner: u128) -> u64 {
    state
        .account(&AccountKey::new(id(owner), "mib"))
        .unwrap()
        .used
}

fn over(owner: u128, limit: u64, used: u64, asked: u64) -> Refused {
    Refused::OverLimit {
        account: AccountKey::new(id(owner), "mib"),
        limit,
        used,
        asked,
    }
}

#[test]
fn a_put_replaces_exactly_the_version_it_names() {
    let mut state = State::empty();
    let first = object(1, Footprint::default());
    apply(&mut state, vec![put(first.clone())]).unwrap();
    let again = apply(&mut state, vec![put(first.clone())]);
    assert_eq!(
        again,
        Err(Refused::Version {
            object: id(1),
            expected: 0,
            found: 1
        })
    );
    let second = first.next();
    apply(&mut state, vec![put(second.clone())]).unwrap();
    assert!(apply(&mut state, vec![put(second)]).is_err());
    assert!(apply(&mut state, vec![Op::Delete(id(1), 1)]).is_err());
    apply(&mut state, vec![Op::Delete(id(1), 2)]).unwrap();
    assert!(apply(&mut state, vec![Op::Delete(id(1), 2)]).is_err());
    assert_eq!(state.digest(), State::empty().digest());
}

#[test]
fn all_of_a_changeset_happens_or_none() {
    let mut state = State::empty();
    let result = apply(
        &mut state,
        vec![
            put(object(1, Footprint::default())),
            put(object(
                2,
                Footprint {
                    links: [id(99)].into(),
                    ..Footprint::default()
                },
            )),
        ],
    );
    assert_eq!(
        result,
        Err(Refused::LinkMissing {
            object: id(2),
            target: id(99)
        })
    );
    assert!(state.get(id(1)).is_none());
}

#[test]
fn what_could_act_twice_is_refused() {
    let mut state = State::empty();
    let record = |body: &'static str| {
        Op::Record(Record {
            stream: "audit".into(),
            body: body.into(),
        })
    };
    let bare = apply(&mut state, vec![record("logged in")]);
    assert_eq!(bare, Err(Refused::Unconditional));
    let counted = |n| {
        vec![
            Op::Expect(Expect::StreamCount("audit".into(), n)),
            record("x"),
        ]
    };
    apply(&mut state, counted(0)).unwrap();
    assert!(matches!(
        apply(&mut state, counted(0)),
        Err(Refused::Expectation { .. })
    ));
    apply(&mut state, counted(1)).unwrap();
    assert_eq!(state.stream("audit").count, 2);
    // An expectation of another stream does not make this record conditional.
    let other = vec![
        Op::Expect(Expect::StreamCount("usage".into(), 0)),
        record("y"),
    ];
    assert_eq!(apply(&mut state, other), Err(Refused::Unconditional));
}

#[test]
fn claims_never_overlap_but_may_pass_from_one_to_another() {
    let range = |lo: &str, hi: &str| Footprint {
        claims: [Claim::range("address", lo, hi)].into(),
        ..Footprint::default()
    };
    let mut state = State::empty();
    apply(&mut state, vec![put(object(1, range("b", "d")))]).unwrap();
    for (lo, hi) in [("a", "b"), ("d", "e"), ("c", "c"), ("a", "z"), ("b", "d")] {
        let taken = apply(&mut state, vec![put(object(2, range(lo, hi)))]);
        assert!(
            matches!(taken, Err(Refused::Claimed { holder, .. }) if holder == id(1)),
            "{lo}-{hi}: {taken:?}"
        );
    }
    apply(&mut state, vec![put(object(2, range("e", "f")))]).unwrap();
    apply(&mut state, vec![put(object(3, range("a", "a")))]).unwrap();
    // The same interval in another space is another thing.
    let elsewhere = Footprint {
        claims: [Claim::range("serial", "b", "d")].into(),
        ..Footprint::default()
    };
    apply(&mut state, vec![put(object(4, elsewhere))]).unwrap();

    // Shrinking and taking over in one changeset.
    let mut shrunk = state.get(id(1)).unwrap().next();
    shrunk.footprint = range("b", "b");
    apply(
        &mut state,
        vec![put(shrunk), put(object(5, range("c", "d")))],
    )
    .unwrap();
    assert_eq!(state.holder("address", b"d").unwrap().id, id(5));
    // From what is deleted to what is put.
    apply(
        &mut state,
        vec![Op::Delete(id(5), 1), put(object(6, range("c", "d")))],
    )
    .unwrap();
    // Two in one changeset.
    let both = apply(
        &mut state,
        vec![
            put(object(7, range("x", "y"))),
            put(object(8, range("y", "z"))),
        ],
    );
    assert!(matches!(both, Err(Refused::Claimed { .. })));
    // An unchanged neighbour in the same changeset still holds what it held.
    let neighbour = state.get(id(2)).unwrap().next();
    let clash = apply(
        &mut state,
        vec![put(neighbour), put(object(9, range("f", "g")))],
    );
    assert!(matches!(clash, Err(Refused::Claimed { holder, .. }) if holder == id(2)));
}

#[test]
fn links_block_deleting_and_closed_objects_take_no_new_ones() {
    let to = |target: u128| Footprint {
        links: [id(target)].into(),
        ..Footprint::default()
    };
    let mut state = State::empty();
    apply(&mut state, vec![put(object(1, Footprint::default()))]).unwrap();
    apply(&mut state, vec![put(object(2, to(1)))]).unwrap();
    assert_eq!(
        apply(&mut state, vec![Op::Delete(id(1), 1)]),
        Err(Refused::StillLinked {
            object: id(1),
            by: id(2)
        })
    );
    let mut closed = state.get(id(1)).unwrap().next();
    closed.closed = true;
    apply(&mut state, vec![put(closed)]).unwrap();
    assert_eq!(
        apply(&mut state, vec![put(object(3, to(1)))]),
        Err(Refused::LinkClosed {
            object: id(3),
            target: id(1)
        })
    );
    // The old link stays and may be carried along by any change.
    let kept = state.get(id(2)).unwrap().next();
    apply(&mut state, vec![put(kept)]).unwrap();
    // Deleting a target while the source keeps its link, in one changeset, is refused too.
    let kept = state.get(id(2)).unwrap().next();
    let both = apply(&mut state, vec![put(kept), Op::Delete(id(1), 2)]);
    assert_eq!(
        both,
        Err(Refused::StillLinked {
            object: id(1),
            by: id(2)
        })
    );
    apply(&mut state, vec![Op::Delete(id(2), 2), Op::Delete(id(1), 2)]).unwrap();
    assert_eq!(state.object_count(), 0);
}

#[test]
fn no_account_is_raised_past_its_limit_at_any_level() {
    let mut state = State::empty();
    let tenant = AccountKey::new(id(1), "mib");
    apply(
        &mut state,
        vec![
            put(object(
                1,
                accounts(vec![account("mib", Limit::Fixed(100), None)]),
            )),
            put(object(
                2,
                accounts(vec![account("mib", Limit::Unlimited, Some(tenant.clone()))]),
            )),
            put(object(
                3,
                accounts(vec![account("mib", Limit::Fixed(60), Some(tenant))]),
            )),
        ],
    )
    .unwrap();
    apply(&mut state, vec![put(object(10, charges(&[(3, 60)])))]).unwrap();
    assert_eq!((used(&state, 3), used(&state, 1)), (60, 60));
    assert_eq!(
        apply(&mut state, vec![put(object(11, charges(&[(3, 1)])))]),
        Err(over(3, 60, 60, 1))
    );
    assert_eq!(
        apply(&mut state, vec![put(object(11, charges(&[(2, 41)])))]),
        Err(over(1, 100, 60, 41))
    );
    apply(&mut state, vec![put(object(11, charges(&[(2, 40)])))]).unwrap();
    // A cut below what is used stays, may shrink, and cannot grow.
    let mut cut = state.get(id(1)).unwrap().next();
    cut.footprint = accounts(vec![account("mib", Limit::Fixed(50), None)]);
    apply(&mut state, vec![put(cut)]).unwrap();
    let mut smaller = state.get(id(11)).unwrap().next();
    smaller.footprint = charges(&[(2, 39)]);
    apply(&mut state, vec![put(smaller)]).unwrap();
    let mut larger = state.get(id(11)).unwrap().next();
    larger.footprint = charges(&[(2, 40)]);
    assert_eq!(
        apply(&mut state, vec![put(larger)]),
        Err(over(1, 50, 99, 1))
    );
    // What is freed and taken in one changeset is judged by its sum.
    let mut swap = state.get(id(10)).unwrap().next();
    swap.footprint = charges(&[(3, 10)]);
    apply(
        &mut state,
        vec![put(swap), put(object(12, charges(&[(3, 50)])))],
    )
    .unwrap();
    assert_eq!(used(&state, 1), 99);
}

#[test]
fn several_charges_of_one_changeset_are_judged_by_their_sum() {
    let mut state = State::empty();
    let tenant = AccountKey::new(id(1), "mib");
    let open = vec![
        put(object(
            1,
            accounts(vec![account("mib", Limit::Fixed(100), None)]),
        )),
        put(object(
            2,
            accounts(vec![account("mib", Limit::Unlimited, Some(tenant.clone()))]),
        )),
        put(object(
            3,
            accounts(vec![account("mib", Limit::Unlimited, Some(tenant))]),
        )),
    ];
    apply(&mut state, open).unwrap();
    // Each alone would fit.
    let two_objects = vec![
        put(object(10, charges(&[(1, 60)]))),
        put(object(11, charges(&[(1, 60)]))),
    ];
    assert_eq!(apply(&mut state, two_objects), Err(over(1, 100, 0, 120)));
    let one_object = vec![put(object(10, charges(&[(1, 60), (1, 60)])))];
    assert_eq!(apply(&mut state, one_object), Err(over(1, 100, 0, 120)));
    let two_accounts_below = vec![put(object(10, charges(&[(2, 60), (3, 60)])))];
    assert_eq!(
        apply(&mut state, two_accounts_below),
        Err(over(1, 100, 0, 120))
    );
    assert_eq!(used(&state, 1), 0);
}

#[test]
fn supplies_raise_limits_and_shares_move_with_them() {
    let supply = |amount| Footprint {
        supplies: [Supply {
            account: AccountKey::new(id(1), "mib"),
            amount,
        }]
        .into(),
        ..Footprint::default()
    };
    let half = Limit::Share {
        of: AccountKey::new(id(1), "mib"),
        ppm: 500_000,
    };
    let mut state = State::empty();
    apply(
        &mut state,
        vec![
            put(object(
                1,
                accounts(vec![account("mib", Limit::Fixed(0), None)]),
            )),
            put(object(2, accounts(vec![account("mib", half, None)]))),
            put(object(3, supply(100))),
        ],
    )
    .unwrap();
    assert_eq!(state.limit_of(&AccountKey::new(id(2), "mib")), Some(50));
    apply(&mut state, vec![put(object(10, charges(&[(2, 50)])))]).unwrap();
    assert_eq!(
        apply(&mut state, vec![put(object(11, charges(&[(2, 1)])))]),
        Err(over(2, 50, 50, 1))
    );
    let mut less = state.get(id(3)).unwrap().next();
    less.footprint = supply(50);
    apply(&mut state, vec![put(less)]).unwrap();
    assert_eq!(state.limit_of(&AccountKey::new(id(2), "mib")), Some(25));
    assert_eq!(used(&state, 2), 50);
    // The account that is shared in cannot close before the share does.
    assert_eq!(
        apply(&mut state, vec![Op::Delete(id(3), 2), Op::Delete(id(1), 1)]),
        Err(Refused::AccountInUse {
            account: AccountKey::new(id(1), "mib")
        })
    );
    apply(
        &mut state,
        vec![
            Op::Delete(id(1), 1),
            Op::Delete(id(2), 1),
            Op::Delete(id(3), 2),
            Op::Delete(id(10), 1),
        ],
    )
    .unwrap();
    assert_eq!(state.accounts().count(), 0);
}

#[test]
fn what_is_counted_moves_with_an_account_and_cycles_are_refused() {
    let group = |limit, parent: Option<u128>| {
        accounts(vec![account(
            "mib",
            limit,
            parent.map(|p| AccountKey::new(id(p), "mib")),
        )])
    };
    let mut state = State::empty();
    apply(
        &mut state,
        vec![
            put(object(1, group(Limit::Fixed(100), None))),
            put(object(2, group(Limit::Fixed(30), None))),
            put(object(3, group(Limit::Unlimited, Some(1)))),
            put(object(4, charges(&[(3, 40)]))),
        ],
    )
    .unwrap();
    let mut moved = state.get(id(3)).unwrap().next();
    moved.footprint = group(Limit::Unlimited, Some(2));
    assert_eq!(
        apply(&mut state, vec![put(moved.clone())]),
        Err(over(2, 30, 0, 40))
    );
    let mut fewer = state.get(id(4)).unwrap().next();
    fewer.footprint = charges(&[(3, 20)]);
    apply(&mut state, vec![put(moved), put(fewer)]).unwrap();
    assert_eq!((used(&state, 1), used(&state, 2)), (0, 20));
    let mut cycle = state.get(id(2)).unwrap().next();
    cycle.footprint = group(Limit::Fixed(30), Some(3));
    assert!(matches!(
        apply(&mut state, vec![put(cycle)]),
        Err(Refused::Malformed(_))
    ));
    let mut own_share = state.get(id(2)).unwrap().next();
    own_share.footprint = accounts(vec![account(
        "mib",
        Limit::Share {
            of: AccountKey::new(id(2), "mib"),
            ppm: 1,
        },
        None,
    )]);
    assert!(matches!(
        apply(&mut state, vec![put(own_share)]),
        Err(Refused::Malformed(_))
    ));
}

#[test]
fn charges_need_an_open_account_and_sums_stay_in_range() {
    let mut state = State::empty();
    assert_eq!(
        apply(&mut state, vec![put(object(1, charges(&[(9, 1)])))]),
        Err(Refused::AccountMissing {
            object: id(1),
            account: AccountKey::new(id(9), "mib")
        })
    );
    apply(
        &mut state,
        vec![put(object(
            9,
            accounts(vec![account("mib", Limit::Unlimited, None)]),
        ))],
    )
    .unwrap();
    apply(&mut state, vec![put(object(1, charges(&[(9, u64::MAX)])))]).unwrap();
    assert!(matches!(
        apply(&mut state, vec![put(object(2, charges(&[(9, 1)])))]),
        Err(Refused::Malformed(_))
    ));
}

#[test]
fn expectations_hold_or_refuse() {
    let mut state = State::empty();
    apply(&mut state, vec![put(object(1, Footprint::default()))]).unwrap();
    let touch = |n: u128| put(object(n, Footprint::default()));
    let tries = [
        (Expect::Generation(id(1), 1), true),
        (Expect::Generation(id(1), 2), false),
        (Expect::Version(id(1), 1), true),
        (Expect::Version(id(1), 0), false),
        (Expect::Absent(id(1)), false),
        (Expect::Absent(id(50)), true),
        (Expect::Version(id(50), 1), false),
    ];
    for (n, (expect, holds)) in (100..).zip(tries) {
        let result = apply(&mut state, vec![Op::Expect(expect.clone()), touch(n)]);
        assert_eq!(result.is_ok(), holds, "{expect:?}: {result:?}");
    }
}

#[test]
fn the_cluster_version_rises_only_when_every_member_supports_it() {
    let member = |n: u128, supports: &str| {
        object(
            n,
            Footprint {
                keys: [IndexKey {
                    name: virtflow_state::SUPPORTS_KEY.into(),
                    value: supports.into(),
                }]
                .into(),
                ..Footprint::default()
            },
        )
    };
    let mut state = State::empty();
    apply(&mut state, vec![put(member(1, "2")), put(member(2, "10"))]).unwrap();
    apply(&mut state, vec![Op::ClusterVersion(2)]).unwrap();
    assert!(apply(&mut state, vec![Op::ClusterVersion(2)]).is_err());
    let refused = apply(&mut state, vec![Op::ClusterVersion(3)]);
    assert_eq!(
        refused,
        Err(Refused::ClusterVersion {
            asked: 3,
            why: "thing-1 supports 2 at most".into()
        })
    );
    assert_eq!(state.cluster_version(), 2);
}

#[test]
fn genesis_happens_once() {
    let mut state = State::empty();
    let genesis = || vec![Op::Genesis(Incarnation::from_u128(5), id(1000))];
    apply(&mut state, genesis()).unwrap();
    assert_eq!(state.incarnation(), Some(Incarnation::from_u128(5)));
    assert!(apply(&mut state, genesis()).is_err());
}

#[test]
fn an_image_does_not_move_while_writes_go_on() {
    let mut state = State::empty();
    apply(&mut state, vec![put(object(1, Footprint::default()))]).unwrap();
    let image = state.clone();
    apply(&mut state, vec![Op::Delete(id(1), 1)]).unwrap();
    assert!(image.get(id(1)).is_some());
    assert!(state.get(id(1)).is_none());
    assert_eq!(verify(&image), Vec::new());
}

#[test]
fn lists_walk_keys_and_kinds_in_order() {
    let keyed = |n: u128, host: &str| {
        object(
            n,
            Footprint {
                keys: [IndexKey {
                    name: "host".into(),
                    value: host.into(),
                }]
                .into(),
                ..Footprint::default()
            },
        )
    };
    let mut state = State::empty();
    let ops = [(3, "a"), (1, "a"), (2, "b"), (4, "a")]
        .map(|(n, host)| put(keyed(n, host)))
        .into();
    apply(&mut state, ops).unwrap();
    let ids = |found: Vec<ObjectId>| found;
    let on_a = state.by_key("host", "a", None).map(|o| o.id).collect();
    assert_eq!(ids(on_a), [id(1), id(3), id(4)]);
    let rest = state
        .by_key("host", "a", Some(id(1)))
        .map(|o| o.id)
        .collect();
    assert_eq!(ids(rest), [id(3), id(4)]);
    let all = state.of_kind("thing", Some(id(2))).map(|o| o.id).collect();
    assert_eq!(ids(all), [id(3), id(4)]);
    assert_eq!(state.of_kind("thin", None).count(), 0);
}

#[test]
fn an_index_counts_what_it_finds() {
    let keyed = |n: u128, value: &str| {
        let key = IndexKey {
            name: "colour".into(),
            value: value.into(),
        };
        let footprint = Footprint {
            keys: [key].into(),
            ..Footprint::default()
        };
        put(object(n, footprint))
    };
    let mut state = State::empty();
    let ops = vec![
        keyed(1, "red"),
        keyed(2, "redder"),
        keyed(3, "red"),
        keyed(4, "blue"),
    ];
    apply(&mut state, ops).unwrap();
    let counts = |state: &State| {
        ["red", "redder", "blue", "re"].map(|value| state.count_by_key("colour", value))
    };
    assert_eq!(counts(&state), [2, 1, 1, 0]);
    assert_eq!(
        (state.count_of_kind("thing"), state.count_of_kind("other")),
        (4, 0)
    );
    apply(&mut state, vec![Op::Delete(id(3), 1)]).unwrap();
    assert_eq!(counts(&state), [1, 1, 1, 0]);
    assert_eq!(state.count_of_kind("thing"), 3);
    assert_eq!(state.count_by_key("shape", "red"), 0);
}
