//! A site that was dark so long that every certificate expired: members know each other by key.

use std::sync::Arc;
use std::time::Duration;

use rustls::AlertDescription;
use virtflow_pki::{
    Admission, Alpn, CertStore, PinnedKeys, Role, ServerExpectation, ServerPolicy, client_config,
    server_config,
};

use crate::support::{Cluster, Outcome, agents_policy, attempt, greeter, meet, now_ms};

const MONTH_MS: u64 = 30 * 24 * 3600 * 1000;
const LIFE: Duration = Duration::from_secs(3 * 24 * 3600);

fn expired(cluster: &Cluster, role: Role) -> Arc<CertStore> {
    let store = cluster.store_from(role, now_ms() - MONTH_MS, LIFE);
    assert!(store.certificate().validity().is_expired(now_ms()));
    store
}

fn pins<'a>(stores: impl IntoIterator<Item = &'a Arc<CertStore>>) -> Arc<PinnedKeys> {
    let pinned = PinnedKeys::default();
    pinned.replace(stores.into_iter().map(|store| store.key_fingerprint()));
    Arc::new(pinned)
}

async fn peers_meet(
    server: &Arc<CertStore>,
    known_to_server: Arc<PinnedKeys>,
    client: &Arc<CertStore>,
    known_to_client: Arc<PinnedKeys>,
) -> Outcome {
    let policy = ServerPolicy::peers(Arc::new(|_, _| Admission::Admit), known_to_server);
    let expected = ServerExpectation::peer(
        client.trust().clone(),
        server.identity().subject_id,
        known_to_client,
    );
    meet(
        server_config(server, policy).unwrap(),
        client_config(Some(client), expected, Alpn::H2).unwrap(),
    )
    .await
}

#[tokio::test]
async fn members_whose_certificates_expired_meet_by_their_pinned_keys() {
    let cluster = Cluster::new();
    let (a, b) = (
        expired(&cluster, Role::Controller),
        expired(&cluster, Role::Controller),
    );
    let both = pins([&a, &b]);
    assert_eq!(
        peers_meet(&a, both.clone(), &b, both).await,
        Outcome::Greeted
    );
}

#[tokio::test]
async fn expired_without_a_pin_is_refused_in_both_directions() {
    let cluster = Cluster::new();
    let (a, b) = (
        expired(&cluster, Role::Controller),
        expired(&cluster, Role::Controller),
    );
    let outcome = peers_meet(&a, pins([&a]), &b, pins([&a, &b])).await;
    assert_eq!(
        outcome,
        Outcome::Alert(AlertDescription::CertificateExpired)
    );
    let outcome = peers_meet(&a, pins([&a, &b]), &b, pins([&b])).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}

/// A controller that was started while its clock was an hour ahead: until that hour has passed, its
/// certificate's time has not come.
#[tokio::test]
async fn a_member_that_started_with_its_clock_ahead_is_known_by_its_pinned_key() {
    let cluster = Cluster::new();
    let hour_ms = 3600 * 1000;
    let ahead = cluster.store_from(Role::Controller, now_ms() + hour_ms, LIFE);
    assert!(ahead.certificate().validity().is_premature(now_ms()));
    let right = cluster.store_from(Role::Controller, now_ms(), LIFE);
    let both = pins([&ahead, &right]);
    for (server, client) in [(&ahead, &right), (&right, &ahead)] {
        let outcome = peers_meet(server, both.clone(), client, both.clone()).await;
        assert_eq!(outcome, Outcome::Greeted);
    }
    let strangers = pins([&right]);
    let outcome = peers_meet(&right, strangers, &ahead, both).await;
    assert!(
        matches!(outcome, Outcome::Alert(_) | Outcome::Refused(_)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_pin_forgives_the_time_and_nothing_else() {
    let cluster = Cluster::new();
    let server = cluster.store(Role::Controller);
    let meet_with = |client: Arc<CertStore>| {
        let server = server.clone();
        async move {
            let all = pins([&server, &client]);
            let policy = ServerPolicy::peers(Arc::new(|_, _| Admission::Admit), all.clone());
            let expected = ServerExpectation::controller(server.trust().clone());
            meet(
                server_config(&server, policy).unwrap(),
                client_config(Some(&client), expected, Alpn::H2).unwrap(),
            )
            .await
        }
    };
    assert_eq!(
        meet_with(expired(&cluster, Role::Controller)).await,
        Outcome::Greeted
    );
    // Wrong role, wrong CA.
    assert_eq!(
        meet_with(expired(&cluster, Role::Agent)).await,
        Outcome::Alert(AlertDescription::CertificateUnknown)
    );
    assert_eq!(
        meet_with(expired(
            &Cluster::founded_at(now_ms() - 2 * MONTH_MS),
            Role::Controller
        ))
        .await,
        Outcome::Alert(AlertDescription::UnknownCA)
    );
}

#[tokio::test]
async fn admission_still_refuses_a_pinned_key() {
    let cluster = Cluster::new();
    let (a, b) = (
        expired(&cluster, Role::Controller),
        expired(&cluster, Role::Controller),
    );
    let policy = ServerPolicy::peers(
        Arc::new(|_, _| Admission::Refuse("removed")),
        pins([&a, &b]),
    );
    let expected =
        ServerExpectation::peer(b.trust().clone(), a.identity().subject_id, pins([&a, &b]));
    let outcome = meet(
        server_config(&a, policy).unwrap(),
        client_config(Some(&b), expected, Alpn::H2).unwrap(),
    )
    .await;
    assert_eq!(
        outcome,
        Outcome::Alert(AlertDescription::CertificateRevoked)
    );
}

#[tokio::test]
async fn the_agents_port_never_takes_an_expired_certificate() {
    let cluster = Cluster::new();
    let agent = expired(&cluster, Role::Agent);
    let server = server_config(&cluster.store(Role::Controller), agents_policy()).unwrap();
    let outcome = meet(server, cluster.agent(&agent)).await;
    assert_eq!(
        outcome,
        Outcome::Alert(AlertDescription::CertificateExpired)
    );
}

#[tokio::test]
async fn pins_follow_the_membership_while_the_listener_runs() {
    let cluster = Cluster::new();
    let (a, b) = (
        cluster.store(Role::Controller),
        expired(&cluster, Role::Controller),
    );
    let pinned = pins([&a]);
    let policy = ServerPolicy::peers(Arc::new(|_, _| Admission::Admit), pinned.clone());
    let greeter = greeter(server_config(&a, policy).unwrap(), Default::default()).await;
    let expected = ServerExpectation::controller(cluster.ca.trust());
    let client = client_config(Some(&b), expected, Alpn::H2).unwrap();
    let expired = Outcome::Alert(AlertDescription::CertificateExpired);
    assert_eq!(attempt(client.clone(), greeter.port).await, expired);
    pinned.replace([a.key_fingerprint(), b.key_fingerprint()]);
    assert_eq!(
        attempt(client.clone(), greeter.port).await,
        Outcome::Greeted
    );
    pinned.replace([a.key_fingerprint()]);
    assert_eq!(attempt(client, greeter.port).await, expired);
}
