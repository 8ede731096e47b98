//! Certificates that live seconds, and a service that never notices.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustls::AlertDescription;
use uuid::Uuid;
use virtflow_pki::{
    CertStore, Certificate, KeyPair, ListenerLimits, PkiError, Role, TlsConnector, Validity,
    server_config,
};

use crate::support::{Cluster, Outcome, agents_policy, attempt, greeter, now_ms, read_greeting};

#[tokio::test]
async fn a_renewed_certificate_serves_the_next_handshake_and_open_connections_go_on() {
    let cluster = Cluster::new();
    let key = KeyPair::generate().unwrap();
    let sign =
        |key: &KeyPair| cluster.sign(key, Role::Controller, now_ms(), Duration::from_secs(60));
    let (old, new) = (sign(&key), sign(&key));
    assert_ne!(old.serial_hex(), new.serial_hex());
    let store = CertStore::new(key, old.clone(), cluster.ca.certificate()).unwrap();
    let config = server_config(&store, agents_policy()).unwrap();
    let greeter = greeter(config, ListenerLimits::default()).await;
    let agent = cluster.store(Role::Agent);
    let stock = tokio_rustls::TlsConnector::from(cluster.agent(&agent));
    let shown = || async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", greeter.port))
            .await
            .unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let stream = stock.connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };

    let connector = TlsConnector::new(cluster.agent(&agent));
    let mut open = connector.connect("127.0.0.1", greeter.port).await.unwrap();
    assert_eq!(&shown().await, old.der());
    store.replace(new.clone()).unwrap();
    assert_eq!(&shown().await, new.der());
    assert_eq!(*store.certificate(), new);
    read_greeting(&mut open).await.unwrap();
}

/// Real time, real handshakes: both ends have certificates of 3 s and renew when due. Without
/// renewal they would be refused from the third second on.
#[tokio::test]
async fn with_lives_of_seconds_renewal_keeps_the_door_open() {
    const LIFE: Duration = Duration::from_secs(3);
    let cluster = Cluster::new();
    let born = |role| {
        let key = KeyPair::generate().unwrap();
        let certificate = cluster.sign(&key, role, now_ms(), LIFE);
        CertStore::new(key, certificate, cluster.ca.certificate()).unwrap()
    };
    let (controller, agent, forgetful) =
        (born(Role::Controller), born(Role::Agent), born(Role::Agent));
    let config = server_config(&controller, agents_policy()).unwrap();
    let greeter = greeter(config, ListenerLimits::default()).await;
    let renew = |store: &Arc<CertStore>, role| {
        let now = now_ms();
        if store.certificate().validity().renewal_due(now, 0) {
            let csr = virtflow_pki::Csr::from_der(&store.csr().unwrap()).unwrap();
            let request = virtflow_pki::LeafRequest {
                role,
                subject_id: store.identity().subject_id,
                dns_names: Vec::new(),
                ip_addresses: Vec::new(),
                lifetime: LIFE,
            };
            store
                .replace(cluster.ca.sign(&csr, &request, now).unwrap())
                .unwrap();
            return 1;
        }
        0
    };
    let mut renewals = 0;
    let end = now_ms() + 7_000;
    while now_ms() < end {
        renewals += renew(&controller, Role::Controller) + renew(&agent, Role::Agent);
        let outcome = attempt(cluster.agent(&agent), greeter.port).await;
        assert_eq!(outcome, Outcome::Greeted);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Two stores, each due at the turn of the second after the one in which it was signed.
    assert!((10..=16).contains(&renewals), "{renewals} renewals");
    assert_eq!(
        attempt(cluster.agent(&forgetful), greeter.port).await,
        Outcome::Alert(AlertDescription::CertificateExpired)
    );
}

#[test]
fn a_store_refuses_what_is_not_its_renewal() {
    let cluster = Cluster::new();
    let life = Duration::from_secs(60);
    let key = KeyPair::generate().unwrap();
    let first = cluster.sign(&key, Role::Agent, now_ms(), life);
    let other_role = cluster.sign(&key, Role::Controller, now_ms(), life);
    let other_cluster = Cluster::new().sign(&key, Role::Agent, now_ms(), life);
    let other_key = cluster.sign(&KeyPair::generate().unwrap(), Role::Agent, now_ms(), life);
    // Right in everything but the signature.
    let same_cluster_id_other_ca = {
        let forge = crate::support::Forge::new(cluster.ca.cluster_id());
        let mut params = forge.leaf("agent");
        params.subject_alt_names = vec![crate::support::uri(&first.identity().to_string())];
        let csr = key.csr().unwrap();
        let csr = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let issuer = rcgen::Issuer::from_params(&forge.params, &forge.key);
        let signed = params.signed_by(&csr.public_key, &issuer).unwrap();
        Certificate::from_der(signed.der().to_vec()).unwrap()
    };
    assert_eq!(same_cluster_id_other_ca.key(), first.key());
    assert_eq!(same_cluster_id_other_ca.identity(), first.identity());
    let store = CertStore::new(key, first.clone(), cluster.ca.certificate()).unwrap();
    for wrong in [
        other_role,
        other_cluster,
        other_key,
        same_cluster_id_other_ca,
    ] {
        assert!(matches!(
            store.replace(wrong),
            Err(PkiError::Mismatch { .. })
        ));
    }
    assert_eq!(*store.certificate(), first);
    assert_eq!(store.identity().subject_id, Uuid::from_u128(7));
}

#[test]
fn renewal_is_due_at_a_third_of_the_life_counted_from_signing() {
    let issued_ms = 1_000_000_000;
    let validity = Validity {
        not_before_ms: issued_ms - 300_000,
        issued_ms,
        not_after_ms: issued_ms + 90_000,
    };
    assert!(!validity.renewal_due(issued_ms + 26_999, 0));
    assert!(validity.renewal_due(issued_ms + 27_000, 0));
    assert_eq!(validity.renew_at_ms(3_000), issued_ms + 30_000);
    assert_eq!(validity.renew_at_ms(6_000), issued_ms + 33_000);
    assert_eq!(validity.renew_at_ms(6_001), issued_ms + 27_000);
}

proptest! {
    #[test]
    fn renewal_is_within_a_tenth_of_the_third_for_any_jitter(
        life_ms in 4_000_u64..10_000_000_000, jitter: u64,
    ) {
        let validity = Validity { not_before_ms: 0, issued_ms: 300_000, not_after_ms: 300_000 + life_ms };
        let after = validity.renew_at_ms(jitter) - 300_000;
        prop_assert!(after * 30 + 60 >= life_ms * 9 && after * 30 <= life_ms * 11 + 60, "{after} of {life_ms}");
    }
}
