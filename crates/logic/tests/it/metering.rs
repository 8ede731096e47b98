//! What VMs used comes onto bills by itself: once, exactly, in the month in which it was used.

use std::time::Duration;

use serde_json::{Value, json};
use virtflow_logic::{Create, Power, Request};
use virtflow_model::Kind;
use virtflow_model::kinds::virtual_machine::{PowerAct, VmPhase};
use virtflow_types::{ObjectId, Timestamp};

use crate::asking::{spec, status};
use crate::world::{Host, World};

const HOUR: Duration = Duration::from_secs(3600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A world in which it is noon of a day in November, with prices, and a VM of 2 cores, 2 GiB and 20 GiB that runs.
fn running() -> (World, Host, ObjectId) {
    let (mut world, host) = World::furnished();
    world.now = at("2026-11-28T12:00:00Z");
    for (dimension, amount) in [
        ("cpu_core_hours", "0.01"),
        ("memory_gib_hours", "0.002"),
        ("storage_gib_hours", "0.0001"),
    ] {
        price(&mut world, dimension, amount, "2026-01-01T00:00:00Z");
    }
    let alice = world.named(Kind::User, "alice").id;
    let size = json!({"cpu_cores": 2, "memory_mib": 2048, "storage_gib": 20});
    let vm = world.vm(alice, "web-1", size).unwrap().object_id.unwrap();
    world.place();
    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Running);
    (world, host, vm)
}

fn price(world: &mut World, dimension: &str, amount: &str, from: &str) {
    let spec =
        json!({"dimension": dimension, "currency": "EUR", "amount": amount, "valid_from": from});
    world.create(Kind::Price, "", spec);
}

fn period(world: &mut World, month: &str) -> ObjectId {
    let mut create = Create::new(
        Kind::BillingPeriod,
        "",
        json!({"period": month, "currency": "EUR"}),
    );
    create.name = None;
    create.tenant = Some("acme".into());
    let admin = world.admin;
    let reply = world.ask(admin, &Request::Create(create)).unwrap();
    reply.object_id.unwrap()
}

fn act(world: &mut World, host: &Host, vm: ObjectId, act: PowerAct) {
    let admin = world.admin;
    let power = Power {
        target: vm.to_string(),
        tenant: None,
        act,
    };
    world.ask(admin, &Request::Power(power)).unwrap();
    world.settle(host);
}

/// (dimension, quantity, amount, from, until) of every usage on a bill, in order.
fn usages(world: &World, period: ObjectId) -> Vec<[String; 5]> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found: Vec<[String; 5]> = world
        .state
        .of_kind("billing_usage", None)
        .filter(|usage| usage.parent == Some(period))
        .map(|usage| {
            let spec = spec(world, usage.id);
            assert_eq!(spec["vm_name"], "web-1");
            [
                text(&spec["dimension"]),
                text(&spec["quantity"]),
                text(&status(world, usage.id)["amount"]),
                text(&spec["measured_from"]),
                text(&spec["measured_until"]),
            ]
        })
        .collect();
    found.sort();
    found
}

fn row(texts: [&str; 5]) -> [String; 5] {
    texts.map(str::to_owned)
}

#[test]
fn a_vm_costs_what_it_ran_and_its_storage_as_long_as_it_is_kept() {
    let (mut world, host, vm) = running();
    let november = period(&mut world, "2026-11");
    world.wait(HOUR + HOUR / 2);
    act(&mut world, &host, vm, PowerAct::Stop);
    assert_eq!(world.phase(vm), VmPhase::Stopped);
    let [from, stopped, gone] = [
        "2026-11-28T12:00:00Z",
        "2026-11-28T13:30:00Z",
        "2026-11-28T14:00:00Z",
    ];
    let ran = [
        row(["cpu_core_hours", "3", "0.03", from, stopped]),
        row(["memory_gib_hours", "3", "0.006", from, stopped]),
    ];
    assert_eq!(usages(&world, november), ran);

    // While it stands still, it costs no cores.
    world.wait(HOUR / 2);
    let admin = world.admin;
    world.delete(admin, Kind::VirtualMachine, vm).unwrap();
    world.settle(&host);
    assert!(world.state.get(vm).is_none());
    let mut all = ran.to_vec();
    all.push(row(["storage_gib_hours", "40", "0.004", from, gone]));
    assert_eq!(usages(&world, november), all);
    world.verify();
}

#[test]
fn a_bill_adds_up_what_is_on_it_and_tells_what_comes() {
    let (mut world, host, vm) = running();
    let november = period(&mut world, "2026-11");
    let december = period(&mut world, "2026-12");
    world.wait(HOUR);
    act(&mut world, &host, vm, PowerAct::Stop);
    world.wait(HOUR);
    act(&mut world, &host, vm, PowerAct::Start);
    world.wait(HOUR / 2);
    let admin = world.admin;
    let asked = |world: &World, period: ObjectId| {
        let cx = world.cx(admin);
        virtflow_logic::bill(&world.state, &cx, &period.to_string()).unwrap()
    };
    let bill = asked(&world, november);
    assert_eq!(bill["usages"], 2);
    assert_eq!(
        bill["billed"],
        json!({"total": "0.024", "lines": [
            {"dimension": "cpu_core_hours", "quantity": "2", "amount": "0.02"},
            {"dimension": "memory_gib_hours", "quantity": "2", "amount": "0.004"},
        ]})
    );
    // Half an hour since the start, and storage for two and a half.
    assert_eq!(
        bill["unbilled"],
        json!({"total": "0.017", "lines": [
            {"dimension": "cpu_core_hours", "quantity": "1", "amount": "0.01"},
            {"dimension": "memory_gib_hours", "quantity": "1", "amount": "0.002"},
            {"dimension": "storage_gib_hours", "quantity": "50", "amount": "0.005"},
        ]})
    );
    assert_eq!(asked(&world, december)["unbilled"]["total"], "0");
    let close = json!({"state": "closed"});
    world
        .patch(admin, Kind::BillingPeriod, november, close)
        .unwrap();
    assert_eq!(asked(&world, november)["unbilled"]["lines"], json!([]));
    world.tenant("umbrella", "eve");
    let eve = world.cx(world.named(Kind::User, "eve").id);
    let hidden = virtflow_logic::bill(&world.state, &eve, &november.to_string());
    assert_eq!(
        hidden.unwrap_err().code,
        virtflow_types::ErrorCode::NotFound
    );
}

#[test]
fn a_vm_that_runs_on_is_cut_off_at_the_end_of_each_month() {
    let (mut world, host, vm) = running();
    let november = period(&mut world, "2026-11");
    let december = period(&mut world, "2026-12");
    world.loops();
    assert!(usages(&world, november).is_empty(), "the month is not over");
    world.now = at("2026-12-01T06:00:00Z");
    world.loops();
    let [from, end] = ["2026-11-28T12:00:00Z", "2026-12-01T00:00:00Z"];
    assert_eq!(
        usages(&world, november),
        [
            row(["cpu_core_hours", "120", "1.2", from, end]),
            row(["memory_gib_hours", "120", "0.24", from, end]),
            row(["storage_gib_hours", "1200", "0.12", from, end]),
        ]
    );
    assert!(usages(&world, december).is_empty());
    world.now = at("2026-12-01T10:00:00Z");
    act(&mut world, &host, vm, PowerAct::Stop);
    assert_eq!(
        usages(&world, december),
        [
            row(["cpu_core_hours", "20", "0.2", end, "2026-12-01T10:00:00Z"]),
            row([
                "memory_gib_hours",
                "20",
                "0.04",
                end,
                "2026-12-01T10:00:00Z"
            ]),
        ]
    );
}

#[test]
fn months_that_nobody_cut_off_are_told_apart_all_the_same() {
    let (mut world, host, vm) = running();
    let november = period(&mut world, "2026-11");
    let january = period(&mut world, "2027-01");
    world.now = at("2027-01-02T00:00:00Z");
    act(&mut world, &host, vm, PowerAct::Stop);
    let [new_year, end] = ["2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"];
    assert_eq!(
        usages(&world, november)[0],
        row([
            "cpu_core_hours",
            "120",
            "1.2",
            "2026-11-28T12:00:00Z",
            "2026-12-01T00:00:00Z"
        ])
    );
    // December has no bill; nothing of it is on those of other months.
    assert_eq!(usages(&world, november).len(), 2);
    assert_eq!(
        usages(&world, january),
        [
            row(["cpu_core_hours", "48", "0.48", new_year, end]),
            row(["memory_gib_hours", "48", "0.096", new_year, end]),
        ]
    );
}

#[test]
fn a_price_that_begins_in_between_holds_from_then_on() {
    let (mut world, host, vm) = running();
    let november = period(&mut world, "2026-11");
    price(&mut world, "cpu_core_hours", "0.05", "2026-11-28T13:00:00Z");
    world.wait(3 * HOUR);
    act(&mut world, &host, vm, PowerAct::Stop);
    let [from, change, until] = [
        "2026-11-28T12:00:00Z",
        "2026-11-28T13:00:00Z",
        "2026-11-28T15:00:00Z",
    ];
    assert_eq!(
        usages(&world, november),
        [
            row(["cpu_core_hours", "2", "0.02", from, change]),
            row(["cpu_core_hours", "4", "0.2", change, until]),
            row(["memory_gib_hours", "6", "0.012", from, until]),
        ]
    );
}

#[test]
fn what_nobody_saw_run_is_on_no_bill() {
    let (mut world, mut host, vm) = running();
    let november = period(&mut world, "2026-11");
    world.wait(HOUR);
    world.offline(&host);
    world.loops();
    assert_eq!(world.phase(vm), VmPhase::Unknown);
    let first = row([
        "cpu_core_hours",
        "2",
        "0.02",
        "2026-11-28T12:00:00Z",
        "2026-11-28T13:00:00Z",
    ]);
    assert_eq!(usages(&world, november)[0], first);
    world.wait(HOUR);
    world.online(&mut host, "boot-1", [4000, 8192, 100]);
    world.settle(&host);
    assert_eq!(world.phase(vm), VmPhase::Running);
    world.wait(HOUR);
    act(&mut world, &host, vm, PowerAct::Stop);
    let cores: Vec<[String; 5]> = usages(&world, november)
        .into_iter()
        .filter(|usage| usage[0] == "cpu_core_hours")
        .collect();
    let second = row([
        "cpu_core_hours",
        "2",
        "0.02",
        "2026-11-28T14:00:00Z",
        "2026-11-28T15:00:00Z",
    ]);
    assert_eq!(cores, [first, second]);
}

#[test]
fn a_restart_interrupts_nothing() {
    let (mut world, host, vm) = running();
    let november = period(&mut world, "2026-11");
    world.wait(HOUR);
    act(&mut world, &host, vm, PowerAct::Reboot);
    world.wait(HOUR);
    act(&mut world, &host, vm, PowerAct::Stop);
    assert_eq!(
        usages(&world, november)[0],
        row([
            "cpu_core_hours",
            "4",
            "0.04",
            "2026-11-28T12:00:00Z",
            "2026-11-28T14:00:00Z"
        ])
    );
    assert_eq!(usages(&world, november).len(), 2);
}

#[test]
fn without_an_open_bill_or_a_price_vms_stop_as_ever() {
    let (mut world, host, vm) = running();
    world.wait(HOUR);
    act(&mut world, &host, vm, PowerAct::Stop);
    assert_eq!(world.phase(vm), VmPhase::Stopped);
    let november = period(&mut world, "2026-11");
    act(&mut world, &host, vm, PowerAct::Start);
    let admin = world.admin;
    let close = json!({"state": "closed"});
    world
        .patch(admin, Kind::BillingPeriod, november, close)
        .unwrap();
    world.wait(HOUR);
    act(&mut world, &host, vm, PowerAct::Stop);
    assert_eq!(world.phase(vm), VmPhase::Stopped);
    assert_eq!(world.state.count_of_kind("billing_usage"), 0);
}
