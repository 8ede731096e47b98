//! Documentation, tickets, questions and answers.

use serde_json::{Value, json};
use virtflow_logic::{ListQuery, get, list};
use virtflow_model::Kind;
use virtflow_model::kinds::help_ticket::TicketState;
use virtflow_state::Refused;
use virtflow_types::{ErrorCode, ObjectId};

use crate::asking::{create, delete, field_of, patch};
use crate::world::World;

/// `acme` with `alice`, a developer, and `carol`, who has no role; `globex` with `bob`.
struct Desk {
    world: World,
    alice: ObjectId,
    bob: ObjectId,
    carol: ObjectId,
}

impl Desk {
    fn new() -> Self {
        let (mut world, _host) = World::furnished();
        world.tenant("globex", "bob");
        let carol = world.user("carol", Some("acme"));
        Self {
            alice: world.named(Kind::User, "alice").id,
            bob: world.named(Kind::User, "bob").id,
            carol,
            world,
        }
    }

    fn reads(&self, user: ObjectId, kind: Kind, id: ObjectId) -> bool {
        let cx = self.world.cx(user);
        get(&self.world.state, &cx, kind, &id.to_string(), None).is_ok()
    }

    fn ticket(&mut self, user: ObjectId) -> ObjectId {
        let spec = json!({"subject": "No console", "description": "It is black.\nStill."});
        let request = create(Kind::HelpTicket, "", None, spec);
        self.world.made(user, &request).unwrap()
    }

    fn question(&mut self, user: ObjectId) -> ObjectId {
        let request = create(Kind::QaQuestion, "", None, json!({"title": "How?"}));
        self.world.made(user, &request).unwrap()
    }

    fn answer(&mut self, user: ObjectId, question: ObjectId) -> ObjectId {
        let spec = json!({"question_id": question, "body": "So."});
        let request = create(Kind::QaAnswer, "", None, spec);
        self.world.made(user, &request).unwrap()
    }

    fn accepted(&self, question: ObjectId) -> Value {
        let object = self.world.state.get(question).unwrap();
        serde_json::from_str::<Value>(&object.spec).unwrap()["accepted_answer_id"].take()
    }
}

#[test]
fn a_doc_is_everybodys_once_it_is_published() {
    let mut desk = Desk::new();
    let admin = desk.world.admin;
    let doc = desk.world.create(
        Kind::Doc,
        "first-vm",
        json!({"title": "Your first VM", "body": "# It\n\n- is easy", "tags": ["vm"]}),
    );
    for reader in [desk.alice, desk.bob] {
        assert!(!desk.reads(reader, Kind::Doc, doc));
    }
    let publish = patch(Kind::Doc, doc, json!({"published": true}));
    let error = desk.world.ask(desk.alice, &publish).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    desk.world.ask(admin, &publish).unwrap();
    for reader in [desk.alice, desk.bob] {
        assert!(desk.reads(reader, Kind::Doc, doc));
    }
    let error = desk.world.ask(desk.alice, &publish).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    for (spec, field) in [
        (json!({"title": " "}), "spec.title"),
        (json!({"title": "x", "body": "a\u{1b}b"}), "spec.body"),
        (
            json!({"title": "x", "body": "a".repeat(65_537)}),
            "spec.body",
        ),
        (json!({"title": "x", "tags": ["a", "a"]}), "spec.tags"),
        (json!({"title": "x", "tags": [""]}), "spec.tags"),
    ] {
        let request = create(Kind::Doc, "x", None, spec);
        let error = desk.world.ask(admin, &request).unwrap_err();
        assert_eq!(field_of(&error), field);
    }
}

#[test]
fn a_ticket_is_its_makers_and_their_administrators() {
    let mut desk = Desk::new();
    let (alice, bob, carol) = (desk.alice, desk.bob, desk.carol);
    let ticket = desk.ticket(carol);
    assert!(desk.reads(carol, Kind::HelpTicket, ticket));
    assert!(desk.reads(desk.world.admin, Kind::HelpTicket, ticket));
    for stranger in [alice, bob] {
        assert!(!desk.reads(stranger, Kind::HelpTicket, ticket));
    }
    assert_eq!(
        desk.world.state.get(ticket).unwrap().tenant,
        Some(desk.world.named(Kind::Tenant, "acme").id)
    );
    let elsewhere = create(
        Kind::HelpTicket,
        "",
        Some("globex"),
        json!({"subject": "x"}),
    );
    desk.world.bind("carol", "viewer", "tenant/globex");
    let error = desk.world.ask(carol, &elsewhere).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    let error = desk
        .world
        .ask(carol, &delete(Kind::HelpTicket, ticket))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
}

/// Every pair of states, by hand.
#[test]
fn a_ticket_goes_only_where_it_may() {
    use TicketState::{Closed, InProgress, Open, Resolved};
    let allowed = [
        (Open, InProgress),
        (Open, Resolved),
        (Open, Closed),
        (InProgress, Open),
        (InProgress, Resolved),
        (InProgress, Closed),
        (Resolved, Open),
        (Resolved, Closed),
    ];
    let mut desk = Desk::new();
    let carol = desk.carol;
    for from in [Open, InProgress, Resolved, Closed] {
        for to in [Open, InProgress, Resolved, Closed] {
            let ticket = desk.ticket(carol);
            let step =
                |state: TicketState| patch(Kind::HelpTicket, ticket, json!({"state": state}));
            if from != Open {
                desk.world.ask(carol, &step(from)).unwrap();
            }
            let gone = desk.world.ask(carol, &step(to));
            assert_eq!(
                gone.is_ok(),
                from == to || allowed.contains(&(from, to)),
                "{from:?} to {to:?}"
            );
            if let Err(error) = gone {
                assert_eq!(field_of(&error), "spec.state");
            }
        }
    }
    let ticket = desk.ticket(carol);
    let close = patch(Kind::HelpTicket, ticket, json!({"state": "closed"}));
    desk.world.ask(carol, &close).unwrap();
    let late = patch(Kind::HelpTicket, ticket, json!({"subject": "Other"}));
    let error = desk.world.ask(carol, &late).unwrap_err();
    assert_eq!(field_of(&error), "spec.state");
    let done = json!({"subject": "x", "state": "resolved"});
    let request = create(Kind::HelpTicket, "", None, done);
    let error = desk.world.ask(carol, &request).unwrap_err();
    assert_eq!(field_of(&error), "spec.state");
}

#[test]
fn a_user_has_so_many_tickets_that_are_not_closed() {
    let mut desk = Desk::new();
    let carol = desk.carol;
    let tickets: Vec<_> = (0..50).map(|_| desk.ticket(carol)).collect();
    let request = create(Kind::HelpTicket, "", None, json!({"subject": "x"}));
    let error = desk.world.ask(carol, &request).unwrap_err();
    assert_eq!(error.code, ErrorCode::LimitExceeded);
    let close = patch(Kind::HelpTicket, tickets[0], json!({"state": "closed"}));
    desk.world.ask(carol, &close).unwrap();
    desk.world.ask(carol, &request).unwrap();
}

#[test]
fn a_question_accepts_one_of_its_own_answers() {
    let mut desk = Desk::new();
    let (alice, carol) = (desk.alice, desk.carol);
    let question = desk.question(carol);
    let other = desk.question(alice);
    let answers = [desk.answer(alice, question), desk.answer(alice, question)];
    let stray = desk.answer(alice, other);
    let accept = |answer: ObjectId| {
        patch(
            Kind::QaQuestion,
            question,
            json!({"accepted_answer_id": answer}),
        )
    };
    let error = desk
        .world
        .ask(desk.world.admin, &accept(stray))
        .unwrap_err();
    assert_eq!(field_of(&error), "spec.accepted_answer_id");
    let error = desk.world.ask(alice, &accept(answers[0])).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden, "not hers to accept");
    let refused = desk
        .world
        .contest(desk.world.admin, [&accept(answers[0]), &accept(answers[1])]);
    assert!(
        matches!(refused, Some(Refused::Version { .. })),
        "{refused:?}"
    );
    assert_eq!(desk.accepted(question), answers[0].to_string());
    desk.world
        .ask(alice, &delete(Kind::QaAnswer, answers[1]))
        .unwrap();
    assert_eq!(desk.accepted(question), answers[0].to_string());
    desk.world
        .ask(alice, &delete(Kind::QaAnswer, answers[0]))
        .unwrap();
    assert_eq!(desk.accepted(question), Value::Null);
}

#[test]
fn who_asked_accepts_and_answers_go_with_the_question() {
    let mut desk = Desk::new();
    let (alice, bob, carol) = (desk.alice, desk.bob, desk.carol);
    desk.world.bind("carol", "user", "tenant/acme");
    let question = desk.question(carol);
    let answer = desk.answer(alice, question);
    let accept = patch(
        Kind::QaQuestion,
        question,
        json!({"accepted_answer_id": answer}),
    );
    desk.world.ask(carol, &accept).unwrap();
    assert!(desk.reads(alice, Kind::QaQuestion, question));
    assert!(!desk.reads(bob, Kind::QaQuestion, question));
    let foreign = json!({"question_id": question, "body": "So."});
    let foreign = create(Kind::QaAnswer, "", None, foreign);
    let error = desk.world.ask(bob, &foreign).unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let rewrite = patch(Kind::QaAnswer, answer, json!({"body": "Not so."}));
    let error = desk.world.ask(carol, &rewrite).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden, "somebody else's words");
    let mute = patch(Kind::QaAnswer, answer, json!({"body": " "}));
    let error = desk.world.ask(alice, &mute).unwrap_err();
    assert_eq!(field_of(&error), "spec.body");
    desk.world
        .ask(carol, &delete(Kind::QaQuestion, question))
        .unwrap();
    assert!(desk.world.state.get(answer).is_none());
}

#[test]
fn what_the_cloud_itself_asks_and_answers_is_read_everywhere() {
    let mut desk = Desk::new();
    let admin = desk.world.admin;
    let question = desk.question(admin);
    let answer = desk.answer(admin, question);
    assert!(desk.reads(desk.bob, Kind::QaQuestion, question));
    assert!(desk.reads(desk.alice, Kind::QaAnswer, answer));
    assert!(!desk.reads(desk.carol, Kind::QaAnswer, answer), "no role");
    let seen = list(
        &desk.world.state,
        &desk.world.cx(desk.bob),
        &ListQuery::of(Kind::QaQuestion),
    );
    assert_eq!(seen.unwrap().objects.len(), 1);
}

#[test]
fn a_tenant_goes_with_what_its_users_asked() {
    let mut desk = Desk::new();
    let (admin, carol) = (desk.world.admin, desk.carol);
    let question = desk.question(carol);
    let answer = desk.answer(carol, question);
    let accept = patch(
        Kind::QaQuestion,
        question,
        json!({"accepted_answer_id": answer}),
    );
    desk.world.ask(carol, &accept).unwrap();
    let ticket = desk.ticket(carol);
    let acme = desk.world.named(Kind::Tenant, "acme").id;
    desk.world.ask(admin, &delete(Kind::Tenant, acme)).unwrap();
    desk.world.loops();
    for id in [acme, question, answer, ticket, carol] {
        assert!(desk.world.state.get(id).is_none());
    }
}

#[test]
fn drafts_stay_with_those_who_wrote_them() {
    let mut desk = Desk::new();
    let admin = desk.world.admin;
    let draft = json!({"title": "How to", "body": "secret draft", "category": "guide"});
    let doc = desk.world.create(Kind::Doc, "how-to", draft);
    let publish = patch(Kind::Doc, doc, json!({"published": true, "body": "clean"}));
    desk.world.ask(admin, &publish).unwrap();
    let past = |user| {
        let cx = desk.world.cx(user);
        let past = virtflow_logic::Past::open(&desk.world.state, &cx).unwrap();
        past.meant(Kind::Doc, &doc.to_string(), None).map(drop)
    };
    past(admin).unwrap();
    assert!(desk.reads(desk.alice, Kind::Doc, doc));
    assert_eq!(past(desk.alice).unwrap_err().code, ErrorCode::Forbidden);
}
