//! A controller in this process, and a client that shows everything of an answer.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use virtflow_pki::{Identity, Role};

use crate::api::routes::Route;
use crate::app::{App, Caller};
use crate::config::Config;
use crate::testing::{self, ADMIN_PASSWORD};

pub(super) const PASSWORD: &str = "a long enough one";

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) body: Value,
}

impl Reply {
    /// The data of a success, which it must be.
    pub(super) fn data(&self, status: u16) -> &Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_ne!(self.body["status"], "error", "{}", self.text);
        &self.body["data"]
    }
    /// The word for the error, which it must be, under its status.
    pub(super) fn error(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["status"], "error", "{}", self.text);
        self.body["error"]["code"].as_str().unwrap()
    }
    pub(super) fn id(&self) -> String {
        self.body["data"]["id"].as_str().unwrap().to_owned()
    }
    /// The text with this request's id blotted out.
    pub(super) fn without_request_id(&self) -> String {
        let id = self.body["meta"]["request_id"].as_str().unwrap();
        self.text.replace(id, "")
    }
}

/// A request being put together.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    app: &'a App,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    from: String,
    client: Option<Identity>,
}

impl Ask<'_> {
    pub(super) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
    pub(super) fn json(self, body: &Value) -> Self {
        self.bytes("application/json", body.to_string().as_bytes())
    }
    pub(super) fn bytes(mut self, content_type: &str, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("content-type", content_type)
    }
    pub(super) fn from(mut self, address: &str) -> Self {
        self.from = address.to_owned();
        self
    }
    pub(super) fn certificate(mut self, role: Role, subject: &str) -> Self {
        self.client = Some(Identity {
            cluster_id: self.app.cluster_id().uuid(),
            role,
            subject_id: subject.parse().unwrap(),
        });
        self
    }
    pub(super) async fn send(self) -> Reply {
        let (head, body) = self.begin().await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }
    /// The response, its body not read yet.
    pub(super) async fn begin(self) -> Response {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let caller = Caller {
            remote_address: self.from,
            client: self.client,
            hops: 0,
        };
        let request = request
            .extension(caller)
            .body(Body::from(self.body))
            .unwrap();
        self.app.router().unwrap().oneshot(request).await.unwrap()
    }
}

/// The method of a route, as [`ask`] takes it.
pub(super) fn method_of(route: &Route) -> &'static str {
    match route.method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        _ => "DELETE",
    }
}

/// A request to this controller.
pub(super) fn ask<'a>(app: &'a App, method: &'static str, path: &str) -> Ask<'a> {
    Ask {
        app,
        method,
        path: format!("/api/v1{path}"),
        headers: Vec::new(),
        body: Vec::new(),
        from: "192.0.2.1:4000".into(),
        client: None,
    }
}

/// A cluster of one, with the admin logged in.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) app: App,
    pub(super) admin: String,
    dir: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = testing::single_node(dir.path(), change).await.unwrap();
        let mut rig = Self {
            app,
            admin: String::new(),
            dir,
        };
        rig.admin = rig.log_in("admin", ADMIN_PASSWORD).await;
        rig
    }

    /// For tests that ask more often than anybody may.
    pub(super) async fn start_unlimited() -> Self {
        Self::start_with(|config| {
            config.limits.token_requests_per_s = 0;
            config.limits.user_requests_per_s = 1_000_000;
            config.limits.user_requests_burst = 1_000_000;
            config.limits.tenant_requests_per_s = 0;
        })
        .await
    }

    /// Where everything of it lies.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(super) fn ask(&self, method: &'static str, path: &str) -> Ask<'_> {
        ask(&self.app, method, path)
    }

    pub(super) async fn log_in(&self, user: &str, password: &str) -> String {
        let body = json!({"username": user, "password": password});
        let reply = self.ask("POST", "/auth/login").json(&body).send().await;
        reply.data(200)["access_token"].as_str().unwrap().to_owned()
    }

    /// The admin makes something.
    pub(super) async fn make(&self, path: &str, body: Value) -> Reply {
        let reply = self
            .ask("POST", path)
            .token(&self.admin)
            .json(&body)
            .send()
            .await;
        reply.data(201);
        reply
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Reply {
        self.ask("GET", path).token(token).send().await
    }

    /// A tenant with one user who holds a role in it; the user is logged in.
    pub(super) async fn tenant_with(&self, tenant: &str, user: &str, role: &str) -> String {
        self.make("/tenants", json!({"name": tenant})).await;
        self.user(tenant, user, role).await
    }

    /// A user of a tenant who holds a role in it; it is logged in.
    pub(super) async fn user(&self, tenant: &str, user: &str, role: &str) -> String {
        let body = json!({"name": user, "tenant": tenant, "password": PASSWORD});
        self.make("/users", body).await;
        let scope = format!("tenant/{tenant}");
        let spec = json!({"subject": user, "role": role, "scope": scope});
        self.make("/role_bindings", json!({"spec": spec})).await;
        self.log_in(user, PASSWORD).await
    }
}
