//! Specifications: one of a name for each generation of hardware.

use serde_json::{Value, json};
use virtflow_logic::{Limits, Request, loops};
use virtflow_model::Kind;
use virtflow_model::kinds::VirtualMachineSpecification as Specification;
use virtflow_state::{Changeset, Op};
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId, Text};

use crate::asking::{create, refuses, refuses_field};
use crate::world::World;

const KIND: Kind = Kind::VirtualMachineSpecification;

fn size(cpu: u64, generation: &str) -> Value {
    json!({"cpu_cores": cpu, "memory_mib": 128, "storage_gib": 1, "hardware_generation": generation})
}

fn named(world: &World, text: &str) -> Result<ObjectId, Error> {
    let cx = world.cx(world.admin);
    Ok(virtflow_logic::get(&world.state, &cx, KIND, text, None)?.id)
}

#[test]
fn a_name_is_there_once_for_each_generation() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let second = world.create(KIND, "medium", size(2, "gen2"));
    assert_eq!(named(&world, "medium").unwrap(), second, "the only one");
    let third = world.create(KIND, "medium", size(4, "gen3"));
    let again = world.create_as(admin, KIND, "medium", size(8, "gen3"));
    assert_eq!(again.unwrap_err().code, ErrorCode::AlreadyExists);
    assert_eq!(named(&world, "medium/gen2").unwrap(), second);
    assert_eq!(named(&world, "medium/gen3").unwrap(), third);
    assert_eq!(
        named(&world, "medium/gen4").unwrap_err().code,
        ErrorCode::NotFound
    );
    let error = named(&world, "medium").unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    let advice = error.advice.unwrap();
    assert!(advice.contains("`medium/HARDWARE_GENERATION`"), "{advice}");

    let alice = world.named(Kind::User, "alice").id;
    let made = world.vm(alice, "web", json!({"specification": "medium/gen3"}));
    assert_eq!(made.unwrap().object.unwrap()["spec"]["cpu_cores"], 4);
    let unclear = world.vm(alice, "web-2", json!({"specification": "medium"}));
    assert_eq!(unclear.unwrap_err().code, ErrorCode::Conflict);
    // The one that is of none is called by its name alone.
    let plain = world.create(KIND, "medium", size(1, ""));
    assert_eq!(named(&world, "medium").unwrap(), plain);
    // What changes its generation is held to the same.
    let moved = world.patch(admin, KIND, second, json!({"hardware_generation": "gen3"}));
    refuses(moved, ErrorCode::AlreadyExists, "medium");
    world
        .patch(admin, KIND, second, json!({"hardware_generation": "gen4"}))
        .unwrap();
    assert_eq!(named(&world, "medium/gen4").unwrap(), second);
    for odd in ["a b", "a/b"] {
        let made = world.create_as(admin, KIND, "odd", size(1, odd));
        refuses_field(made, "spec.hardware_generation");
    }
    world.verify();
}

#[test]
fn of_two_who_make_the_same_at_once_one_does() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let making = || {
        let Request::Create(create) = create(KIND, "medium", None, size(2, "gen2")) else {
            unreachable!()
        };
        (admin, Request::Create(create))
    };
    let told = world.race_told(making(), making());
    assert!(told.contains("exists already"), "{told}");
    assert_eq!(world.state.of_kind(KIND.name(), None).count(), 2);
}

#[test]
fn rows_of_before_hold_the_name_alone_until_they_are_written_again() {
    let (mut world, _host) = World::furnished();
    let admin = world.admin;
    let old = world.create(KIND, "medium", size(2, "gen2"));
    let object = world.state.get(old).unwrap();
    let mut row = object.next();
    let claims = row.footprint.claims.iter().cloned();
    row.footprint.claims = claims
        .map(|mut claim| {
            assert_eq!(claim.space, "name/virtual_machine_specification/gen2");
            claim.space = Text::new("name/virtual_machine_specification");
            claim
        })
        .collect();
    let mut older = Changeset::new(RequestId::generate(), world.now, world.cx(admin).actor());
    older.ops = vec![Op::Put(Box::new(row))];
    world.commit(&older).unwrap();
    world.verify();
    let typed = virtflow_logic::decoded::<Specification>(world.state.get(old).unwrap());
    assert_eq!(typed.unwrap().spec.hardware_generation, "gen2");

    let limits = Limits::default();
    let renewed = loops::footprints(&world.state, world.now, &limits);
    assert_eq!(renewed.len(), 1);
    world.commit_all(&renewed);
    assert!(loops::footprints(&world.state, world.now, &limits).is_empty());
    world.create(KIND, "medium", size(2, ""));
    let again = world.create_as(admin, KIND, "medium", size(2, "gen2"));
    assert_eq!(again.unwrap_err().code, ErrorCode::AlreadyExists);
    world.verify();
}
