//! Users' preferences, and who looks after what.

use serde_json::{Value, json};
use virtflow_logic::{ListQuery, get, list};
use virtflow_model::Kind;
use virtflow_state::{Object, Refused};
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, delete, field_of, patch};
use crate::world::World;

fn spec_of(object: &Object) -> Value {
    serde_json::from_str(&object.spec).unwrap()
}

#[test]
fn preferences_are_their_users_own_and_there_is_one_of_them() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let carol = world.user("carol", Some("acme"));
    let mine = create(
        Kind::UserPreferences,
        "",
        None,
        json!({"dashboard": {"default_view": "vms"}}),
    );
    let refused = world.contest(carol, [&mine, &mine]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
    let error = world.ask(carol, &mine).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    let theirs = world
        .state
        .of_kind(Kind::UserPreferences.name(), None)
        .next()
        .unwrap()
        .clone();
    assert_eq!(theirs.parent, Some(carol), "the asker's");
    let read = |world: &World, user| {
        get(
            &world.state,
            &world.cx(user),
            Kind::UserPreferences,
            &theirs.id.to_string(),
            None,
        )
    };
    assert_eq!(
        spec_of(&read(&world, carol).unwrap())["notifications"]["email"],
        true
    );
    assert_eq!(
        read(&world, alice).unwrap_err().code,
        ErrorCode::NotFound,
        "of the same tenant, but somebody else"
    );
    let quiet = patch(
        Kind::UserPreferences,
        theirs.id,
        json!({"notifications": {"email": false}}),
    );
    assert_eq!(
        world.ask(alice, &quiet).unwrap_err().code,
        ErrorCode::NotFound
    );
    world.ask(carol, &quiet).unwrap();
    let hasty = patch(
        Kind::UserPreferences,
        theirs.id,
        json!({"dashboard": {"refresh_interval_s": 1}}),
    );
    let error = world.ask(carol, &hasty).unwrap_err();
    assert_eq!(field_of(&error), "spec.dashboard.refresh_interval_s");
    let foisted = create(Kind::UserPreferences, "", None, json!({"user": "alice"}));
    let error = world.ask(carol, &foisted).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);

    world.ask(world.admin, &delete(Kind::User, carol)).unwrap();
    assert!(world.state.get(theirs.id).is_none());
}

/// `ada` and `bert`, who manages and is in `storage`; a rack to look after.
struct Crew {
    world: World,
    ada: ObjectId,
    bert: ObjectId,
    storage: ObjectId,
    rack: ObjectId,
}

impl Crew {
    fn new() -> Self {
        let (mut world, _host) = World::furnished();
        let ada = world.create(Kind::Maintainer, "ada", json!({"account": "ada.l"}));
        let bert = world.create(Kind::Maintainer, "bert", json!({"account": "bert.b"}));
        let storage = json!({"manager": "bert"});
        let storage = world.create(Kind::MaintainerGroup, "storage", storage);
        let rack = world.named(Kind::Rack, "r1").id;
        Self {
            world,
            ada,
            bert,
            storage,
            rack,
        }
    }

    fn member(&mut self, maintainer: &str) -> ObjectId {
        let spec = json!({"maintainer_group": "storage", "maintainer": maintainer});
        self.world.create(Kind::MaintainerGroupMember, "", spec)
    }

    fn assignments(&self, end: ObjectId) -> usize {
        self.assignments_of(&end.to_string()).unwrap()
    }

    fn assignments_of(&self, end: &str) -> Result<usize, virtflow_types::Error> {
        let mut query = ListQuery::of(Kind::ResourceMaintainer);
        query.references.push(("resource".into(), end.into()));
        let page = list(&self.world.state, &self.world.cx(self.world.admin), &query)?;
        Ok(page.objects.len())
    }
}

#[test]
fn an_account_is_one_maintainers() {
    let mut crew = Crew::new();
    let admin = crew.world.admin;
    let again = create(Kind::Maintainer, "ada-2", None, json!({"account": "ADA.L"}));
    let error = crew.world.ask(admin, &again).unwrap_err();
    assert_eq!(error.code, ErrorCode::AlreadyExists);
    assert!(error.message.contains("ada.l"), "{}", error.message);
    let other = create(Kind::Maintainer, "cleo", None, json!({"account": "cleo"}));
    let twin = create(Kind::Maintainer, "cleo-2", None, json!({"account": "Cleo"}));
    let refused = crew.world.contest(admin, [&other, &twin]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
    for (spec, field) in [
        (json!({"account": " "}), "spec.account"),
        (json!({"account": "x", "email": "nobody"}), "spec.email"),
    ] {
        let request = create(Kind::Maintainer, "x", None, spec);
        let error = crew.world.ask(admin, &request).unwrap_err();
        assert_eq!(field_of(&error), field);
    }
}

#[test]
fn a_group_keeps_its_manager_and_loses_members_who_go() {
    let mut crew = Crew::new();
    let admin = crew.world.admin;
    let membership = crew.member("ada");
    let spec = json!({"maintainer_group": "storage", "maintainer": "bert"});
    let join = create(Kind::MaintainerGroupMember, "", None, spec);
    let refused = crew.world.contest(admin, [&join, &join]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
    let error = crew
        .world
        .ask(admin, &delete(Kind::Maintainer, crew.bert))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert!(error.message.contains("storage"), "{}", error.message);
    crew.world
        .ask(admin, &delete(Kind::Maintainer, crew.ada))
        .unwrap();
    assert!(crew.world.state.get(membership).is_none());
    crew.world
        .ask(admin, &delete(Kind::MaintainerGroup, crew.storage))
        .unwrap();
    let left = crew.world.state.of_kind("maintainer_group_member", None);
    assert_eq!(left.count(), 0);
    crew.world
        .ask(admin, &delete(Kind::Maintainer, crew.bert))
        .unwrap();
}

#[test]
fn an_object_is_assigned_to_exactly_one_that_exists_and_is_active() {
    let mut crew = Crew::new();
    let admin = crew.world.admin;
    let assign = |spec| create(Kind::ResourceMaintainer, "", None, spec);
    for (spec, field) in [
        (json!({"resource": "rack/r1"}), "spec.maintainer"),
        (
            json!({"resource": "rack/r1", "maintainer": "ada", "maintainer_group": "storage"}),
            "spec.maintainer_group",
        ),
        (
            json!({"resource": "r1", "maintainer": "ada"}),
            "spec.resource",
        ),
        (
            json!({"resource": "system", "maintainer": "ada"}),
            "spec.resource",
        ),
    ] {
        let error = crew.world.ask(admin, &assign(spec)).unwrap_err();
        assert_eq!(field_of(&error), field);
    }
    for spec in [
        json!({"resource_id": ObjectId::generate(), "maintainer": "ada"}),
        json!({"resource": "rack/r2", "maintainer": "ada"}),
        json!({"resource": "rack/r1", "maintainer": "nobody"}),
        json!({"resource": "rack/r1", "maintainer_group_id": crew.ada}),
    ] {
        let error = crew.world.ask(admin, &assign(spec)).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
    }
    let good = assign(json!({"resource": "rack/r1", "maintainer": "ada"}));
    let refused = crew.world.contest(admin, [&good, &good]);
    assert!(
        matches!(refused, Some(Refused::Claimed { .. })),
        "{refused:?}"
    );
    let idle = patch(Kind::Maintainer, crew.bert, json!({"state": "inactive"}));
    crew.world.ask(admin, &idle).unwrap();
    let late = assign(json!({"resource": "rack/r1", "maintainer": "bert"}));
    let error = crew.world.ask(admin, &late).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.contains("inactive"), "{}", error.message);
}

#[test]
fn an_assignment_goes_when_either_end_goes_and_keeps_neither() {
    let mut crew = Crew::new();
    let admin = crew.world.admin;
    let alice = crew.world.named(Kind::User, "alice").id;
    let vm = crew
        .world
        .vm(alice, "web-1", json!({"specification": "small"}));
    let vm = vm.unwrap().object_id.unwrap();
    for spec in [
        json!({"resource_id": vm, "maintainer": "ada"}),
        json!({"resource_id": crew.rack, "maintainer": "ada"}),
        json!({"resource_id": crew.rack, "maintainer_group": "storage"}),
    ] {
        crew.world.create(Kind::ResourceMaintainer, "", spec);
    }
    let of = |crew: &Crew| [vm, crew.ada, crew.rack, crew.storage].map(|end| crew.assignments(end));
    assert_eq!(of(&crew), [1, 2, 2, 1]);
    for (named, count) in [("rack/r1", 2), ("vm/web-1", 1), ("maintainer/bert", 0)] {
        assert_eq!(crew.assignments_of(named).unwrap(), count, "{named}");
    }
    let error = crew.assignments_of("rack/nowhere").unwrap_err();
    assert_eq!(error.message, "no rack `nowhere`");
    for unsaid in ["r1", "nothing/r1"] {
        let error = crew.assignments_of(unsaid).unwrap_err();
        assert_eq!(field_of(&error), "resource");
    }
    crew.world
        .ask(alice, &delete(Kind::VirtualMachine, vm))
        .unwrap();
    crew.world.loops();
    assert_eq!(of(&crew), [0, 1, 2, 1]);
    crew.world
        .ask(admin, &delete(Kind::Maintainer, crew.ada))
        .unwrap();
    crew.world.loops();
    assert_eq!(of(&crew), [0, 0, 1, 1]);
    crew.world
        .ask(admin, &delete(Kind::MaintainerGroup, crew.storage))
        .unwrap();
    crew.world.loops();
    assert_eq!(of(&crew), [0, 0, 0, 0]);
}

#[test]
fn who_has_rights_over_an_object_sees_that_it_is_looked_after() {
    let mut crew = Crew::new();
    let carol = crew.world.user("carol", Some("acme"));
    crew.world.bind("carol", "tenant_admin", "tenant/acme");
    let alice = crew.world.named(Kind::User, "alice").id;
    let vm = crew
        .world
        .vm(alice, "web-1", json!({"specification": "small"}));
    let vm = vm.unwrap().object_id.unwrap();
    for resource in [vm, crew.rack] {
        let spec = json!({"resource_id": resource, "maintainer": "ada"});
        crew.world.create(Kind::ResourceMaintainer, "", spec);
    }
    let seen = list(
        &crew.world.state,
        &crew.world.cx(carol),
        &ListQuery::of(Kind::ResourceMaintainer),
    );
    let seen = seen.unwrap().objects;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["spec"]["resource_id"], vm.to_string());
    let spec = json!({"resource_id": vm, "maintainer_id": crew.ada});
    let error = crew
        .world
        .ask(carol, &create(Kind::ResourceMaintainer, "", None, spec))
        .unwrap_err();
    assert_eq!(
        error.code,
        ErrorCode::NotFound,
        "maintainers are the cloud's"
    );
}

/// A cursor belongs to its question: that of one object's assignments does not go on in another's.
#[test]
fn pages_of_assignments_are_of_one_object() {
    let mut crew = Crew::new();
    for who in ["ada", "bert"] {
        let spec = json!({"resource": "rack/r1", "maintainer": who});
        crew.world.create(Kind::ResourceMaintainer, "", spec);
    }
    let of = |resource: ObjectId, cursor: Option<String>| {
        let mut query = ListQuery::of(Kind::ResourceMaintainer);
        query
            .references
            .push(("resource".into(), resource.to_string()));
        (query.limit, query.cursor) = (1, cursor);
        list(&crew.world.state, &crew.world.cx(crew.world.admin), &query)
    };
    let first = of(crew.rack, None).unwrap();
    let next = of(crew.rack, first.next_cursor.clone()).unwrap();
    assert_eq!((first.objects.len(), next.objects.len()), (1, 1));
    let error = of(crew.ada, first.next_cursor).unwrap_err();
    assert_eq!(field_of(&error), "cursor");
}
