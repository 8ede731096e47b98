//! Bills: what was used times what it costs, exactly; and what is closed stays.

use serde_json::{Value, json};
use virtflow_logic::{Measured, record_usage};
use virtflow_model::Kind;
use virtflow_model::kinds::price::Billed;
use virtflow_state::Refused;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Timestamp};

use crate::asking::{create, refuses, refuses_field, removal, spec, status};
use crate::world::World;

/// The world's clock stands in November 2026.
const MONTH: &str = "2026-11";

fn price(amount: &str, from: &str) -> Value {
    json!({"dimension": "cpu_core_hours", "currency": "EUR", "amount": amount, "valid_from": from})
}

fn period(world: &mut World) -> ObjectId {
    make_period(world, "acme", MONTH).unwrap()
}

fn make_period(world: &mut World, tenant: &str, month: &str) -> Result<ObjectId, Error> {
    let mut create = virtflow_logic::Create::new(
        Kind::BillingPeriod,
        "",
        json!({"period": month, "currency": "EUR"}),
    );
    create.name = None;
    create.tenant = Some(tenant.into());
    let admin = world.admin;
    let reply = world.ask(admin, &virtflow_logic::Request::Create(create))?;
    Ok(reply.object_id.unwrap())
}

fn hour(period_id: ObjectId, from: &str, until: &str) -> Measured {
    Measured {
        period_id,
        vm_id: ObjectId::from_u128(7),
        vm_name: "web-1".into(),
        dimension: Billed::CpuCoreHours,
        quantity: "2.5".parse().unwrap(),
        from: from.parse().unwrap(),
        until: until.parse().unwrap(),
    }
}

fn record(world: &mut World, measured: &Measured) -> Result<(), Error> {
    let now: Timestamp = world.now;
    let changeset = record_usage(&world.state, RequestId::generate(), now, measured)?;
    world.commit(&changeset).unwrap();
    Ok(())
}

fn usages(world: &World) -> Vec<ObjectId> {
    let all = world.state.of_kind("billing_usage", None);
    all.map(|usage| usage.id).collect()
}

#[test]
fn a_usage_costs_the_price_that_held_then() {
    let (mut world, _host) = World::furnished();
    let bill = period(&mut world);
    let ten = hour(bill, "2026-11-10T10:00:00Z", "2026-11-10T11:00:00Z");
    refuses(
        record(&mut world, &ten),
        ErrorCode::Conflict,
        "nothing is charged",
    );
    world.create(Kind::Price, "", price("0.01", "2026-01-01T00:00:00Z"));
    let held = world.create(Kind::Price, "", price("0.013", "2026-11-10T10:00:00Z"));
    world.create(Kind::Price, "", price("9", "2026-11-10T10:30:00Z"));
    let dollars = json!({"dimension": "cpu_core_hours", "currency": "USD", "amount": "7", "valid_from": "2026-11-10T09:00:00Z"});
    world.create(Kind::Price, "", dollars);
    record(&mut world, &ten).unwrap();
    let usage = usages(&world)[0];
    assert_eq!(status(&world, usage)["amount"], "0.0325");
    assert_eq!(spec(&world, usage)["price_id"], held.to_string());

    let before = hour(bill, "2026-11-10T09:00:00Z", "2026-11-10T10:00:00Z");
    let first = record_usage(&world.state, RequestId::generate(), world.now, &before).unwrap();
    let second = record_usage(&world.state, RequestId::generate(), world.now, &before).unwrap();
    world.commit(&first).unwrap();
    let twice = world.commit(&second).unwrap_err();
    assert!(
        matches!(twice, Refused::Claimed { .. }),
        "the same hour twice"
    );
    let total: f64 = usages(&world)
        .iter()
        .map(|usage| {
            status(&world, *usage)["amount"]
                .as_str()
                .unwrap()
                .parse::<f64>()
                .unwrap()
        })
        .sum();
    assert!((total - 0.0575).abs() < 1e-9, "2.5 × 0.013 and 2.5 × 0.01");
}

#[test]
fn a_usage_lies_within_its_month() {
    let (mut world, _host) = World::furnished();
    let bill = period(&mut world);
    world.create(Kind::Price, "", price("1", "2026-01-01T00:00:00Z"));
    let early = hour(bill, "2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z");
    refuses_field(record(&mut world, &early), "spec.measured_from");
    let late = hour(bill, "2026-11-30T23:30:00Z", "2026-12-01T00:30:00Z");
    refuses_field(record(&mut world, &late), "spec.measured_until");
    let backwards = hour(bill, "2026-11-02T00:00:00Z", "2026-11-01T23:00:00Z");
    refuses_field(record(&mut world, &backwards), "spec.measured_until");
    let last = hour(bill, "2026-11-30T23:00:00Z", "2026-12-01T00:00:00Z");
    record(&mut world, &last).unwrap();
}

#[test]
fn a_closed_period_never_changes_nor_what_is_in_it() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let bill = period(&mut world);
    let cost = world.create(Kind::Price, "", price("1", "2026-01-01T00:00:00Z"));
    let unused = world.create(Kind::Price, "", price("2", "2027-01-01T00:00:00Z"));
    let ten = hour(bill, "2026-11-10T10:00:00Z", "2026-11-10T11:00:00Z");
    record(&mut world, &ten).unwrap();
    let usage = usages(&world)[0];
    let holds = world.delete(admin, Kind::BillingPeriod, bill);
    refuses(holds, ErrorCode::InUse, "billing_usage");

    let eleven = hour(bill, "2026-11-10T11:00:00Z", "2026-11-10T12:00:00Z");
    let raced = record_usage(&world.state, RequestId::generate(), world.now, &eleven).unwrap();
    let close = json!({"state": "closed"});
    world
        .patch(admin, Kind::BillingPeriod, bill, close)
        .unwrap();
    let refused = world.commit(&raced).unwrap_err();
    assert!(matches!(refused, Refused::LinkClosed { .. }), "{refused:?}");
    refuses(
        record(&mut world, &eleven),
        ErrorCode::Conflict,
        "is closed",
    );
    let open = world.patch(admin, Kind::BillingPeriod, bill, json!({"state": "open"}));
    refuses_field(open, "spec.state");
    let gone = world.delete(admin, Kind::BillingPeriod, bill);
    refuses(gone, ErrorCode::Conflict, "is closed");

    let cheaper = world.patch(admin, Kind::Price, cost, json!({"amount": "0.5"}));
    refuses_field(cheaper, "spec.amount");
    let gone = world.delete(admin, Kind::Price, cost);
    refuses(gone, ErrorCode::InUse, "billing_usage");
    world.delete(admin, Kind::Price, unused).unwrap();
    for refused in [
        world.ask(admin, &create(Kind::BillingUsage, "", None, json!({}))),
        world.patch(admin, Kind::BillingUsage, usage, json!({"quantity": "1"})),
        world.delete(admin, Kind::BillingUsage, usage),
    ] {
        assert_eq!(refused.unwrap_err().code, ErrorCode::Invalid);
    }

    let empty = make_period(&mut world, "acme", "2026-12").unwrap();
    world.delete(admin, Kind::BillingPeriod, empty).unwrap();
}

#[test]
fn periods_and_prices_are_sound_and_there_is_one_of_each() {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let alice = world.named(Kind::User, "alice").id;
    let admin = world.admin;
    period(&mut world);
    let again = make_period(&mut world, "acme", MONTH);
    refuses(again, ErrorCode::AlreadyExists, "pair");
    make_period(&mut world, "globex", MONTH).unwrap();
    for month in ["2026-13", "2026-1", "26-11", "november", "2026-00"] {
        refuses_field(make_period(&mut world, "acme", month), "spec.period");
    }
    let other = json!({"period": MONTH, "currency": "euro"});
    let other = create(Kind::BillingPeriod, "", Some("acme"), other);
    let other = world.ask(admin, &other);
    refuses_field(other, "spec.currency");

    let once = || {
        (
            admin,
            create(Kind::Price, "", None, price("1", "2026-01-01T00:00:00Z")),
        )
    };
    let refused = world.race(once(), once()).unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
    let mut price_of = |amount: Value| {
        let mut spec = price("1", "2027-01-01T00:00:00Z");
        spec["amount"] = amount;
        world.create_as(admin, Kind::Price, "", spec)
    };
    refuses_field(price_of(json!(0.1)), "spec.amount");
    refuses_field(price_of(json!("-1")), "spec.amount");
    refuses_field(price_of(json!("0.0000001")), "spec.amount");
    let theirs = world.create_as(alice, Kind::Price, "", price("1", "2028-01-01T00:00:00Z"));
    refuses(theirs, ErrorCode::Forbidden, "price.create");
}

#[test]
fn bills_outlive_their_tenant() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let bill = period(&mut world);
    world.create(Kind::Price, "", price("1", "2026-01-01T00:00:00Z"));
    let ten = hour(bill, "2026-11-10T10:00:00Z", "2026-11-10T11:00:00Z");
    record(&mut world, &ten).unwrap();
    let usage = usages(&world)[0];
    world
        .patch(admin, Kind::BillingPeriod, bill, json!({"state": "closed"}))
        .unwrap();
    let before = spec(&world, usage);
    let acme = world.named(Kind::Tenant, "acme").id;
    world.ask(admin, &removal(Kind::Tenant, "acme")).unwrap();
    world.loops();
    assert!(world.state.get(acme).is_none());
    assert_eq!(spec(&world, usage), before);
    assert_eq!(status(&world, bill)["former_tenant_name"], "acme");
    assert_eq!(status(&world, bill)["former_tenant_id"], acme.to_string());
}
