//! Roles per port, subjects, and the admission check, with certificates as the CA signs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::AlertDescription;
use uuid::Uuid;
use virtflow_pki::{
    Admission, Alpn, KeyFingerprint, Role, ServerExpectation, ServerPolicy, TlsConnector,
    client_config, server_config,
};

use crate::support::{Cluster, Outcome, agents_policy, greeter, meet};

#[tokio::test]
async fn each_port_takes_its_own_role_only() {
    let cluster = Cluster::new();
    let roles = [Role::Controller, Role::Agent, Role::Client];
    for accept in roles {
        let mut policy = agents_policy();
        policy.accept = accept;
        let server = server_config(&cluster.store(Role::Controller), policy).unwrap();
        for shown in roles {
            let client = cluster.agent(&cluster.store(shown));
            let expected = if shown == accept {
                Outcome::Greeted
            } else {
                Outcome::Alert(AlertDescription::CertificateUnknown)
            };
            assert_eq!(
                meet(server.clone(), client).await,
                expected,
                "{shown} at {accept}"
            );
        }
    }
}

#[tokio::test]
async fn a_peer_is_the_one_that_was_dialled() {
    let cluster = Cluster::new();
    let server = cluster.store(Role::Controller);
    let id = server.identity().subject_id;
    let config = server_config(
        &server,
        ServerPolicy::peers(Arc::new(|_, _| Admission::Admit), Arc::default()),
    )
    .unwrap();
    let own = cluster.store(Role::Controller);
    let dial = |id| {
        let expected = ServerExpectation::peer(cluster.ca.trust(), id, Arc::default());
        meet(
            config.clone(),
            client_config(Some(&own), expected, Alpn::H2).unwrap(),
        )
    };
    assert_eq!(dial(id).await, Outcome::Greeted);
    match dial(Uuid::from_u128(8)).await {
        Outcome::Refused(reason) => assert!(reason.contains("is the address right?"), "{reason}"),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn admission_is_asked_with_identity_and_key_at_every_connection() {
    let cluster = Cluster::new();
    let agent = cluster.store(Role::Agent);
    let (identity, key) = (agent.identity(), agent.key_fingerprint());
    let removed = Arc::new(AtomicBool::new(false));
    let asked = removed.clone();
    let policy = ServerPolicy::agents(Arc::new(move |seen, with: &KeyFingerprint| {
        assert_eq!((*seen, *with), (identity, key));
        if asked.load(Ordering::SeqCst) {
            Admission::Refuse("the host was removed")
        } else {
            Admission::Admit
        }
    }));
    let server = server_config(&cluster.store(Role::Controller), policy).unwrap();
    let client = cluster.agent(&agent);
    assert_eq!(meet(server.clone(), client.clone()).await, Outcome::Greeted);
    removed.store(true, Ordering::SeqCst);
    let refused = Outcome::Alert(AlertDescription::CertificateRevoked);
    assert_eq!(meet(server.clone(), client.clone()).await, refused);
    removed.store(false, Ordering::SeqCst);
    assert_eq!(meet(server, client).await, Outcome::Greeted);
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is() {
    let cluster = Cluster::new();
    let (controller, agent) = (cluster.store(Role::Controller), cluster.store(Role::Agent));
    let config = server_config(&controller, agents_policy()).unwrap();
    let mut greeter = greeter(config, Default::default()).await;
    let connector = TlsConnector::new(cluster.agent(&agent));
    let connection = connector.connect("127.0.0.1", greeter.port).await.unwrap();

    assert_eq!(connection.server().identity, controller.identity());
    assert_eq!(connection.server().key, controller.key_fingerprint());
    assert_eq!(
        connection.server().not_after_ms,
        controller.certificate().validity().not_after_ms
    );
    assert_eq!(
        connector.observed().server.as_ref(),
        Some(connection.server())
    );
    let seen = greeter.peers.recv().await.unwrap().unwrap();
    assert_eq!(seen.identity, agent.identity());
    assert_eq!(seen.key, agent.key_fingerprint());
}
