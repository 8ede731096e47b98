//! Who sees templates and images: whoever may read them, or of those the members of some groups.

use serde_json::{Value, json};
use virtflow_logic::{ListQuery, get, list};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, refuses_field};
use crate::world::World;

/// `acme` with its administrator `alice`, and two who may only read there: `dana`, who is in the group `lab`, and `erik`.
struct House {
    world: World,
    alice: ObjectId,
    dana: ObjectId,
    erik: ObjectId,
    lab: ObjectId,
}

impl House {
    fn new() -> Self {
        let (mut world, _host) = World::furnished();
        world.bind("alice", "tenant_admin", "tenant/acme");
        let [dana, erik] = ["dana", "erik"].map(|name| {
            let id = world.user(name, Some("acme"));
            world.bind(name, "viewer", "tenant/acme");
            id
        });
        let alice = world.named(Kind::User, "alice").id;
        let lab = world
            .create_as(alice, Kind::UserGroup, "lab", json!({}))
            .unwrap();
        let member = json!({"user_group": "lab", "user": "dana"});
        let member = create(Kind::UserGroupMember, "", None, member);
        world.ask(alice, &member).unwrap();
        Self {
            world,
            alice,
            dana,
            erik,
            lab,
        }
    }

    /// Who of the administrator, the member and the other one sees an object, by asking for it and in a list.
    fn seen_by(&self, kind: Kind, id: ObjectId) -> [bool; 3] {
        [self.alice, self.dana, self.erik].map(|user| {
            let cx = self.world.cx(user);
            let got = get(&self.world.state, &cx, kind, &id.to_string(), None);
            let listed = list(&self.world.state, &cx, &ListQuery::of(kind)).unwrap();
            let is_listed = listed.objects.iter().any(|it| it["id"] == json!(id));
            assert_eq!(got.is_ok(), is_listed);
            if let Err(error) = got {
                assert_eq!(error.code, ErrorCode::NotFound);
            }
            is_listed
        })
    }

    fn set(&mut self, kind: Kind, id: ObjectId, visibility: &str, groups: Value) {
        let change = json!({"visibility": visibility, "user_group_ids": groups});
        self.world.patch(self.alice, kind, id, change).unwrap();
    }
}

#[test]
fn what_is_shown_to_groups_is_seen_by_their_members_and_by_who_may_change_it() {
    let mut house = House::new();
    let (alice, lab) = (house.alice, house.lab);
    let template = house.world.create_as(alice, Kind::Template, "t", json!({}));
    let template = template.unwrap();
    let size = json!({"template_id": template, "cpu_cores": 1, "memory_mib": 64, "storage_gib": 1});
    let version = house
        .world
        .create_as(alice, Kind::TemplateVersion, "1.0.0", size);
    let version = version.unwrap();
    let image = house.world.create_as(alice, Kind::Image, "i", json!({}));
    let image = image.unwrap();
    let objects = [
        (Kind::Template, template),
        (Kind::TemplateVersion, version),
        (Kind::Image, image),
    ];
    for (kind, id) in objects {
        assert_eq!(house.seen_by(kind, id), [true; 3], "private: who may read");
    }
    house.set(Kind::Template, template, "group_specific", json!([lab]));
    house.set(Kind::Image, image, "group_specific", json!([lab]));
    for (kind, id) in objects {
        assert_eq!(house.seen_by(kind, id), [true, true, false], "{kind:?}");
    }
    // Rights are those of the moment.
    let members = house.world.state.of_kind("user_group_member", None);
    let membership = members.map(|member| member.id).next().unwrap();
    house
        .world
        .delete(alice, Kind::UserGroupMember, membership)
        .unwrap();
    assert_eq!(
        house.seen_by(Kind::Template, template),
        [true, false, false]
    );
    // The group is needed as long as something is shown to it.
    let needed = house.world.delete(alice, Kind::UserGroup, lab).unwrap_err();
    assert_eq!(needed.code, ErrorCode::InUse);
    house.set(Kind::Template, template, "private", json!([]));
    assert_eq!(house.seen_by(Kind::Template, template), [true; 3]);
}

#[test]
fn groups_are_named_where_they_count_and_are_of_the_same_tenant() {
    let mut house = House::new();
    let (alice, lab, admin) = (house.alice, house.lab, house.world.admin);
    house.world.tenant("globex", "bob");
    let theirs = create(Kind::UserGroup, "ops", Some("globex"), json!({}));
    let theirs = house.world.ask(admin, &theirs).unwrap().object_id.unwrap();
    let field = "spec.user_group_ids";
    for kind in [Kind::Template, Kind::Image] {
        let mut made = |user, spec: Value| {
            let made = create(kind, "x", Some("acme"), spec);
            house.world.made(user, &made)
        };
        let some =
            |groups: Value| json!({"visibility": "group_specific", "user_group_ids": groups});
        refuses_field(made(alice, some(json!([]))), field);
        refuses_field(made(alice, some(json!([lab, lab]))), field);
        refuses_field(made(alice, json!({"user_group_ids": [lab]})), field);
        refuses_field(made(admin, some(json!([theirs]))), field);
        let unseen = made(alice, some(json!([theirs]))).unwrap_err();
        assert_eq!(
            unseen.code,
            ErrorCode::NotFound,
            "alice does not know of it"
        );
        let no_group = made(alice, some(json!([alice]))).unwrap_err();
        assert_eq!(no_group.code, ErrorCode::NotFound);
    }
}
