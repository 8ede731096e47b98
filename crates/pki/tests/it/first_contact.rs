//! Joining: all that the new machine knows is the fingerprint of the CA.

use rustls::AlertDescription;
use uuid::Uuid;
use virtflow_pki::{
    Alpn, CaCertificate, CaFingerprint, ClientCertificate, PkiError, Role, ServerExpectation,
    TlsConnector, client_config, server_config,
};

use crate::support::{
    Cluster, Forge, Outcome, Shown, agents_policy, greeter, meet, read_greeting, showing_to_client,
};

fn open_port(cluster: &Cluster) -> std::sync::Arc<rustls::ServerConfig> {
    let mut policy = agents_policy();
    policy.client_certificate = ClientCertificate::Optional;
    server_config(&cluster.store(Role::Controller), policy).unwrap()
}

fn stranger(fingerprint: CaFingerprint) -> std::sync::Arc<rustls::ClientConfig> {
    client_config(
        None,
        ServerExpectation::first_contact(fingerprint),
        Alpn::H2,
    )
    .unwrap()
}

#[tokio::test]
async fn the_right_fingerprint_finds_the_cluster_and_its_ca() {
    let cluster = Cluster::new();
    let fingerprint = cluster.ca.certificate().fingerprint();
    let greeter = greeter(open_port(&cluster), Default::default()).await;
    let connector = TlsConnector::new(stranger(fingerprint));
    let mut connection = connector.connect("127.0.0.1", greeter.port).await.unwrap();
    read_greeting(&mut connection).await.unwrap();
    assert_eq!(
        connection.server().identity.cluster_id,
        cluster.ca.cluster_id()
    );
    let ca = CaCertificate::from_der_pinned(connection.sent_ca().unwrap(), &fingerprint).unwrap();
    assert_eq!(&ca, cluster.ca.certificate());
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let fingerprint = ours.ca.certificate().fingerprint();
    let outcome = meet(open_port(&theirs), stranger(fingerprint)).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    let error =
        CaCertificate::from_der_pinned(theirs.ca.certificate().der().to_vec(), &fingerprint);
    assert!(
        matches!(error, Err(PkiError::PinMismatch { .. })),
        "{error:?}"
    );
}

/// Someone in between has no key of the CA, but its certificate is no secret: they send it along.
#[tokio::test]
async fn sending_the_pinned_ca_without_its_signature_is_refused() {
    let cluster = Cluster::new();
    let ca = cluster.ca.certificate();
    let attacker = Forge::new(cluster.ca.cluster_id());
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::from_params(&attacker.params, &attacker.key);
    let leaf = attacker
        .leaf("controller")
        .signed_by(&key, &issuer)
        .unwrap()
        .der()
        .clone();
    for chain in [
        vec![leaf.clone(), ca.der().clone()],
        vec![leaf.clone(), attacker.der.clone(), ca.der().clone()],
        vec![leaf.clone(), ca.der().clone(), attacker.der.clone()],
        vec![leaf],
        vec![ca.der().clone()],
        vec![ca.der().clone(), ca.der().clone()],
    ] {
        let server = showing_to_client(open_port(&cluster), Shown::new(chain, &key));
        let outcome = meet(server, stranger(ca.fingerprint())).await;
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
}

/// An agent of the right cluster that plays controller.
#[tokio::test]
async fn a_host_cannot_pose_as_a_controller() {
    let forge = Forge::new(Uuid::new_v4());
    let fingerprint = forge.trust().ca().fingerprint();
    let cluster = Cluster::new();
    let server = showing_to_client(open_port(&cluster), forge.sign(&forge.leaf("agent")));
    match meet(server, stranger(fingerprint)).await {
        Outcome::Refused(reason) => assert!(reason.contains("role agent"), "{reason}"),
        outcome => panic!("{outcome:?}"),
    }
    let server = showing_to_client(open_port(&cluster), forge.sign(&forge.leaf("controller")));
    assert_eq!(meet(server, stranger(fingerprint)).await, Outcome::Greeted);
}

#[tokio::test]
async fn a_port_that_needs_a_certificate_says_so() {
    let cluster = Cluster::new();
    let outcome = meet(
        cluster.agents_port(),
        stranger(cluster.ca.certificate().fingerprint()),
    )
    .await;
    assert_eq!(
        outcome,
        Outcome::Alert(AlertDescription::CertificateRequired)
    );
}

#[test]
fn fingerprints_are_read_as_tools_print_them() {
    let fingerprint = Cluster::new().ca.certificate().fingerprint();
    let plain = fingerprint.to_string();
    let pairs: Vec<&str> = (0..32).map(|at| &plain[2 * at..2 * at + 2]).collect();
    let colons = pairs.join(":").to_uppercase();
    assert_eq!(plain.parse::<CaFingerprint>().unwrap(), fingerprint);
    assert_eq!(colons.parse::<CaFingerprint>().unwrap(), fingerprint);
    for wrong in [
        "",
        &plain[1..],
        &format!("{plain}0"),
        &format!(" {plain}"),
        &plain.replacen(&plain[..1], "g", 1),
        &colons.replacen(':', "", 1),
        &format!("{}:", &colons[..colons.len() - 3]),
    ] {
        assert!(wrong.parse::<CaFingerprint>().is_err(), "{wrong}");
    }
}
