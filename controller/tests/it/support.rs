//! Controllers in one process over real listeners, for the tests beside this file.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use virtflow_controller::app::App;
use virtflow_controller::config::Config;
use virtflow_controller::{commands, daemon, testing};
use virtflow_logic::{Create, Cx, NewSecret, Principal, Reply, Request, Via};
use virtflow_model::{Kind, key};
use virtflow_pki::{Token, TokenPrefix};
use virtflow_types::{Error, ObjectId, RequestId, Timestamp};

/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Controller {
    pub(crate) app: App,
    pub(crate) config: Config,
    pub(crate) dir: TempDir,
}

impl Controller {
    /// Stops it at once, without a word to anyone.
    pub(crate) async fn kill(self) -> (Config, TempDir) {
        self.app.stop();
        self.app.node().stop().await;
        (self.config, self.dir)
    }

    /// Starts a controller whose folders exist.
    pub(crate) async fn start(config: Config, dir: TempDir) -> Self {
        let began = Instant::now();
        let app = loop {
            match daemon::open(config.clone(), None).await {
                Ok(app) => break app,
                // What a killed one of this process held is let go a moment later.
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        testing::serve(&app).await.unwrap();
        daemon::spawn_tasks(&app);
        Self { app, config, dir }
    }

    /// The first of a new cluster.
    pub(crate) async fn first(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = testing::config(dir.path());
        change(&mut config);
        commands::initialize(
            config.clone(),
            testing::ADMIN,
            testing::ADMIN_PASSWORD,
            None,
        )
        .await
        .unwrap();
        let first = Self::start(config, dir).await;
        testing::wait_until_leading(&first.app).await.unwrap();
        first
    }

    /// Another one, with a token of the cluster that `leader` leads.
    pub(crate) async fn joined(leader: &Self, name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = testing::config(dir.path());
        config.name = name.into();
        config.hosts = leader.config.hosts.clone();
        config.certificates = leader.config.certificates.clone();
        let token = join_token(&leader.app, json!({"role": "controller"})).await;
        commands::enter(
            &config,
            &leader.config.api_address(),
            leader.app.ca().fingerprint(),
            &token,
            false,
        )
        .await
        .unwrap();
        Self::start(config, dir).await
    }
}

/// Three controllers that all vote; the first one leads.
pub(crate) async fn three(change: impl FnOnce(&mut Config)) -> Vec<Controller> {
    let mut all = vec![Controller::first(change).await];
    for name in ["c2", "c3"] {
        let next = Controller::joined(&all[0], name).await;
        all.push(next);
    }
    until("three voters", || {
        let members = all[0].app.node().members();
        members
            .iter()
            .filter(|m| m.role == virtflow_raft::MemberRole::Voter)
            .count()
            == 3
    })
    .await;
    all
}

/// Waits until `met`, or fails naming `what`.
pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whoever leads among them.
pub(crate) async fn leader_of(controllers: &[Controller]) -> &Controller {
    let mut found = None;
    until("a leader", || {
        found = controllers
            .iter()
            .find(|c| c.app.leads() && c.app.leader().is_some());
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Does as the administrator what a request of the API would do, on the leader.
pub(crate) async fn act(app: &App, request: Request) -> Result<Reply, Error> {
    let image = app.node().read().await.map_err(|e| e.to_error())?;
    let name = format!("user/{}", testing::ADMIN);
    let admin = image.by_key(key::NAME, &name, None).next().unwrap().id;
    let cx = Cx {
        request_id: RequestId::generate(),
        now: Timestamp::now(),
        principal: Principal::User {
            user_id: admin,
            via: Via::Certificate,
        },
        source: "127.0.0.1".into(),
        user_agent: String::new(),
        idempotency: None,
        if_match: None,
        seal: None,
    };
    let decided = app
        .node()
        .decide(move |head| virtflow_logic::decide(head, &cx, &request))
        .await;
    decided
        .map(|committed| committed.value)
        .map_err(|error| error.to_error())
}

pub(crate) fn create(kind: Kind, name: &str, spec: Value) -> Request {
    Request::Create(Create {
        kind,
        name: (!name.is_empty()).then(|| name.into()),
        tenant: None,
        parent: None,
        spec,
        secret: None,
        password_hash: None,
    })
}

/// The text of a new join token.
pub(crate) async fn join_token(app: &App, spec: Value) -> String {
    let id = ObjectId::generate();
    let token = Token::generate(TokenPrefix::Join, id.uuid()).unwrap();
    let mut request = create(Kind::JoinToken, "", spec);
    if let Request::Create(create) = &mut request {
        create.secret = Some(NewSecret {
            id,
            hash: token.hash().to_string(),
        });
    }
    act(app, request).await.unwrap();
    token.text().to_string()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}
