//! Configuration in layers: what is below narrows, and never widens.

use proptest::prelude::*;
use serde_json::{Value, json};
use virtflow_logic::{
    AUDIT_STREAM, Create, EffectiveQuery, Request, Reveal, SEALED, decide, effective,
};
use virtflow_model::Kind;
use virtflow_model::config::{
    LayerOf, MergeRule, Schema, Values, check_narrowing, effective_field,
};
use virtflow_state::Refused;
use virtflow_types::{Error, ErrorCode, ObjectId};

use crate::asking::{create, patch, refuses, refuses_field, spec, status};
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
        "providers": {"ours": ["a", "b"], "others": ["c"]},
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
    refused(&mut world, json!({"api_key": 7}), "api_key");
    let providers = json!({"providers": {"ours": ["a", "z"]}});
    refused(&mut world, providers, "providers.ours");
    let providers = json!({"providers": {"theirs": ["a"]}});
    refused(&mut world, providers, "providers.theirs");
    let narrow = json!({
        "allowed_models": ["small"],
        "default_fallback": "other",
        "extra_models": ["y"],
        "max_tokens": 100,
        "providers": {"ours": ["a"]},
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
fn what_lower_layers_rest_on_stays() {
    let (mut world, cloud, chief) = world();
    let admin = world.admin;
    let own = of_tenant(&mut world, chief, json!({"default_fallback": "other"})).unwrap();
    let gone = world.delete(admin, Kind::SystemConfig, cloud);
    refuses(gone, ErrorCode::InUse, "tenant_config");
    let off = world.patch(admin, Kind::SystemConfig, cloud, json!({"active": false}));
    refuses(off, ErrorCode::InUse, "tenant_config");
    let theirs = world.patch(chief, Kind::SystemConfig, cloud, json!({"values": {}}));
    refuses(theirs, ErrorCode::Forbidden, "system_config.update");
    world.delete(chief, Kind::TenantConfig, own).unwrap();
    world.delete(admin, Kind::SystemConfig, cloud).unwrap();
}

fn asked(user: Option<&str>, tenant: Option<&str>) -> EffectiveQuery {
    EffectiveQuery {
        scope: SCOPE.into(),
        sub_scope: None,
        tenant: tenant.map(Into::into),
        user: user.map(Into::into),
    }
}

/// What holds for the asker, a user or a tenant.
fn holds(world: &World, who: ObjectId, query: &EffectiveQuery) -> Result<Value, Error> {
    effective(&world.state, &world.cx(who), query)
}

fn of_user(world: &mut World, who: ObjectId, values: Value) -> Result<ObjectId, Error> {
    let mut spec = layer(values);
    spec["user"] = "alice".into();
    world.create_as(who, Kind::UserConfig, "", spec)
}

#[test]
fn layers_merge_field_by_field_and_tell_where_each_came_from() {
    let (mut world, cloud, chief) = world();
    let alice = world.named(Kind::User, "alice").id;
    let of_acme = json!({
        "allowed_models": ["small"],
        "extra_models": ["x", "y"],
        "providers": {"ours": ["b"]},
    });
    let of_acme = of_tenant(&mut world, chief, of_acme).unwrap();
    let hers = json!({"default_fallback": "hers", "extra_models": ["z"]});
    let hers = of_user(&mut world, alice, hers).unwrap();
    let found = holds(&world, alice, &asked(None, None)).unwrap();
    let values = json!({
        "allowed_models": ["small"],
        "default_fallback": "hers",
        "extra_models": ["x", "y", "z"],
        "max_tokens": 100,
        "providers": {"ours": ["b"]},
    });
    assert_eq!(found["values"], values);
    let field = |merge: &str, from: Value| json!({"merge": merge, "secret": false, "from": from, "ignored": []});
    let fields = json!({
        "allowed_models": field("subset", json!(["system", "tenant"])),
        "default_fallback": field("override", json!(["user"])),
        "extra_models": field("append", json!(["system", "tenant", "user"])),
        "max_tokens": field("subset", json!(["system"])),
        "providers": field("subset", json!(["system", "tenant"])),
    });
    assert_eq!(found["fields"], fields);
    let layers = json!([
        {"layer": "system", "kind": "system_config", "id": cloud, "generation": 1},
        {"layer": "tenant", "kind": "tenant_config", "id": of_acme, "generation": 1},
        {"layer": "user", "kind": "user_config", "id": hers, "generation": 1},
    ]);
    assert_eq!(found["layers"], layers);
    let of_all = holds(&world, chief, &asked(None, Some("acme"))).unwrap();
    assert_eq!(of_all["values"]["default_fallback"], "small");
    assert_eq!(of_all["values"]["extra_models"], json!(["x", "y"]));
    assert_eq!(of_all["user_id"], Value::Null);
    // A layer that is not active does not count.
    let off = json!({"active": false});
    world
        .patch(chief, Kind::TenantConfig, of_acme, off)
        .unwrap();
    let found = holds(&world, alice, &asked(None, None)).unwrap();
    assert_eq!(found["values"]["allowed_models"], json!(["small", "large"]));
    let admin = world.admin;
    let own = holds(&world, admin, &asked(None, None)).unwrap();
    assert_eq!(own["tenant_id"], Value::Null);
    assert_eq!(own["values"]["default_fallback"], "small");
}

/// The layers below stay as they were written; what they have that is no longer allowed does not count.
#[test]
fn what_an_upper_layer_takes_away_later_is_not_effective_below() {
    let (mut world, cloud, chief) = world();
    let (admin, alice) = (world.admin, world.named(Kind::User, "alice").id);
    let both = json!({
        "allowed_models": ["small", "large"],
        "max_tokens": 100,
        "providers": {"ours": ["a"], "others": ["c"]},
    });
    let of_acme = of_tenant(&mut world, chief, both).unwrap();
    of_user(&mut world, alice, json!({"allowed_models": ["large"]})).unwrap();
    let less = json!({"values": {
        "allowed_models": ["small"], "max_tokens": 50, "providers": {"ours": ["a", "b"], "others": null},
    }});
    world.patch(admin, Kind::SystemConfig, cloud, less).unwrap();
    let found = holds(&world, alice, &asked(None, None)).unwrap();
    assert_eq!(found["values"]["allowed_models"], json!([]));
    assert_eq!(found["values"]["max_tokens"], 50);
    assert_eq!(found["values"]["providers"], json!({"ours": ["a"]}));
    let ignored = |field: &str| found["fields"][field]["ignored"].clone();
    assert_eq!(ignored("allowed_models"), json!(["tenant", "user"]));
    assert_eq!(ignored("max_tokens"), json!(["tenant"]));
    assert_eq!(ignored("providers"), json!(["tenant"]));
    let of_all = holds(&world, chief, &asked(None, Some("acme"))).unwrap();
    assert_eq!(of_all["values"]["allowed_models"], json!(["small"]));
    // What the cloud sets no more, nobody has.
    let none = json!({"values": {"allowed_models": null}});
    world.patch(admin, Kind::SystemConfig, cloud, none).unwrap();
    let found = holds(&world, alice, &asked(None, None)).unwrap();
    assert_eq!(found["values"].get("allowed_models"), None);
    assert_eq!(found["fields"]["allowed_models"]["from"], json!([]));
    // Written again, the layer has to be within what is allowed now.
    let again = json!({"description": "ours"});
    let again = world.patch(chief, Kind::TenantConfig, of_acme, again);
    refuses_field(again, "spec.values.allowed_models");
}

#[test]
fn what_holds_is_told_to_whom_it_concerns() {
    let (mut world, _, chief) = world();
    let admin = world.admin;
    let alice = world.named(Kind::User, "alice").id;
    world.tenant("globex", "bob");
    let (bob, plain) = (
        world.named(Kind::User, "bob").id,
        world.user("plain", Some("acme")),
    );
    let missing = ErrorCode::NotFound;
    holds(&world, plain, &asked(None, None)).unwrap();
    holds(&world, plain, &asked(Some("plain"), None)).unwrap();
    let of_tenant = holds(&world, plain, &asked(None, Some("acme")));
    refuses(of_tenant, ErrorCode::Forbidden, "tenant_config.read");
    refuses(
        holds(&world, plain, &asked(Some("alice"), None)),
        missing,
        "user",
    );
    holds(&world, alice, &asked(None, Some("acme"))).unwrap();
    refuses(
        holds(&world, alice, &asked(None, Some("globex"))),
        missing,
        "tenant",
    );
    holds(&world, chief, &asked(Some("alice"), None)).unwrap();
    refuses(
        holds(&world, chief, &asked(Some("bob"), None)),
        missing,
        "user",
    );
    refuses(
        holds(&world, bob, &asked(Some("alice"), None)),
        missing,
        "user",
    );
    let elsewhere = asked(Some("bob"), Some("acme"));
    refuses(holds(&world, admin, &elsewhere), missing, "user");
    let hers = holds(&world, admin, &asked(Some("alice"), None)).unwrap();
    assert_eq!(hers["user_id"], json!(alice));
    let seen = world.bind("plain", "security_admin", "tenant/acme");
    let seen_only = holds(&world, plain, &asked(Some("alice"), None));
    refuses(seen_only, ErrorCode::Forbidden, "user_config.read");
    world.delete(admin, Kind::RoleBinding, seen).unwrap();
    let mut other = asked(None, None);
    other.sub_scope = Some("tools".into());
    refuses(holds(&world, alice, &other), missing, "genai.policy/tools");
}

fn boxes(world: &World, id: ObjectId) -> Value {
    status(world, id)["sealed_values"].clone()
}

#[test]
fn a_secret_is_kept_in_a_box_and_its_mask_keeps_it() {
    let (mut world, cloud, chief) = world();
    let admin = world.admin;
    let own = of_tenant(&mut world, chief, json!({"api_key": "abc"})).unwrap();
    let kept = |world: &World| spec(world, own)["values"]["api_key"].clone();
    assert_eq!(kept(&world), json!({"secret": 1}));
    let first = json!({"api_key": format!("tenant_config/{own}/api_key:cba")});
    assert_eq!(boxes(&world, own), first);
    let mask = json!({"description": "ours", "values": {"api_key": {"secret": 1}}});
    world.patch(chief, Kind::TenantConfig, own, mask).unwrap();
    assert_eq!(
        (kept(&world), boxes(&world, own)),
        (json!({"secret": 1}), first)
    );
    let next = json!({"values": {"api_key": "def"}});
    world.patch(chief, Kind::TenantConfig, own, next).unwrap();
    assert_eq!(kept(&world), json!({"secret": 3}), "set in generation 3");
    let second = json!({"api_key": format!("tenant_config/{own}/api_key:fed")});
    assert_eq!(boxes(&world, own), second);
    for other in [
        json!({"secret": 1}),
        json!({"secret": 4}),
        json!(["x"]),
        json!(7),
    ] {
        let other = json!({"values": {"api_key": other}});
        let other = world.patch(chief, Kind::TenantConfig, own, other);
        refuses_field(other, "spec.values.api_key");
    }
    let long = json!({"values": {"api_key": "k".repeat(4097)}});
    let long = world.patch(chief, Kind::TenantConfig, own, long);
    refuses_field(long, "spec.values.api_key");
    let none = json!({"values": {"api_key": null}});
    world.patch(chief, Kind::TenantConfig, own, none).unwrap();
    assert_eq!(boxes(&world, own), Value::Null);
    let mask = json!({"values": {"api_key": {"secret": 3}}});
    let gone = world.patch(chief, Kind::TenantConfig, own, mask.clone());
    refuses_field(gone, "spec.values.api_key");
    let new = json!({"scope": "a.b", "schema": {"api_key": {"merge": "override", "secret": true}}, "values": {"api_key": {"secret": 1}}});
    let new = world.create_as(admin, Kind::SystemConfig, "", new);
    refuses_field(new, "spec.values.api_key");
    let of_cloud = json!({"values": {"api_key": "clouds"}});
    world
        .patch(admin, Kind::SystemConfig, cloud, of_cloud)
        .unwrap();
    let of_cloud = json!({"api_key": format!("system_config/{cloud}/api_key:sduolc")});
    assert_eq!(boxes(&world, cloud), of_cloud);
    let found = holds(&world, chief, &asked(None, None)).unwrap();
    assert_eq!(found["values"]["api_key"], json!({"secret": 2}));
    let field = json!({"merge": "override", "secret": true, "from": ["system"], "ignored": []});
    assert_eq!(found["fields"]["api_key"], field);
}

/// Once it is sealed, nothing that is written or answered has it.
#[test]
fn no_changeset_and_no_answer_has_a_secret() {
    let (mut world, _, chief) = world();
    const FIRST: &str = "the first secret";
    const SECOND: &str = "the second secret";
    let mut own = None;
    for secret in [FIRST, SECOND] {
        let values = json!({"api_key": secret});
        let request = match own {
            None => create(Kind::TenantConfig, "", None, layer(values)),
            Some(own) => patch(Kind::TenantConfig, own, json!({"values": values})),
        };
        let (changeset, reply) = decide(&world.state, &world.cx(chief), &request).unwrap();
        let bytes = changeset.encode();
        let is_in = |text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
        assert!(is_in("api_key") && !is_in(secret), "{changeset:?}");
        let told = format!("{reply:?}");
        assert!(
            !told.contains(secret) && !told.contains("sealed_values"),
            "{told}"
        );
        own = reply.object_id;
        world.commit(&changeset).unwrap();
    }
    let query = asked(None, None);
    let told = holds(&world, chief, &query).unwrap().to_string();
    assert!(
        !told.contains("secret secret") && !told.contains(SECOND),
        "{told}"
    );
}

#[test]
fn a_field_turns_secret_only_while_nobody_has_a_value_of_it() {
    let (mut world, cloud, chief) = world();
    let admin = world.admin;
    let rule = |field: &str, secret: bool| {
        let rule = json!({"merge": "override", "secret": secret});
        json!({"schema": {field: rule}})
    };
    let turn = |world: &mut World, field: &str, secret: bool| {
        world.patch(admin, Kind::SystemConfig, cloud, rule(field, secret))
    };
    let says = "would become secret";
    let own_value = turn(&mut world, "default_fallback", true);
    refuses(own_value, ErrorCode::Conflict, says);
    let none = json!({"values": {"default_fallback": null}});
    let own = of_tenant(
        &mut world,
        chief,
        json!({"default_fallback": "x", "api_key": "k"}),
    );
    let own = own.unwrap();
    world
        .patch(admin, Kind::SystemConfig, cloud, none.clone())
        .unwrap();
    let below = turn(&mut world, "default_fallback", true);
    refuses(below, ErrorCode::Conflict, says);
    let back = turn(&mut world, "api_key", false);
    refuses(back, ErrorCode::Conflict, "would cease to be secret");
    world.patch(chief, Kind::TenantConfig, own, none).unwrap();
    turn(&mut world, "default_fallback", true).unwrap();
    let subset = json!({"schema": {"token": {"secret": true}}});
    let subset = world.patch(admin, Kind::SystemConfig, cloud, subset);
    refuses_field(subset, "spec.schema.token.merge");
    let many: serde_json::Map<String, Value> = (0..33)
        .map(|n| {
            (
                format!("s{n}"),
                json!({"merge": "override", "secret": true}),
            )
        })
        .collect();
    let many = json!({"scope": "a.b", "schema": many});
    let many = world.create_as(admin, Kind::SystemConfig, "", many);
    refuses_field(many, "spec.schema");
}

#[test]
fn a_secret_is_told_to_who_may_know_it_and_that_is_on_record() {
    let (mut world, _, chief) = world();
    let alice = world.named(Kind::User, "alice").id;
    let own = of_tenant(&mut world, chief, json!({"api_key": "abc"})).unwrap();
    let hers = of_user(&mut world, alice, json!({"api_key": "hers"})).unwrap();
    let reveal = |kind: Kind, target: ObjectId| {
        Request::Reveal(Reveal {
            kind,
            target: target.to_string(),
            tenant: None,
        })
    };
    let of_acme = reveal(Kind::TenantConfig, own);
    let refused = world.ask(alice, &of_acme);
    refuses(refused, ErrorCode::Forbidden, "tenant_config.manage");
    let before = world.state.stream(AUDIT_STREAM).count;
    let reply = world.ask(chief, &of_acme).unwrap();
    let told = json!({"api_key": format!("tenant_config/{own}/api_key:cba")});
    assert_eq!(reply.extra[SEALED], told);
    assert_eq!(world.state.stream(AUDIT_STREAM).count, before + 1);
    let reply = world.ask(alice, &reveal(Kind::UserConfig, hers)).unwrap();
    let told = json!({"api_key": format!("user_config/{hers}/api_key:sreh")});
    assert_eq!(reply.extra[SEALED], told, "one's own");
}

/// Small values, so that layers often have the same ones.
fn any_value() -> impl Strategy<Value = Value> {
    let word = prop_oneof![Just("a"), Just("b"), Just("c")];
    let plain = prop_oneof![
        word.clone().prop_map(Value::from),
        (0..2).prop_map(Value::from)
    ];
    plain.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What a reader of the rule calls not wider.
fn is_within(over: &Value, below: &Value) -> bool {
    match (over, below) {
        (Value::Array(over), Value::Array(below)) => below.iter().all(|item| over.contains(item)),
        (Value::Object(over), Value::Object(below)) => below
            .iter()
            .all(|(name, part)| over.get(name).is_some_and(|over| is_within(over, part))),
        (over, below) => over == below,
    }
}

proptest! {
    /// Whatever the layers hold, however they came to hold it; and what is refused when it is written is just what
    /// would be left out.
    #[test]
    fn what_is_effective_is_never_wider_than_what_is_above(
        found in prop::collection::vec(prop::option::of(any_value()), 3)
    ) {
        let of = [LayerOf::System, LayerOf::Tenant, LayerOf::User];
        let layers: Vec<Values> = found
            .into_iter()
            .map(|value| value.map(|value| ("f".to_owned(), value)).into_iter().collect())
            .collect();
        let layers: Vec<(LayerOf, &Values)> = of.into_iter().zip(&layers).collect();
        let effective = |depth: usize| effective_field(MergeRule::Subset, &layers[..depth], "f");
        for depth in 1..3 {
            let (over, below) = (effective(depth), effective(depth + 1));
            match (&over.value, &below.value) {
                (Some(over), Some(below)) => prop_assert!(is_within(over, below), "{over} {below}"),
                (None, Some(below)) => prop_assert!(false, "{below} out of nothing"),
                (_, None) => prop_assert_eq!(&over.value, &None),
            }
            let (layer, values) = layers[depth];
            let taken = check_narrowing(&Schema::new(), &layers[..depth], values);
            prop_assert_eq!(taken.is_err(), below.ignored.contains(&layer));
        }
    }
}
