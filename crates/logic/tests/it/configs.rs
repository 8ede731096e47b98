//! Configuration in layers: what is below narrows, and never widens.

use serde_json::{Value, json};
use virtflow_logic::{Create, Request};
use virtflow_model::Kind;
use virtflow_state::Refused;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::asking::{create, refuses, refuses_field};
use crate::world::World;

const SCOPE: &str = "genai.policy";

fn schema() -> Value {
    json!({
        "allowed_models": {"merge": "subset"},
        "default_fallback": {"merge": "override"},
        "extra_models": {"merge": "append"},
        "api_key": {"merge": "override", "secret": true},
    })
}

fn system(values: Value) -> Value {
    json!({"scope": SCOPE, "values": values, "schema": schema()})
}

/// The cloud allows small and large models, at most 100 tokens.
fn world() -> (World, ObjectId, ObjectId) {
    let (mut world, _host) = World::furnished();
    let values = json!({
        "allowed_models": ["small", "large"],
        "default_fallback": "small",
        "extra_models": ["x"],
        "max_tokens": 100,
    });
    let cloud = world.create(Kind::SystemConfig, "", system(values));
    world.user("chief", Some("acme"));
    world.bind("chief", "tenant_admin", "tenant/acme");
    let chief = world.named(Kind::User, "chief").id;
    (world, cloud, chief)
}

fn layer(values: Value) -> Value {
    json!({"scope": SCOPE, "values": values})
}

fn of_tenant(world: &mut World, user: ObjectId, values: Value) -> Result<ObjectId, Error> {
    world.create_as(user, Kind::TenantConfig, "", layer(values))
}

#[test]
fn a_tenant_narrows_and_never_widens() {
    let (mut world, _, chief) = world();
    let refused = |world: &mut World, values: Value, field: &str| {
        refuses_field(
            of_tenant(world, chief, values),
            &format!("spec.values.{field}"),
        );
    };
    refused(
        &mut world,
        json!({"allowed_models": ["small", "huge"]}),
        "allowed_models",
    );
    refused(
        &mut world,
        json!({"allowed_models": "small"}),
        "allowed_models",
    );
    refused(&mut world, json!({"max_tokens": 1000}), "max_tokens");
    refused(&mut world, json!({"unheard_of": 1}), "unheard_of");
    refused(&mut world, json!({"extra_models": "y"}), "extra_models");
    refused(&mut world, json!({"api_key": "k"}), "api_key");
    let narrow = json!({
        "allowed_models": ["small"],
        "default_fallback": "other",
        "extra_models": ["y"],
        "max_tokens": 100,
    });
    let own = of_tenant(&mut world, chief, narrow).unwrap();
    let wider = json!({"values": {"allowed_models": ["small", "huge"]}});
    let wider = world.patch(chief, Kind::TenantConfig, own, wider);
    refuses_field(wider, "spec.values.allowed_models");
    let moved = json!({"scope": "genai.other"});
    let moved = world.patch(chief, Kind::TenantConfig, own, moved);
    refuses_field(moved, "spec.scope");
    let unknown = json!({"scope": "genai.unknown", "values": {}});
    let unknown = world.create_as(chief, Kind::TenantConfig, "", unknown);
    refuses_field(unknown, "spec.scope");
    let list = json!({"scope": SCOPE, "values": ["small"]});
    refuses_field(
        world.create_as(chief, Kind::TenantConfig, "", list),
        "spec.values",
    );
}

#[test]
fn a_user_narrows_what_the_tenant_left() {
    let (mut world, _, chief) = world();
    let alice = world.named(Kind::User, "alice").id;
    let of_user = |world: &mut World, who: ObjectId, values: Value| {
        let mut spec = layer(values);
        spec["user"] = "alice".into();
        world.create_as(who, Kind::UserConfig, "", spec)
    };
    let both = json!({"allowed_models": ["small", "large"]});
    let first = of_user(&mut world, alice, both.clone()).unwrap();
    world.delete(alice, Kind::UserConfig, first).unwrap();
    of_tenant(&mut world, chief, json!({"allowed_models": ["small"]})).unwrap();
    refuses_field(
        of_user(&mut world, alice, both),
        "spec.values.allowed_models",
    );
    let own = of_user(&mut world, alice, json!({"allowed_models": []})).unwrap();

    world.tenant("globex", "bob");
    let bob = world.named(Kind::User, "bob").id;
    let stranger = of_user(&mut world, bob, json!({}));
    refuses(stranger, ErrorCode::NotFound, "user");
    let stranger = world.patch(bob, Kind::UserConfig, own, json!({"values": {}}));
    refuses(stranger, ErrorCode::NotFound, "user_config");
    let admin = world.admin;
    world.delete(admin, Kind::User, alice).unwrap();
    assert!(world.state.get(own).is_none(), "it goes with its user");
}

#[test]
fn one_configuration_of_a_scope_is_active() {
    let (mut world, _, chief) = world();
    let admin = world.admin;
    let again = || {
        (
            admin,
            create(Kind::SystemConfig, "", None, json!({"scope": "a.b"})),
        )
    };
    let refused = world.race(again(), again()).unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
    let twice = world.create_as(admin, Kind::SystemConfig, "", json!({"scope": "a.b"}));
    refuses(twice, ErrorCode::AlreadyExists, "active already");
    let part = json!({"scope": "a.b", "sub_scope": "c"});
    world
        .create_as(admin, Kind::SystemConfig, "", part)
        .unwrap();
    let draft = json!({"scope": "a.b", "active": false});
    let draft = world
        .create_as(admin, Kind::SystemConfig, "", draft)
        .unwrap();
    let on = world.patch(admin, Kind::SystemConfig, draft, json!({"active": true}));
    refuses(on, ErrorCode::AlreadyExists, "active already");
    let own = || {
        (
            chief,
            create(Kind::TenantConfig, "", None, layer(json!({}))),
        )
    };
    let refused = world.race(own(), own()).unwrap_err();
    assert!(matches!(refused, Refused::Claimed { .. }), "{refused:?}");
    world.tenant("globex", "bob");
    let mut theirs = Create::new(Kind::TenantConfig, "", layer(json!({})));
    theirs.tenant = Some("globex".into());
    world.ask(admin, &Request::Create(theirs)).unwrap();
    let shape = world.create_as(admin, Kind::SystemConfig, "", json!({"scope": "A b"}));
    refuses_field(shape, "spec.scope");
}

#[test]
fn what_lower_layers_rest_on_stays_and_secrets_are_not_stored() {
    let (mut world, cloud, chief) = world();
    let admin = world.admin;
    let own = of_tenant(&mut world, chief, json!({"default_fallback": "other"})).unwrap();
    let gone = world.delete(admin, Kind::SystemConfig, cloud);
    refuses(gone, ErrorCode::InUse, "tenant_config");
    let off = world.patch(admin, Kind::SystemConfig, cloud, json!({"active": false}));
    refuses(off, ErrorCode::InUse, "tenant_config");
    let secret = json!({"values": {"default_fallback": null}, "schema": {"default_fallback": {"secret": true}}});
    let secret = world.patch(admin, Kind::SystemConfig, cloud, secret);
    refuses(secret, ErrorCode::Conflict, "become secret");
    let value = json!({"values": {"api_key": "k"}});
    let value = world.patch(admin, Kind::SystemConfig, cloud, value);
    refuses_field(value, "spec.values.api_key");
    let theirs = world.patch(chief, Kind::SystemConfig, cloud, json!({"values": {}}));
    refuses(theirs, ErrorCode::Forbidden, "system_config.update");
    world.delete(chief, Kind::TenantConfig, own).unwrap();
    world.delete(admin, Kind::SystemConfig, cloud).unwrap();
}
