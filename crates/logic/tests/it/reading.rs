//! Lists, cursors, reports, and the verifier that finds what was planted.

use serde_json::{Value, json};
use virtflow_logic::{
    ListQuery, Request, capacity, cluster_view, list, verify_footprints, verify_report, views,
    whoami,
};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, ObjectId};

use crate::world::World;

#[test]
fn pages_go_on_where_the_last_ended_and_miss_nothing() {
    let (mut world, _host) = World::furnished();
    let made: Vec<ObjectId> = (0..7)
        .map(|n| world.create(Kind::Rack, &format!("rack-{n}"), json!({})))
        .collect();
    let mut query = ListQuery::of(Kind::Rack);
    query.limit = 3;
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let page = list(&world.state, &world.cx(world.admin), &query).unwrap();
        pages += 1;
        seen.extend(
            page.objects
                .iter()
                .map(|o| o["id"].as_str().unwrap().to_owned()),
        );
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    // `r1` of the furniture is the eighth.
    assert_eq!((seen.len(), pages), (8, 3));
    assert!(made.iter().all(|id| seen.contains(&id.to_string())));

    query.name = Some("rack-1".into());
    assert_eq!(
        list(&world.state, &world.cx(world.admin), &query)
            .unwrap_err()
            .code,
        ErrorCode::Invalid
    );
    for forged in ["", "zz", &"0".repeat(48), "é"] {
        query.cursor = Some(forged.into());
        let error = list(&world.state, &world.cx(world.admin), &query).unwrap_err();
        assert_eq!(error.fields[0].field, "cursor", "{forged}");
    }
    query.cursor = None;
    query.limit = 1001;
    assert!(list(&world.state, &world.cx(world.admin), &query).is_err());
}

#[test]
fn filters_name_what_they_say() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(
            alice,
            "a",
            json!({"specification": "small", "labels": {"app": "web"}}),
        )
        .unwrap();
    world
        .vm(alice, "b", json!({"specification": "small"}))
        .unwrap();
    world.place();
    world
        .vm(alice, "c", json!({"specification": "small"}))
        .unwrap();
    let names = |change: &dyn Fn(&mut ListQuery)| {
        let mut query = ListQuery::of(Kind::VirtualMachine);
        change(&mut query);
        let page = list(&world.state, &world.cx(world.admin), &query).unwrap();
        let names = page
            .objects
            .iter()
            .map(|o| o["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&|_| {}), "a b c");
    assert_eq!(names(&|q| q.phase = Some("pending".into())), "c");
    assert_eq!(names(&|q| q.label = Some("app=web".into())), "a");
    assert_eq!(names(&|q| q.host = Some("host-sn-1".into())), "a b");
    assert_eq!(names(&|q| q.tenant = Some("acme".into())), "a b c");
    assert_eq!(names(&|q| q.group = Some("g1".into())), "a b");
    assert_eq!(names(&|q| q.name = Some("b".into())), "b");
    assert_eq!(
        names(&|q| (q.host, q.phase) = (Some(host.id.to_string()), Some("pending".into()))),
        ""
    );
    let mut hosts = ListQuery::of(Kind::Baremetal);
    hosts.state = Some("online".into());
    assert_eq!(
        list(&world.state, &world.cx(world.admin), &hosts)
            .unwrap()
            .objects
            .len(),
        1
    );
    hosts.state = Some("cordoned".into());
    assert!(
        list(&world.state, &world.cx(world.admin), &hosts)
            .unwrap()
            .objects
            .is_empty()
    );
    let mut bindings = ListQuery::of(Kind::RoleBinding);
    bindings.subject = Some("alice".into());
    let page = list(&world.state, &world.cx(world.admin), &bindings).unwrap();
    assert_eq!(
        page.objects[0]["names"],
        json!({"created_by": "admin", "updated_by": "admin", "tenant": "acme", "role": "developer", "scope": "acme", "subject": "alice"})
    );
}

#[test]
fn reports_add_up() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world
        .vm(alice, "a", json!({"specification": "small"}))
        .unwrap();
    world.place();
    world.settle(&host);
    let admin = world.cx(world.admin);
    let report = capacity(&world.state, &admin).unwrap();
    let group = &report["groups"][0];
    assert_eq!(
        group["total"],
        json!({"cpu_milli": 16000, "memory_mib": 8192, "storage_gib": 100, "gpus": 0})
    );
    assert_eq!(
        group["allocated"],
        json!({"cpu_milli": 1000, "memory_mib": 128, "storage_gib": 1, "gpus": 0})
    );
    assert_eq!(
        group["hosts"][0]["available"],
        json!({"cpu_milli": 15000, "memory_mib": 8064, "storage_gib": 99, "gpus": 0})
    );
    let view = cluster_view(&world.state, &admin).unwrap();
    assert_eq!(
        (&view["hosts"], &view["vms"]),
        (&json!({"online": 1}), &json!({"running": 1}))
    );
    assert!(cluster_view(&world.state, &world.cx(alice)).is_err());
    assert!(verify_report(&world.state, &world.cx(alice)).is_err());
    assert_eq!(
        verify_report(&world.state, &admin).unwrap()["divergences"],
        json!([])
    );
    let me = whoami(&world.state, &world.cx(alice)).unwrap();
    assert_eq!(
        (&me["user"]["name"], &me["roles"][0]["scope"]),
        (&json!("alice"), &json!("acme"))
    );
}

#[test]
fn a_planted_charge_is_found() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let vm = world
        .vm(alice, "a", json!({"specification": "small"}))
        .unwrap()
        .object_id
        .unwrap();
    let rows = world.state.objects().map(|object| {
        let mut object = (**object).clone();
        if object.id == vm {
            // As if somebody had edited the row in the database: the VM pays for half of its memory.
            let mut print = object.footprint.clone();
            for charge in print
                .charges
                .iter_mut()
                .filter(|charge| charge.account.dimension == "memory_mib")
            {
                charge.amount /= 2;
            }
            object.footprint = print;
        }
        object
    });
    let planted = virtflow_state::State::from_parts(
        world.state.cluster_id(),
        world.state.incarnation(),
        world.state.cluster_version(),
        world.state.index(),
        rows.collect::<Vec<_>>(),
        world
            .state
            .streams()
            .map(|(name, head)| (name.clone(), *head)),
    )
    .unwrap();
    assert_eq!(
        virtflow_state::verify(&planted),
        [],
        "the ledgers follow from the rows"
    );
    let found = verify_footprints(&planted);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].object, vm);
    let of = |line: &str| line.replace(&vm.to_string(), "ID");
    let line = of(&found[0].to_string());
    let text = "virtual_machine `a` (ID): charge on tenant `acme` memory_mib: the row gives 128, stored is 64";
    assert_eq!(line, text);
    assert_ne!(planted.digest(), world.state.digest());
}

#[test]
fn every_kind_has_a_view_without_hashes() {
    let views = views();
    assert_eq!(views.len(), Kind::ALL.len());
    for view in &views {
        let mut columns: Vec<_> = view.columns.iter().map(|c| c.column.as_str()).collect();
        let count = columns.len();
        columns.sort_unstable();
        columns.dedup();
        assert_eq!(columns.len(), count, "{} has a column twice", view.kind);
        assert!(
            !columns
                .iter()
                .any(|column| column.ends_with("_hash") && *column != "request_hash")
        );
    }
    let vm = views
        .iter()
        .find(|view| view.kind == "virtual_machine")
        .unwrap();
    let phase = vm
        .columns
        .iter()
        .find(|column| column.column == "phase")
        .unwrap();
    assert_eq!(phase.path, "$.status.phase");
}

#[test]
fn quotas_are_listed_by_their_tenant_too() {
    let (mut world, _host) = World::furnished();
    world.tenant("globex", "bob");
    let mut query = ListQuery::of(Kind::BaremetalGroupTenantQuota);
    query.tenant = Some("acme".into());
    let page = list(&world.state, &world.cx(world.admin), &query).unwrap();
    let tenants: Vec<_> = page.objects.iter().map(|o| &o["names"]["tenant"]).collect();
    assert_eq!(tenants, [&json!("acme")]);
}

#[test]
fn lists_by_group_state_and_phase_hold_what_is_so_and_nothing_else() {
    let (mut world, first) = World::furnished();
    world.create(Kind::BaremetalGroup, "g2", json!({"data_center": "dc1"}));
    let second = world.host("SN-2", 4000, 8192, 100);
    world.offline(&second);
    let act = virtflow_logic::HostAct {
        target: first.id.to_string(),
        act: virtflow_logic::HostVerb::Cordon,
    };
    let alice = world.named(Kind::User, "alice").id;
    let small = json!({"specification": "small"});
    let ran = world.vm(alice, "ran", small.clone()).unwrap();
    world.place();
    world.settle(&first);
    world.ask(world.admin, &Request::Host(act)).unwrap();
    let waits = world.vm(alice, "waits", small).unwrap();
    let admin = world.cx(world.admin);
    let found = |query: ListQuery| -> Vec<String> {
        let page = list(&world.state, &admin, &query).unwrap();
        let ids = page.objects.iter().map(|object| object["id"].as_str());
        ids.map(|id| id.unwrap().to_owned()).collect()
    };
    let ids = |ids: &[ObjectId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let some = |text: &str| Some(text.to_owned());
    let hosts = |group: Option<String>, state: Option<String>| {
        found(ListQuery {
            group,
            state,
            ..ListQuery::of(Kind::Baremetal)
        })
    };
    assert_eq!(hosts(some("g1"), None), ids(&[first.id, second.id]));
    assert_eq!(hosts(some("g2"), None), ids(&[]));
    assert_eq!(hosts(None, some("offline")), ids(&[second.id]));
    assert_eq!(hosts(some("g1"), some("cordoned")), ids(&[first.id]));
    assert_eq!(hosts(some("g2"), some("cordoned")), ids(&[]));
    let named = |group: &str| {
        found(ListQuery {
            group: some(group),
            name: some("host-sn-1"),
            ..ListQuery::of(Kind::Baremetal)
        })
    };
    assert_eq!((named("g1"), named("g2")), (ids(&[first.id]), ids(&[])));
    let vms = |group: Option<String>, tenant: Option<String>, phase: &str| {
        found(ListQuery {
            group,
            tenant,
            phase: some(phase),
            ..ListQuery::of(Kind::VirtualMachine)
        })
    };
    let (ran, waits) = (ran.object_id.unwrap(), waits.object_id.unwrap());
    assert_eq!(vms(None, some("acme"), "running"), ids(&[ran]));
    assert_eq!(vms(None, some("acme"), "pending"), ids(&[waits]));
    assert_eq!(vms(None, some("acme"), "error"), ids(&[]));
    assert_eq!(vms(some("g1"), None, "running"), ids(&[ran]));
    assert_eq!(vms(some("g2"), None, "running"), ids(&[]));
    assert_eq!(
        vms(some("g1"), None, "pending"),
        ids(&[]),
        "it is in no group yet"
    );
    let operations = |tenant: Option<String>, far: &str| {
        found(ListQuery {
            tenant,
            state: some(far),
            ..ListQuery::of(Kind::Operation)
        })
        .len()
    };
    assert_eq!(operations(some("acme"), "completed"), 1);
    assert_eq!(operations(some("acme"), "pending"), 1);
    assert_eq!(operations(some("acme"), "failed"), 0);
}

#[test]
fn groups_and_data_centres_are_told_with_what_their_hosts_have_to_who_may_know() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    world.create(Kind::DataCenter, "dc2", json!({}));
    world.create(Kind::Rack, "r2", json!({"data_center": "dc2"}));
    let away = world.host("SN-2", 1000, 1024, 10);
    let admin = world.admin;
    world
        .patch(admin, Kind::Baremetal, away.id, json!({"rack": "r2"}))
        .unwrap();
    let pinned = json!({"specification": "small", "pinned_host": host.id});
    let made = crate::asking::create(Kind::VirtualMachine, "a", Some("acme"), pinned);
    world.ask(admin, &made).unwrap();
    world.place();
    let told = |world: &World, user, kind, name: &str| {
        let mut query = ListQuery::of(kind);
        query.name = Some(name.into());
        let cx = world.cx(user);
        let listed = list(&world.state, &cx, &query).unwrap().objects;
        let text = virtflow_logic::list_text(&world.state, &cx, &query).unwrap();
        let text: Value = serde_json::from_str(&text.objects).unwrap();
        assert_eq!(text, json!(listed));
        let object = world.named(kind, name);
        let one = virtflow_logic::shown(&world.state, &cx, &object).unwrap();
        assert_eq!(one, listed[0]);
        listed[0]["status"]["capacity"].clone()
    };
    let room = |cpu: u64, memory: u64, storage: u64| json!({"cpu_milli": cpu, "memory_mib": memory, "storage_gib": storage, "gpus": 0});
    assert_eq!(
        told(&world, admin, Kind::BaremetalGroup, "g1"),
        json!({"hosts": 2, "total": room(20_000, 9216, 110), "allocated": room(1000, 128, 1),
               "available": room(19_000, 9088, 109)})
    );
    // The one without a rack stands where its group does.
    assert_eq!(
        told(&world, admin, Kind::DataCenter, "dc1"),
        json!({"hosts": 1, "total": room(16_000, 8192, 100), "allocated": room(1000, 128, 1),
               "available": room(15_000, 8064, 99)})
    );
    let other = told(&world, admin, Kind::DataCenter, "dc2");
    assert_eq!(
        (&other["hosts"], &other["total"]),
        (&json!(1), &room(4000, 1024, 10))
    );
    // A tenant sees the group that it has a quota in, and nothing of what others take of it.
    for (kind, name) in [(Kind::BaremetalGroup, "g1"), (Kind::DataCenter, "dc1")] {
        assert_eq!(told(&world, alice, kind, name), Value::Null);
    }
    // Nothing of it is stored.
    for kind in ["baremetal_group", "data_center"] {
        let mut stored = world.state.of_kind(kind, None);
        assert!(stored.all(|object| !object.status.contains("capacity")));
    }
}

#[test]
fn what_users_and_groups_take_is_told_with_the_levels_above() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let admin = world.admin;
    let group = |name: &str, above: Value| {
        crate::asking::create(Kind::UserGroup, name, Some("acme"), above)
    };
    world
        .ask(admin, &group("lab", json!({"quota": {"vms": 3}})))
        .unwrap();
    world
        .ask(admin, &group("team", json!({"parent_group": "lab"})))
        .unwrap();
    let member = json!({"user_group": "team", "user": "alice"});
    let member = crate::asking::create(Kind::UserGroupMember, "", None, member);
    world.ask(admin, &member).unwrap();
    world
        .vm(alice, "a", json!({"specification": "small"}))
        .unwrap();
    let usage = |world: &World, user, kind, name: &str| {
        let cx = world.cx(user);
        let told = virtflow_logic::usage_of_level(&world.state, &cx, kind, name, None)?;
        let levels = told["levels"].as_array().unwrap().clone();
        let levels = levels.iter().map(|level| {
            let word = |field: &str| level[field].as_str().unwrap().to_owned();
            let vms = &level["accounts"]["vms"];
            (
                word("kind"),
                word("name"),
                vms["used"].clone(),
                vms["limit"].clone(),
            )
        });
        Ok::<_, virtflow_types::Error>(levels.collect::<Vec<_>>())
    };
    let level =
        |kind: &str, name: &str, limit: Value| (kind.to_owned(), name.to_owned(), json!(1), limit);
    let above = [
        level("user_group", "team", Value::Null),
        level("user_group", "lab", json!(3)),
        level("tenant", "acme", json!(5)),
    ];
    assert_eq!(
        usage(&world, admin, Kind::UserGroup, "team").unwrap(),
        above
    );
    let of_alice = usage(&world, admin, Kind::User, "alice").unwrap();
    assert_eq!(of_alice[0], level("user", "alice", Value::Null));
    assert_eq!(of_alice[1..], above);
    // Everybody knows what they take themselves; others' is for who may see them.
    let own = usage(&world, alice, Kind::User, "alice").unwrap();
    assert_eq!(own[0], level("user", "alice", Value::Null));
    let carol = world.user("carol", Some("acme"));
    assert!(usage(&world, carol, Kind::User, "alice").is_err());
    world.tenant("globex", "bob");
    let bob = world.named(Kind::User, "bob").id;
    assert!(usage(&world, bob, Kind::UserGroup, "team").is_err());
}
