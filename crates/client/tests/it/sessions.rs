//! A session that several share is renewed once.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use virtflow_client::{Call, Credentials, Method, Session, SessionKeeper};
use virtflow_types::ErrorCode;

use crate::fake::{Cluster, Fake, Reply, Seen, ok, refused};

/// Keeps a session as a file would: what one saves, all others see.
#[derive(Debug)]
struct Drawer {
    session: Mutex<Session>,
    locked: Arc<AtomicBool>,
    saved: AtomicUsize,
}

struct Unlock(Arc<AtomicBool>);
impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Drawer {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            session: Mutex::new(Session {
                access_token: "access-0".into(),
                refresh_token: "refresh-0".into(),
            }),
            locked: Arc::default(),
            saved: AtomicUsize::new(0),
        })
    }
}

impl SessionKeeper for Drawer {
    fn load(&self) -> io::Result<Session> {
        Ok(self.session.lock().unwrap().clone())
    }
    fn try_lock(&self) -> io::Result<Option<Box<dyn Send>>> {
        let was_locked = self.locked.swap(true, Ordering::Acquire);
        Ok((!was_locked).then(|| Box::new(Unlock(Arc::clone(&self.locked))) as Box<dyn Send>))
    }
    fn save(&self, session: &Session) -> io::Result<()> {
        *self.session.lock().unwrap() = session.clone();
        self.saved.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Takes `access-1`; gives it for `refresh-0`, once.
async fn controller(cluster: &Cluster) -> Fake {
    let used = AtomicBool::new(false);
    cluster
        .controller(move |seen: &Seen| {
            if seen.target == "/api/v1/auth/refresh" {
                let is_right = seen.body == json!({"refresh_token": "refresh-0"});
                return if is_right && !used.swap(true, Ordering::Relaxed) {
                    ok(json!({"access_token": "access-1", "refresh_token": "refresh-1", "expires_in_s": 900}))
                } else {
                    refused(401, "unauthenticated")
                };
            }
            match seen.bearer.as_deref() {
                Some("access-1") => ok(json!("welcome")),
                _ => refused(401, "unauthenticated"),
            }
        })
        .await
}

fn read() -> Call {
    Call::new(Method::Get, &["vms"]).unwrap()
}

#[tokio::test]
async fn an_expired_session_is_renewed_and_kept() {
    let cluster = Cluster::new();
    let controller = controller(&cluster).await;
    let drawer = Drawer::new();
    let client = cluster.client(
        &[controller.endpoint()],
        Credentials::Session(drawer.clone()),
    );
    assert_eq!(client.send(&read()).await.unwrap().data, json!("welcome"));
    let kept = drawer.load().unwrap();
    assert_eq!(
        (kept.access_token.as_str(), kept.refresh_token.as_str()),
        ("access-1", "refresh-1")
    );
    let targets: Vec<String> = controller
        .calls()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(
        targets,
        ["/api/v1/vms", "/api/v1/auth/refresh", "/api/v1/vms"]
    );
    let refresh = &controller.calls()[1];
    assert_eq!(refresh.bearer, None, "the dead token was shown");
    client.send(&read()).await.unwrap();
    assert_eq!(controller.calls().len(), 4);
}

#[tokio::test]
async fn many_at_once_renew_it_once() {
    let cluster = Cluster::new();
    let controller = controller(&cluster).await;
    let drawer = Drawer::new();
    let client = cluster.client(
        &[controller.endpoint()],
        Credentials::Session(drawer.clone()),
    );
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        tasks.spawn(async move { client.send(&read()).await });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap().data, json!("welcome"));
    }
    let calls = controller.calls();
    let refreshes = calls
        .iter()
        .filter(|seen| seen.target.ends_with("/refresh"))
        .count();
    assert_eq!((refreshes, drawer.saved.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn a_session_that_has_ended_is_not_fought_for() {
    let cluster = Cluster::new();
    let controller = cluster
        .controller(|_| refused(401, "unauthenticated"))
        .await;
    let drawer = Drawer::new();
    let client = cluster.client(
        &[controller.endpoint()],
        Credentials::Session(drawer.clone()),
    );
    let error = client.send(&read()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
    assert_eq!(controller.calls().len(), 2);
    assert_eq!(drawer.saved.load(Ordering::Relaxed), 0);
}

/// A refresh token that is used twice ends the session: after a lost answer it is not sent again.
#[tokio::test]
async fn a_refresh_is_sent_once() {
    let cluster = Cluster::new();
    let controller = cluster
        .controller(|seen| {
            if seen.target.ends_with("/refresh") {
                Reply::HangUp
            } else {
                refused(401, "unauthenticated")
            }
        })
        .await;
    let endpoints = [controller.endpoint()];
    let client = cluster.client(&endpoints, Credentials::Session(Drawer::new()));
    let error = client.send(&read()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown);
    let calls = controller.calls();
    let refreshes = calls
        .iter()
        .filter(|seen| seen.target.ends_with("/refresh"))
        .count();
    assert_eq!(refreshes, 1);
}

#[tokio::test]
async fn a_login_gives_a_session() {
    let cluster = Cluster::new();
    let controller = cluster
        .controller(|seen| {
            let right = json!({"username": "ada", "password": "p", "device": "d"});
            if seen.target == "/api/v1/auth/login" && seen.body == right {
                ok(json!({"access_token": "a", "refresh_token": "r", "endpoints": ["c2:8443"]}))
            } else {
                refused(401, "unauthenticated")
            }
        })
        .await;
    let client = cluster.client(&[controller.endpoint()], Credentials::None);
    let (session, data) = client.log_in("ada", "p", "d").await.unwrap();
    assert_eq!(
        (
            session.access_token.as_str(),
            session.refresh_token.as_str()
        ),
        ("a", "r")
    );
    assert_eq!(
        virtflow_client::learned(&data),
        ["https://c2:8443".parse().unwrap()]
    );
    let error = client.log_in("ada", "q", "d").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
}
