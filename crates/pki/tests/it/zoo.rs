//! A zoo of certificates, shown to a server by clients and to a client by servers. One of them is
//! right, all others must fail, each for its own reason.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use time::OffsetDateTime;
use uuid::Uuid;
use virtflow_pki::{
    Admission, Alpn, CertStore, Certificate, ClientCertificate, ServerExpectation, ServerPolicy,
    client_config, server_config,
};

use crate::support::{
    Forge, Outcome, Shown, agents_policy, meet, showing_to_client, showing_to_server, uri,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Animal {
    name: &'static str,
    shown: Shown,
    /// The alert with which a server turns a client away.
    alert: AlertDescription,
    /// What a client says of a server, in part.
    reason: &'static str,
}

/// Everything that must fail where role `right` is expected.
fn zoo(forge: &Forge, right: &str, wrong: &str) -> Vec<Animal> {
    let spoilt = |spoil: &dyn Fn(&mut CertificateParams)| {
        let mut params = forge.leaf(right);
        spoil(&mut params);
        forge.sign(&params)
    };
    let with_uris = |uris: &[&str]| {
        spoilt(&|params| params.subject_alt_names = uris.iter().map(|text| uri(text)).collect())
    };
    let now = OffsetDateTime::now_utc();
    let good = forge.uri(right);
    let other_cluster = Forge::new(Uuid::new_v4());
    let same_cluster_other_ca = Forge::new(forge.cluster_id);
    let unknown = AlertDescription::CertificateUnknown;
    let animal = |name, shown, alert, reason| Animal {
        name,
        shown,
        alert,
        reason,
    };

    vec![
        animal(
            "wrong role",
            forge.sign(&forge.leaf(wrong)),
            unknown,
            "only role",
        ),
        animal(
            "other cluster's CA",
            other_cluster.sign(&other_cluster.leaf(right)),
            AlertDescription::UnknownCA,
            "UnknownIssuer",
        ),
        animal(
            "our id, another CA",
            same_cluster_other_ca.sign(&same_cluster_other_ca.leaf(right)),
            AlertDescription::DecryptError,
            "BadSignature",
        ),
        animal(
            "our CA, another cluster's id",
            forge.sign(&other_cluster.leaf(right)),
            unknown,
            "is of cluster",
        ),
        animal(
            "self-signed",
            self_signed(forge, right),
            AlertDescription::UnknownCA,
            "UnknownIssuer",
        ),
        animal(
            "self-signed, our CA sent along",
            self_signed_with_our_ca(forge, right),
            AlertDescription::UnknownCA,
            "UnknownIssuer",
        ),
        animal(
            "signed by a leaf",
            signed_by_leaf(forge, right),
            AlertDescription::UnknownCA,
            "UnknownIssuer",
        ),
        animal(
            "the CA itself as a leaf",
            Shown::new(vec![forge.der.clone()], &forge.key),
            unknown,
            "CaUsedAsEndEntity",
        ),
        animal(
            "a CA below ours as a leaf",
            spoilt(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            unknown,
            "CaUsedAsEndEntity",
        ),
        animal(
            "signed by a CA below ours",
            signed_by_intermediate(forge, right),
            AlertDescription::UnknownCA,
            "UnknownIssuer",
        ),
        animal(
            "expired a day ago",
            spoilt(&|params| {
                params.not_before = now - 2 * DAY;
                params.not_after = now - DAY
            }),
            AlertDescription::CertificateExpired,
            "expired",
        ),
        animal(
            "expired two seconds ago",
            spoilt(&|params| params.not_after = now - Duration::from_secs(2)),
            AlertDescription::CertificateExpired,
            "expired",
        ),
        animal(
            "valid tomorrow",
            spoilt(&|params| {
                params.not_before = now + DAY;
                params.not_after = now + 2 * DAY
            }),
            AlertDescription::CertificateExpired,
            "not valid yet",
        ),
        animal(
            "valid in five seconds",
            spoilt(&|params| params.not_before = now + Duration::from_secs(5)),
            AlertDescription::CertificateExpired,
            "not valid yet",
        ),
        animal(
            "another's certificate, own key",
            forge
                .sign(&forge.leaf(right))
                .with_key_of(&forge.sign(&forge.leaf(right))),
            AlertDescription::DecryptError,
            "BadSignature",
        ),
        animal(
            "no subject alternative names",
            with_uris(&[]),
            unknown,
            "names no virtflow identity",
        ),
        animal(
            "a DNS name only",
            spoilt(&|params| {
                params.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())]
            }),
            unknown,
            "names no virtflow identity",
        ),
        animal(
            "two identities",
            with_uris(&[&good, &forge.uri(right)]),
            unknown,
            "more than one",
        ),
        animal(
            "one identity twice",
            with_uris(&[&good, &good]),
            unknown,
            "more than one",
        ),
        animal(
            "right and wrong role",
            with_uris(&[&good, &forge.uri(wrong)]),
            unknown,
            "more than one",
        ),
        animal(
            "right and misspelt",
            with_uris(&[&good, &good.replace("virtflow:", "VirtFlow:")]),
            unknown,
            "more than one",
        ),
        animal(
            "misspelt scheme",
            with_uris(&[&good.replace("virtflow:", "VIRTFLOW:")]),
            unknown,
            "malformed identity",
        ),
        animal(
            "another scheme",
            with_uris(&[&good.replace("virtflow:", "spiffe:")]),
            unknown,
            "names no virtflow identity",
        ),
        animal(
            "a path too long",
            with_uris(&[&format!("{good}/x")]),
            unknown,
            "malformed identity",
        ),
        animal(
            "a path too short",
            with_uris(&[&format!("virtflow://{}/{right}", forge.cluster_id)]),
            unknown,
            "malformed identity",
        ),
        animal(
            "unknown role",
            with_uris(&[&forge.uri("admin")]),
            unknown,
            "malformed role",
        ),
        animal(
            "role in capitals",
            with_uris(&[&forge.uri(&right.to_uppercase())]),
            unknown,
            "malformed role",
        ),
        animal(
            "empty role",
            with_uris(&[&forge.uri("")]),
            unknown,
            "malformed role",
        ),
        animal(
            "ids in capitals",
            with_uris(&[&format!(
                "virtflow://{}/{right}/{}",
                forge.cluster_id.to_string().to_uppercase(),
                Uuid::from_u128(0xabc).to_string().to_uppercase()
            )]),
            unknown,
            "malformed identity",
        ),
        animal(
            "subject without hyphens",
            with_uris(&[&format!(
                "virtflow://{}/{right}/{}",
                forge.cluster_id,
                Uuid::new_v4().simple()
            )]),
            unknown,
            "malformed identity",
        ),
        animal(
            "a query behind",
            with_uris(&[&format!("{good}?role=controller")]),
            unknown,
            "malformed identity",
        ),
        animal(
            "identity in the common name only",
            spoilt(&|params| {
                params.subject_alt_names.clear();
                params
                    .distinguished_name
                    .push(rcgen::DnType::CommonName, good.as_str())
            }),
            unknown,
            "names no virtflow identity",
        ),
        animal(
            "for code signing only",
            spoilt(&|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]
            }),
            AlertDescription::UnsupportedCertificate,
            "extended key usage",
        ),
        animal(
            "unknown critical extension",
            spoilt(&|params| {
                let mut extension = rcgen::CustomExtension::from_oid_content(
                    &[1, 3, 6, 1, 4, 1, 99999, 1],
                    vec![5, 0],
                );
                extension.set_criticality(true);
                params.custom_extensions.push(extension)
            }),
            unknown,
            "UnsupportedCriticalExtension",
        ),
    ]
}

fn self_signed(forge: &Forge, role: &str) -> Shown {
    let key = KeyPair::generate().unwrap();
    Shown::new(
        vec![forge.leaf(role).self_signed(&key).unwrap().der().clone()],
        &key,
    )
}

fn self_signed_with_our_ca(forge: &Forge, role: &str) -> Shown {
    let key = KeyPair::generate().unwrap();
    let leaf = forge.leaf(role).self_signed(&key).unwrap().der().clone();
    Shown::new(vec![leaf, forge.der.clone()], &key)
}

/// A host that signs for others with its own certificate.
fn signed_by_leaf(forge: &Forge, role: &str) -> Shown {
    signed_by(forge, role, IsCa::ExplicitNoCa)
}

fn signed_by_intermediate(forge: &Forge, role: &str) -> Shown {
    signed_by(forge, role, IsCa::Ca(BasicConstraints::Unconstrained))
}

fn signed_by(forge: &Forge, role: &str, is_ca: IsCa) -> Shown {
    let mut params = forge.leaf(role);
    params.is_ca = is_ca;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "between");
    let between_key = KeyPair::generate().unwrap();
    let root = Issuer::from_params(&forge.params, &forge.key);
    let between = params.signed_by(&between_key, &root).unwrap().der().clone();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&params, &between_key);
    let leaf = forge
        .leaf(role)
        .signed_by(&key, &issuer)
        .unwrap()
        .der()
        .clone();
    Shown::new(vec![leaf, between, forge.der.clone()], &key)
}

/// A server and a client of the forge's cluster, each showing what it has by default.
fn ends(forge: &Forge, policy: ServerPolicy) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let key = virtflow_pki::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateSigningRequestParams::from_der(&key.csr().unwrap().into()).unwrap();
    let issuer = Issuer::from_params(&forge.params, &forge.key);
    let leaf = forge
        .leaf("controller")
        .signed_by(&csr.public_key, &issuer)
        .unwrap();
    let certificate = Certificate::from_der(leaf.der().to_vec()).unwrap();
    let trust = forge.trust();
    let own = CertStore::new(key, certificate, trust.ca()).unwrap();
    let client = client_config(None, ServerExpectation::controller(trust), Alpn::H2).unwrap();
    (server_config(&own, policy).unwrap(), client)
}

#[tokio::test]
async fn a_server_takes_the_right_client_and_no_other() {
    let forge = Forge::new(Uuid::new_v4());
    let (server, client) = ends(&forge, agents_policy());
    let show = |shown| meet(server.clone(), showing_to_server(client.clone(), shown));

    assert_eq!(
        show(forge.sign(&forge.leaf("agent"))).await,
        Outcome::Greeted
    );
    for animal in zoo(&forge, "agent", "controller") {
        assert_eq!(
            show(animal.shown).await,
            Outcome::Alert(animal.alert),
            "{}",
            animal.name
        );
    }
    // A controller's certificate for servers only.
    let mut servers_only = forge.leaf("agent");
    servers_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let outcome = show(forge.sign(&servers_only)).await;
    assert_eq!(
        outcome,
        Outcome::Alert(AlertDescription::UnsupportedCertificate)
    );
    // Nothing at all.
    let outcome = meet(server, client).await;
    assert_eq!(
        outcome,
        Outcome::Alert(AlertDescription::CertificateRequired)
    );
}

#[tokio::test]
async fn a_client_takes_the_right_server_and_no_other() {
    let forge = Forge::new(Uuid::new_v4());
    let mut policy = agents_policy();
    policy.client_certificate = ClientCertificate::Optional;
    let (server, client) = ends(&forge, policy);
    let show = |shown| meet(showing_to_client(server.clone(), shown), client.clone());

    assert_eq!(
        show(forge.sign(&forge.leaf("controller"))).await,
        Outcome::Greeted
    );
    for animal in zoo(&forge, "controller", "agent") {
        match show(animal.shown).await {
            Outcome::Refused(reason) => {
                assert!(reason.contains(animal.reason), "{}: {reason}", animal.name);
            }
            outcome => panic!("{}: {outcome:?}", animal.name),
        }
    }
    let mut clients_only = forge.leaf("controller");
    clients_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert!(matches!(
        show(forge.sign(&clients_only)).await,
        Outcome::Refused(_)
    ));
}

#[tokio::test]
async fn where_a_certificate_is_optional_none_is_taken_and_a_wrong_one_is_not() {
    let forge = Forge::new(Uuid::new_v4());
    let (server, client) = ends(&forge, ServerPolicy::api(Arc::new(|_, _| Admission::Admit)));

    assert_eq!(meet(server.clone(), client.clone()).await, Outcome::Greeted);
    let right = showing_to_server(client.clone(), forge.sign(&forge.leaf("client")));
    assert_eq!(meet(server.clone(), right).await, Outcome::Greeted);
    for animal in zoo(&forge, "client", "agent") {
        let outcome = meet(
            server.clone(),
            showing_to_server(client.clone(), animal.shown),
        )
        .await;
        assert_eq!(outcome, Outcome::Alert(animal.alert), "{}", animal.name);
    }
}
