//! Sessions, tokens, passwords, bindings: nobody gives or takes more than they have.

use std::time::Duration;

use serde_json::json;
use virtflow_logic::{
    Create, Cx, Delete, Login, NewSecret, Principal, Refresh, Request, SetPassword, Update, Via,
    authenticate_session, authenticate_token, credentials_used, get, is_use_news, lock_user,
    login_candidate, public,
};
use virtflow_model::Kind;
use virtflow_types::{Error, ErrorCode, ObjectId, RequestId};

use crate::world::World;

fn secret(hash: &str) -> NewSecret {
    NewSecret {
        id: ObjectId::generate(),
        hash: hash.into(),
    }
}

fn login(world: &mut World, user: ObjectId, refresh: &str) -> ObjectId {
    let session = secret(refresh);
    let request = Request::Login(Login {
        user_id: user,
        session: session.clone(),
        device: "laptop".into(),
        address: "192.0.2.9".into(),
        expires_at: world.now.plus(Duration::from_secs(3600)),
    });
    let cx = via(world, user, Via::Password);
    world.ask_with(&cx, &request).unwrap();
    session.id
}

fn via(world: &World, user: ObjectId, via: Via) -> Cx {
    let mut cx = world.cx(user);
    cx.principal = Principal::User { user_id: user, via };
    cx
}

fn token(
    world: &mut World,
    cx: &Cx,
    name: &str,
    spec: serde_json::Value,
    parent: Option<&str>,
) -> Result<ObjectId, Error> {
    let secret = secret("70ce9");
    let mut create = Create::new(Kind::ApiToken, name, spec);
    create.secret = Some(secret.clone());
    create.parent = parent.map(Into::into);
    world
        .ask_with(cx, &Request::Create(create))
        .map(|_| secret.id)
}

#[test]
fn a_session_lives_until_it_ends_expires_or_is_revoked() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let session = login(&mut world, alice, "aa");
    let principal = authenticate_session(&world.state, world.now, session).unwrap();
    assert_eq!(
        principal,
        Principal::User {
            user_id: alice,
            via: Via::Session(session)
        }
    );
    let later = world.now.plus(Duration::from_secs(3600));
    assert!(authenticate_session(&world.state, later, session).is_err());

    let cx = via(&world, alice, Via::Session(session));
    world.ask_with(&cx, &Request::Logout).unwrap();
    let error = authenticate_session(&world.state, world.now, session).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    let error = get(&world.state, &cx, Kind::User, "alice", None).unwrap_err();
    assert_eq!(
        error.code,
        ErrorCode::Unauthenticated,
        "also for a request that was under way"
    );
}

#[test]
fn a_refresh_secret_that_is_used_twice_ends_the_session() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let session = login(&mut world, alice, "aa");
    let refresh = |presented: &str, new: &str| {
        Request::Refresh(Refresh {
            session_id: session,
            presented_hash: presented.into(),
            new_hash: new.into(),
        })
    };
    let cx = Cx::system(RequestId::generate(), world.now);
    let reply = world.ask_with(&cx, &refresh("aa", "bb")).unwrap();
    assert_eq!(reply.extra["outcome"], "rotated");
    assert_eq!(reply.extra["user_id"], alice.to_string());
    assert!(authenticate_session(&world.state, world.now, session).is_ok());
    let reply = world.ask_with(&cx, &refresh("aa", "cc")).unwrap();
    assert_eq!(
        (reply.http_status, &reply.extra["outcome"]),
        (401, &json!("reused"))
    );
    assert!(authenticate_session(&world.state, world.now, session).is_err());
    let error = world.ask_with(&cx, &refresh("bb", "dd")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated);
}

#[test]
fn only_so_many_sessions_a_user() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let first = login(&mut world, alice, "aa");
    let second = login(&mut world, alice, "aa");
    for _ in 2..=virtflow_logic::limits::SESSIONS_PER_USER_MAX {
        login(&mut world, alice, "aa");
    }
    assert!(world.state.get(first).is_none(), "the oldest goes");
    assert!(world.state.get(second).is_some());
}

#[test]
fn failed_logins_lock_and_a_new_password_unlocks() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let until = world.now.plus(Duration::from_secs(900));
    let changeset = lock_user(
        &world.state,
        RequestId::generate(),
        world.now,
        alice,
        until,
        10,
    );
    world.commit(&changeset).unwrap();
    let candidate = login_candidate(&world.state, world.now, "alice");
    assert_eq!(candidate.user_id, Some(alice));
    assert_eq!(candidate.refused.unwrap().code, ErrorCode::Unauthenticated);
    assert!(
        login_candidate(&world.state, until, "alice")
            .refused
            .is_none()
    );
    let nobody = login_candidate(&world.state, world.now, "mallory");
    assert!(nobody.user_id.is_none() && nobody.password_hash.is_none() && nobody.refused.is_none());

    let old_session = login_at(&mut world, alice, until);
    let set = |old_verified| {
        Request::SetPassword(SetPassword {
            target: "alice".into(),
            hash: "$argon2id$new".into(),
            old_verified,
        })
    };
    assert_eq!(
        world.ask(alice, &set(false)).unwrap_err().code,
        ErrorCode::Forbidden
    );
    world.ask(world.admin, &set(false)).unwrap();
    let candidate = login_candidate(&world.state, world.now, "alice");
    assert!(candidate.refused.is_none());
    assert_eq!(candidate.password_hash.as_deref(), Some("$argon2id$new"));
    assert!(
        world.state.get(old_session).is_none(),
        "other sessions end with the old password"
    );
    world
        .ask(alice, &set(true))
        .unwrap_or_else(|error| panic!("her own, with the old one: {error}"));
}

fn login_at(world: &mut World, user: ObjectId, at: virtflow_types::Timestamp) -> ObjectId {
    let now = world.now;
    world.now = at;
    let session = login(world, user, "aa");
    world.now = now;
    session
}

#[test]
fn a_token_is_its_user_or_less() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let cx = via(&world, alice, Via::Certificate);
    let full = token(&mut world, &cx, "full", json!({}), None).unwrap();
    let narrow = json!({"permissions": ["virtual_machine.read", "api_token.create"], "ttl_s": 60});
    let narrow = token(&mut world, &cx, "narrow", narrow, None).unwrap();
    assert!(authenticate_token(&world.state, world.now, full, "70CE9").is_ok());
    assert!(authenticate_token(&world.state, world.now, full, "wrong").is_err());
    let later = world.now.plus(Duration::from_secs(60));
    assert!(
        authenticate_token(&world.state, later, narrow, "70ce9").is_err(),
        "expired"
    );

    let vm = |name: &str| {
        Request::Create(Create::new(
            Kind::VirtualMachine,
            name,
            json!({"specification": "small"}),
        ))
    };
    let as_full = via(&world, alice, Via::Token(full));
    let as_narrow = via(&world, alice, Via::Token(narrow));
    world.ask_with(&as_full, &vm("a")).unwrap();
    let error = world.ask_with(&as_narrow, &vm("b")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(get(&world.state, &as_narrow, Kind::VirtualMachine, "a", None).is_ok());
    assert!(token(&mut world, &as_narrow, "wide", json!({}), None).is_err());
    let wider = json!({"permissions": ["virtual_machine.delete"]});
    assert!(token(&mut world, &as_narrow, "wider", wider, None).is_err());
    let same = json!({"permissions": ["virtual_machine.read"]});
    token(&mut world, &as_narrow, "same", same, None).unwrap();

    let revoke = Request::Delete(Delete {
        kind: Kind::ApiToken,
        target: full.to_string(),
        tenant: None,
        force: false,
    });
    world.ask(alice, &revoke).unwrap();
    assert!(authenticate_token(&world.state, world.now, full, "70ce9").is_err());
    assert_eq!(
        world.ask_with(&as_full, &vm("c")).unwrap_err().code,
        ErrorCode::Unauthenticated
    );
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let (mut world, _host) = World::furnished();
    world.user("chief", Some("acme"));
    world.bind("chief", "tenant_admin", "tenant/acme");
    world.user("sec", None);
    world.bind("sec", "security_admin", "system");
    let chief = world.named(Kind::User, "chief").id;
    let sec = world.named(Kind::User, "sec").id;
    let bind = |subject: &str, role: &str, scope: &str| {
        let spec = json!({"subject": subject, "role": role, "scope": scope});
        Request::Create(Create::new(Kind::RoleBinding, "", spec))
    };
    world.user("carol", Some("acme"));
    world
        .ask(chief, &bind("carol", "developer", "tenant/acme"))
        .unwrap();
    for (role, scope) in [
        ("admin", "tenant/acme"),
        ("operator", "tenant/acme"),
        ("developer", "system"),
    ] {
        let error = world.ask(chief, &bind("carol", role, scope)).unwrap_err();
        assert_eq!(error.code, ErrorCode::Forbidden, "{role} over {scope}");
    }
    let error = world.ask(sec, &bind("sec", "admin", "system")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    let twice = world
        .ask(chief, &bind("carol", "developer", "tenant/acme"))
        .unwrap_err();
    assert_eq!(twice.code, ErrorCode::AlreadyExists);

    // A role that is made is bounded by its maker; so is the user whose credentials are set.
    let role = |entry: &str| {
        Request::Create(Create::new(
            Kind::Role,
            "mine",
            json!({"permissions": [entry]}),
        ))
    };
    assert_eq!(
        world
            .ask(sec, &role("virtual_machine.read"))
            .unwrap_err()
            .code,
        ErrorCode::Forbidden
    );
    world.ask(sec, &role("user.read")).unwrap();
    let take_over = Request::SetPassword(SetPassword {
        target: "admin".into(),
        hash: "$argon2id$mine".into(),
        old_verified: false,
    });
    assert_eq!(
        world.ask(sec, &take_over).unwrap_err().code,
        ErrorCode::Forbidden
    );
    let cx = via(&world, sec, Via::Certificate);
    let stolen = token(&mut world, &cx, "stolen", json!({}), Some("admin"));
    assert_eq!(stolen.unwrap_err().code, ErrorCode::Forbidden);
}

#[test]
fn built_in_roles_stay_as_they_are() {
    let mut world = World::new();
    let admin = world.admin;
    let widen = Update {
        kind: Kind::Role,
        target: "viewer".into(),
        tenant: None,
        spec: json!({"permissions": ["*.*"]}),
        merge: true,
    };
    assert_eq!(
        world.ask(admin, &Request::Update(widen)).unwrap_err().code,
        ErrorCode::Conflict
    );
    let delete = Delete {
        kind: Kind::Role,
        target: "viewer".into(),
        tenant: None,
        force: false,
    };
    assert_eq!(
        world.ask(admin, &Request::Delete(delete)).unwrap_err().code,
        ErrorCode::Conflict
    );
    let false_one = Create::new(
        Kind::Role,
        "r",
        json!({"permissions": [], "built_in": true}),
    );
    assert_eq!(
        world
            .ask(admin, &Request::Create(false_one))
            .unwrap_err()
            .code,
        ErrorCode::Invalid
    );
}

#[test]
fn a_user_goes_with_what_they_hold_but_not_with_vms_charged_to_them() {
    let (mut world, host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    login(&mut world, alice, "aa");
    let cx = via(&world, alice, Via::Certificate);
    token(&mut world, &cx, "t", json!({}), None).unwrap();
    world
        .vm(alice, "web-1", json!({"specification": "small"}))
        .unwrap();
    let delete = |kind, target: &str| {
        Request::Delete(Delete {
            kind,
            target: target.into(),
            tenant: None,
            force: false,
        })
    };
    let error = world
        .ask(world.admin, &delete(Kind::User, "alice"))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse);
    assert_eq!(
        error.message,
        "the user is still needed by virtual_machine `web-1`"
    );
    world
        .ask(alice, &delete(Kind::VirtualMachine, "web-1"))
        .unwrap();
    world.settle(&host);
    world
        .ask(world.admin, &delete(Kind::User, "alice"))
        .unwrap();
    for kind in [Kind::Session, Kind::ApiToken] {
        assert_eq!(world.state.of_kind(kind.name(), None).count(), 0);
    }
    assert_eq!(
        world
            .ask(world.admin, &delete(Kind::User, "admin"))
            .unwrap_err()
            .code,
        ErrorCode::Conflict
    );
}

#[test]
fn what_holds_more_than_one_changeset_takes_is_emptied_by_a_loop() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    for n in 0..virtflow_logic::limits::CASCADE_MAX + 5 {
        let mut cx = world.cx(alice);
        cx.idempotency = Some(virtflow_logic::Idempotency {
            key: format!("key-{n}"),
            request_hash: "00".into(),
        });
        let set = Request::SetPassword(SetPassword {
            target: "alice".into(),
            hash: format!("$argon2id${n}"),
            old_verified: true,
        });
        // Applied without the checks of every step, which would take minutes here.
        let (changeset, _) = virtflow_logic::decide(&world.state, &cx, &set).unwrap();
        world.state.apply(&changeset).unwrap();
    }
    let delete = Request::Delete(Delete {
        kind: Kind::User,
        target: "alice".into(),
        tenant: None,
        force: false,
    });
    assert_eq!(world.ask(world.admin, &delete).unwrap().http_status, 202);
    assert!(world.state.get(alice).is_some());
    assert!(
        login_candidate(&world.state, world.now, "alice")
            .refused
            .is_some()
    );
    world.loops();
    assert!(world.state.get(alice).is_none());
    assert_eq!(
        world
            .state
            .of_kind(Kind::IdempotencyKey.name(), None)
            .count(),
        0
    );
}

#[test]
fn no_hash_of_a_secret_is_ever_shown() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    login(&mut world, alice, "deadbeef");
    let cx = via(&world, alice, Via::Certificate);
    token(&mut world, &cx, "t", json!({}), None).unwrap();
    world.invite(json!({"group": "g1"}));
    for object in world.state.objects() {
        let text = public(&world.state, object).to_string();
        for hash in ["$argon2id", "deadbeef", "70ce9", "5ec7e7"] {
            assert!(!text.contains(hash), "{} shows {hash}", object.kind);
        }
    }
}

#[test]
fn the_last_use_of_a_credential_is_kept_to_within_minutes() {
    let (mut world, _host) = World::furnished();
    let alice = world.named(Kind::User, "alice").id;
    let session = login(&mut world, alice, "5e55");
    let cx = via(&world, alice, Via::Session(session));
    let program = token(&mut world, &cx, "ci", json!({}), Some("alice")).unwrap();
    let shown = |world: &World, id: ObjectId, field: &str| {
        public(&world.state, world.state.get(id).unwrap())["status"][field].clone()
    };
    let began = world.now;
    assert_eq!(shown(&world, session, "last_active_at"), json!(began));
    assert_eq!(shown(&world, program, "last_used_at"), json!(null));
    let note = |world: &mut World, uses: &[(ObjectId, virtflow_types::Timestamp)]| {
        let noted = credentials_used(&world.state, RequestId::generate(), world.now, uses);
        let ops = noted.ops.len();
        if ops > 0 {
            world.commit(&noted).unwrap();
        }
        ops
    };
    world.wait(Duration::from_secs(60));
    assert!(
        is_use_news(&world.state, program, world.now),
        "the first use"
    );
    assert!(!is_use_news(&world.state, session, world.now));
    let (first, gone) = (world.now, ObjectId::generate());
    let generation = world.state.get(program).unwrap().generation;
    let uses = [
        (program, first),
        (session, first),
        (gone, first),
        (alice, first),
    ];
    assert_eq!(note(&mut world, &uses), 1, "the token alone, and no record");
    assert_eq!(shown(&world, program, "last_used_at"), json!(first));
    assert_eq!(world.state.get(program).unwrap().generation, generation);
    world.wait(Duration::from_secs(240));
    let soon = world.now;
    assert_eq!(
        note(&mut world, &[(program, soon)]),
        0,
        "four minutes later"
    );
    assert!(is_use_news(&world.state, session, soon));
    world.wait(Duration::from_secs(60));
    // Told late, told of a moment to come, told of before: never later than now, never earlier than known.
    let (now, later) = (world.now, world.now.plus(Duration::from_secs(3600)));
    assert_eq!(note(&mut world, &[(program, later), (session, soon)]), 2);
    assert_eq!(shown(&world, program, "last_used_at"), json!(now));
    assert_eq!(shown(&world, session, "last_active_at"), json!(soon));
    assert_eq!(note(&mut world, &[(program, first)]), 0);
    assert_eq!(shown(&world, program, "last_used_at"), json!(now));
}
