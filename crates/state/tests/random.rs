//! Random changesets: whatever comes, the state stays sound.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;
use virtflow_state::{
    AccountDef, AccountKey, Changeset, Charge, Claim, Expect, Footprint, IndexKey, Limit, Object,
    Op, Record, State, Supply, verify,
};
use virtflow_types::{ObjectId, RequestId, Timestamp};

fn id(n: u8) -> ObjectId {
    ObjectId::from_u128(u128::from(n) + 1)
}

/// Objects 0 to 5 open accounts, one a dimension; the others charge, supply, claim and link.
const OWNERS: u8 = 6;
const DIMENSIONS: [&str; 2] = ["mib", "gib"];

fn account_key() -> impl Strategy<Value = AccountKey> {
    (0..OWNERS, 0..2_usize).prop_map(|(n, d)| AccountKey::new(id(n), DIMENSIONS[d]))
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        3 => (0..300_u64).prop_map(Limit::Fixed),
        2 => Just(Limit::Unlimited),
        1 => (account_key(), 0..1_500_000_u64).prop_map(|(of, ppm)| Limit::Share { of, ppm }),
    ]
}

/// What an owner opens: its parent is any owner, itself and a cycle included.
fn owner() -> impl Strategy<Value = Footprint> {
    let def = |dimension: &'static str| {
        (proptest::option::of(0..OWNERS), limit()).prop_map(move |(parent, limit)| AccountDef {
            dimension: dimension.into(),
            parent: parent.map(|n| AccountKey::new(id(n), dimension)),
            limit,
        })
    };
    (def("mib"), def("gib")).prop_map(|(a, b)| Footprint {
        accounts: [a, b].into(),
        ..Footprint::default()
    })
}

fn user() -> impl Strategy<Value = Footprint> {
    let claim = (0..2_u8, 0..60_u8, 0..5_u8)
        .prop_map(|(space, lo, len)| Claim::range(format!("s{space}"), [lo], [lo + len]));
    let charge =
        (account_key(), 0..80_u64).prop_map(|(account, amount)| Charge { account, amount });
    let supply =
        (account_key(), 0..80_u64).prop_map(|(account, amount)| Supply { account, amount });
    let key = (0..3_u8).prop_map(|n| IndexKey {
        name: "k".into(),
        value: format!("{n}").into(),
    });
    (
        prop::collection::vec(claim, 0..2),
        prop::collection::btree_set(0..16_u8, 0..2),
        prop::collection::vec(supply, 0..2),
        prop::collection::vec(charge, 0..3),
        prop::collection::btree_set(key, 0..2),
    )
        .prop_map(|(claims, links, supplies, charges, keys)| Footprint {
            claims: claims.into(),
            links: links.into_iter().map(id).collect(),
            supplies: supplies.into(),
            charges: charges.into(),
            accounts: Box::default(),
            keys: keys.into_iter().collect(),
        })
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Footprint, bool),
    Delete(u8),
    Record(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..OWNERS, owner()).prop_map(|(n, f)| Step::Put(n, f, false)),
        6 => (OWNERS..16_u8, user(), prop::bool::weighted(0.1)).prop_map(|(n, f, c)| Step::Put(n, f, c)),
        2 => (0..16_u8).prop_map(Step::Delete),
        1 => (0..2_u8).prop_map(Step::Record),
    ]
}

fn changeset(state: &State, steps: &[Step]) -> Changeset {
    let mut changeset = Changeset::new(RequestId::from_u128(1), Timestamp::from_ms(2), "random");
    for step in steps {
        match step {
            Step::Put(n, footprint, closed) => {
                let mut object = state
                    .get(id(*n))
                    .map_or_else(|| Object::new("thing", id(*n), ""), |o| o.next());
                object.footprint = footprint.clone();
                object.closed = *closed;
                changeset.ops.push(Op::Put(Box::new(object)));
            }
            Step::Delete(n) => {
                let version = state.get(id(*n)).map_or(1, |o| o.version);
                changeset.ops.push(Op::Delete(id(*n), version));
            }
            Step::Record(n) => {
                let stream = format!("stream-{n}");
                let count = state.stream(&stream).count;
                changeset
                    .ops
                    .push(Op::Expect(Expect::StreamCount(stream.clone(), count)));
                changeset.ops.push(Op::Record(Record {
                    stream,
                    body: vec![*n; 3].into(),
                }));
            }
        }
    }
    changeset
}

/// Every owner with its accounts open and unlimited.
fn prelude() -> Vec<Step> {
    (0..OWNERS)
        .map(|n| {
            let accounts = DIMENSIONS.map(|dimension| AccountDef {
                dimension: dimension.into(),
                parent: None,
                limit: Limit::Fixed(100),
            });
            let footprint = Footprint {
                accounts: accounts.into(),
                ..Footprint::default()
            };
            Step::Put(n, footprint, false)
        })
        .collect()
}

/// Usage by adding up, in the plainest way there is.
fn usage(state: &State) -> BTreeMap<AccountKey, u64> {
    let parents: BTreeMap<AccountKey, Option<AccountKey>> = state
        .objects()
        .flat_map(|o| {
            o.footprint.accounts.iter().map(|def| {
                (
                    AccountKey::new(o.id, def.dimension.clone()),
                    def.parent.clone(),
                )
            })
        })
        .collect();
    let mut used: BTreeMap<AccountKey, u64> = parents.keys().map(|k| (k.clone(), 0)).collect();
    for charge in state.objects().flat_map(|o| o.footprint.charges.iter()) {
        let mut next = Some(charge.account.clone());
        while let Some(key) = next {
            *used.get_mut(&key).unwrap() += charge.amount;
            next = parents[&key].clone();
        }
    }
    used
}

static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
static ALL: AtomicUsize = AtomicUsize::new(0);

#[test]
fn the_state_stays_sound() {
    sound();
    let (accepted, all) = (ACCEPTED.load(Relaxed), ALL.load(Relaxed));
    // A generator whose changesets are nearly all refused, or nearly all accepted, tests little.
    assert!(
        accepted * 4 > all && accepted * 10 < all * 9,
        "{accepted} of {all} accepted"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    fn sound(history in prop::collection::vec(prop::collection::vec(step(), 1..3), 1..40)) {
        let mut state = State::empty();
        let mut replica = State::empty();
        let mut accepted = 0;
        for steps in std::iter::once(&prelude()).chain(&history) {
            let changeset = changeset(&state, steps);
            let before = state.clone();
            let result = state.apply(&changeset);
            let again = Changeset::decode(changeset.encode()).unwrap();
            prop_assert_eq!(&again, &changeset);
            prop_assert_eq!(&replica.apply(&again), &result);
            prop_assert_eq!(replica.digest(), state.digest());
            prop_assert_eq!(verify(&state), Vec::new());
            if result.is_ok() {
                accepted += 1;
                let derived = usage(&state);
                for (key, account) in state.accounts() {
                    prop_assert_eq!(derived[key], account.used);
                    let balances: Vec<_> = state.balances_of(key.owner).collect();
                    let limit = state.limit_of(key).unwrap_or(0);
                    prop_assert!(balances.contains(&(&key.dimension, limit, account.used)));
                    prop_assert_eq!(balances.len(), state.accounts_of(key.owner).count());
                    let was = before.account(key).map_or(0, |a| a.used);
                    if account.used > was {
                        prop_assert!(account.used <= state.limit_of(key).unwrap());
                    }
                }
                let mut twice = state.clone();
                prop_assert!(twice.apply(&changeset).is_err());
                prop_assert_eq!(twice.digest(), state.digest());
            } else {
                prop_assert_eq!(before.digest(), state.digest());
            }
        }
        ACCEPTED.fetch_add(accepted, Relaxed);
        ALL.fetch_add(history.len() + 1, Relaxed);
        let loaded = State::from_parts(
            state.cluster_id(),
            state.incarnation(),
            state.cluster_version(),
            state.index(),
            state.objects().map(|o| Object::decode(o.encode().into()).unwrap()),
            state.streams().map(|(n, h)| (n.clone(), *h)),
        ).unwrap();
        prop_assert_eq!(loaded.digest(), state.digest());
        prop_assert_eq!(verify(&loaded), Vec::new());
    }

    #[test]
    fn no_bytes_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Changeset::decode(bytes.clone().into());
        let _ = virtflow_state::Batch::decode(bytes.clone().into());
        let _ = Object::decode(bytes.into());
    }
}
