//! Rows as the system itself writes them, put straight into the state: what no request makes, and callers by the
//! dozen.

use serde_json::Value;
use virtflow_model::kinds::{ApiToken, RoleBinding, User};
use virtflow_model::{Kind, Meta, PerKind, Resource, Stamps, StoredStatus};
use virtflow_pki::{Token, TokenPrefix};
use virtflow_state::{Changeset, Object, Op, State};
use virtflow_types::{Error, ObjectId, RequestId, Timestamp};

use super::support::Rig;
use crate::app::App;

/// One row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) id: ObjectId,
    pub(super) name: String,
    pub(super) tenant: Option<ObjectId>,
    pub(super) parent: Option<ObjectId>,
    pub(super) spec: Value,
    /// What differs from the kind's first status.
    pub(super) status: Value,
}

impl Row {
    pub(super) fn new(kind: Kind, name: &str, spec: Value) -> Self {
        Self {
            kind,
            id: ObjectId::generate(),
            name: name.into(),
            tenant: None,
            parent: None,
            spec,
            status: Value::Null,
        }
    }
    pub(super) fn tenant(mut self, tenant: Option<ObjectId>) -> Self {
        self.tenant = tenant;
        self
    }
    pub(super) fn parent(mut self, parent: ObjectId) -> Self {
        self.parent = Some(parent);
        self
    }
    pub(super) fn status(mut self, status: Value) -> Self {
        self.status = status;
        self
    }
    fn object(&self) -> Object {
        let mut object = Object::new(self.kind.name(), self.id, self.name.as_str());
        object.tenant = self.tenant;
        object.parent = self.parent;
        write(&mut object, &self.spec, &self.status);
        object
    }
}

/// Writes spec, status and what follows from them.
pub(super) fn write(object: &mut Object, spec: &Value, status: &Value) {
    struct Write<'a>(&'a mut Object, &'a Value, &'a Value);
    impl PerKind for Write<'_> {
        type Out = ();
        fn run<R: Resource>(self) {
            let Write(object, spec, status) = self;
            let spec: R::Spec = serde_json::from_value(spec.clone()).unwrap();
            let mut all = serde_json::to_value(R::Status::default()).unwrap();
            for (field, value) in status.as_object().into_iter().flatten() {
                all[field] = value.clone();
            }
            let status: R::Status = serde_json::from_value(all).unwrap();
            let stamps = Stamps {
                created_by: "system".into(),
                updated_by: "system".into(),
                ..Stamps::default()
            };
            let meta = Meta {
                id: object.id,
                name: object.name.clone(),
                tenant: object.tenant,
                parent: object.parent,
                generation: object.generation,
                version: object.version,
                closed: false,
                stamps: stamps.clone(),
            };
            object.footprint = R::footprint(&meta, &spec, &status);
            object.spec = serde_json::to_string(&spec).unwrap().into();
            let stored = StoredStatus { stamps, status };
            object.status = serde_json::to_string(&stored).unwrap().into();
        }
    }
    let kind = Kind::of_name(&object.kind).unwrap();
    kind.dispatch(Write(object, spec, status));
}

/// Commits what `ops` makes of the state.
pub(super) async fn commit(app: &App, ops: impl Fn(&State) -> Vec<Op> + Send + 'static) {
    let decided = app.node().decide(move |head| {
        let mut changeset = Changeset::new(RequestId::generate(), Timestamp::now(), "system");
        changeset.ops = ops(head);
        Ok::<_, Error>((changeset, ()))
    });
    decided.await.unwrap();
}

/// Puts rows that are not there yet.
pub(super) async fn put(app: &App, rows: Vec<Row>) {
    commit(app, move |_| {
        let objects = rows.iter().map(Row::object);
        objects.map(|object| Op::Put(Box::new(object))).collect()
    })
    .await;
}

/// Removes objects.
pub(super) async fn remove(app: &App, ids: Vec<ObjectId>) {
    commit(app, move |head| {
        let objects = ids.iter().filter_map(|id| head.get(*id));
        objects
            .map(|object| Op::Delete(object.id, object.version))
            .collect()
    })
    .await;
}

/// Somebody with an API token.
#[derive(Debug, Clone)]
pub(super) struct Somebody {
    pub(super) id: ObjectId,
    pub(super) token: String,
    pub(super) rows: Vec<Row>,
}

/// A user without a password, and a token: rows to be put.
pub(super) fn somebody(name: &str, tenant: Option<ObjectId>) -> Somebody {
    let user = Row::new(User::KIND, name, serde_json::json!({})).tenant(tenant);
    let id = user.id;
    let (token, row) = token_of(id, "test", serde_json::json!({}));
    Somebody {
        id,
        token,
        rows: vec![user, row],
    }
}

/// A token of a user: its text, and the row to be put.
pub(super) fn token_of(user: ObjectId, name: &str, spec: Value) -> (String, Row) {
    let mut row = Row::new(ApiToken::KIND, name, spec).parent(user);
    let token = Token::generate(TokenPrefix::Api, row.id.uuid()).unwrap();
    row.status = serde_json::json!({"secret_hash": token.hash().to_string()});
    (token.text().to_string(), row)
}

/// A token of a user that lasts as long as the test: sessions' tokens end after some minutes.
pub(super) async fn lasting_token(rig: &Rig, user: &str) -> String {
    let id = rig.get(&format!("/users/{user}"), &rig.admin).await.id();
    let (token, row) = token_of(id.parse().unwrap(), "lasting", serde_json::json!({}));
    put(&rig.app, vec![row]).await;
    token
}

/// A binding of a role to a user.
pub(super) fn binding(
    subject: ObjectId,
    role: ObjectId,
    scope: Option<ObjectId>,
    tenant: Option<ObjectId>,
) -> Row {
    let mut spec = serde_json::json!({"subject_id": subject, "role_id": role});
    if let Some(scope) = scope {
        spec["scope_id"] = scope.to_string().into();
    }
    Row::new(RoleBinding::KIND, "", spec).tenant(tenant)
}
