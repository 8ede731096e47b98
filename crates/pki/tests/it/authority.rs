//! What the CA signs, and what it refuses to.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use uuid::Uuid;
use virtflow_pki::{
    CSR_BYTES_MAX, CaCertificate, Certificate, CertificateAuthority, Csr, Identity, KeyPair,
    LEAF_LIFETIME_MAX, LEAF_NAMES_MAX, LeafRequest, PkiError, Role, SealKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest};

use crate::support::{Cluster, Forge, now_ms, uri};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn request(role: Role) -> LeafRequest {
    LeafRequest {
        role,
        subject_id: Uuid::new_v4(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        lifetime: DAY,
    }
}

fn csr() -> Csr {
    Csr::from_der(&KeyPair::generate().unwrap().csr().unwrap()).unwrap()
}

#[test]
fn a_certificate_says_what_was_asked_for_and_no_more() {
    let ca = Cluster::new().ca;
    let key = KeyPair::generate().unwrap();
    let csr = Csr::from_der(&key.csr().unwrap()).unwrap();
    let now_ms = 1_900_000_000_123;
    let mut asked = request(Role::Controller);
    asked.dns_names = vec!["c1.example".into()];
    asked.ip_addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let signed = ca.sign(&csr, &asked, now_ms).unwrap();

    let identity = Identity {
        cluster_id: ca.cluster_id(),
        role: Role::Controller,
        subject_id: asked.subject_id,
    };
    assert_eq!(signed.identity(), identity);
    assert_eq!(signed.key(), key.fingerprint());
    assert_eq!(csr.fingerprint(), key.fingerprint());
    let validity = signed.validity();
    assert_eq!(validity.issued_ms, 1_900_000_000_000);
    assert_eq!(validity.not_before_ms, 1_899_999_700_000);
    assert_eq!(validity.not_after_ms, 1_900_086_400_000);

    let (_, parsed) = X509Certificate::from_der(signed.der()).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let text = identity.to_string();
    assert_eq!(
        names.value.general_names,
        [
            GeneralName::URI(&text),
            GeneralName::DNSName("c1.example"),
            GeneralName::IPAddress(&[10, 0, 0, 1]),
            GeneralName::IPAddress(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ]
    );
    assert!(!parsed.is_ca());
    assert_eq!(parsed.raw_serial().len(), 16);
    assert_eq!(Certificate::from_pem(&signed.pem()).unwrap(), signed);
    ca.trust().verify(&signed, now_ms).unwrap();
}

#[test]
fn usages_follow_the_role() {
    let ca = Cluster::new().ca;
    for (role, server) in [
        (Role::Controller, true),
        (Role::Agent, true),
        (Role::Client, false),
    ] {
        let signed = ca.sign(&csr(), &request(role), now_ms()).unwrap();
        let (_, parsed) = X509Certificate::from_der(signed.der()).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert_eq!(
            (usage.client_auth, usage.server_auth, usage.any),
            (true, server, false)
        );
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
    }
}

#[test]
fn every_agent_has_the_one_name_that_monitoring_knows_it_by() {
    let ca = Cluster::new().ca;
    let signed = ca.sign(&csr(), &request(Role::Agent), now_ms()).unwrap();
    let (_, parsed) = X509Certificate::from_der(signed.der()).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let text = signed.identity().to_string();
    assert_eq!(
        names.value.general_names,
        [
            GeneralName::URI(&text),
            GeneralName::DNSName("agent.virtflow.internal"),
        ]
    );
}

#[test]
fn what_a_request_asks_for_is_ignored() {
    let ca = Cluster::new().ca;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::default();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
    greedy.subject_alt_names = vec![
        uri(&Forge::new(ca.cluster_id()).uri("controller")),
        SanType::DnsName("controller.example".try_into().unwrap()),
    ];
    let csr = Csr::from_der(greedy.serialize_request(&key).unwrap().der()).unwrap();
    let asked = request(Role::Client);
    let signed = ca.sign(&csr, &asked, now_ms()).unwrap();
    assert_eq!(signed.identity().role, Role::Client);
    assert_eq!(signed.identity().subject_id, asked.subject_id);
    let (_, parsed) = X509Certificate::from_der(signed.der()).unwrap();
    assert!(!parsed.is_ca());
    assert!(!parsed.extended_key_usage().unwrap().unwrap().value.any);
    assert_eq!(
        parsed
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .len(),
        1
    );
}

#[test]
fn serial_numbers_differ_for_the_same_key() {
    let ca = Cluster::new().ca;
    let (csr, asked, now_ms) = (csr(), request(Role::Agent), now_ms());
    let serials: std::collections::HashSet<String> = (0..50)
        .map(|_| ca.sign(&csr, &asked, now_ms).unwrap().serial_hex())
        .collect();
    assert_eq!(serials.len(), 50);
}

#[test]
fn a_request_needs_a_proof_of_its_p256_key() {
    let key = KeyPair::generate().unwrap();
    let der = key.csr().unwrap();
    let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
    let signed = parsed.certification_request_info.raw;
    let start = der
        .windows(signed.len())
        .position(|window| window == signed)
        .unwrap();
    for at in 0..der.len() {
        let mut altered = der.clone();
        altered[at] ^= 1;
        match Csr::from_der(&altered) {
            Err(_) => {}
            // A parser may be lenient with a tag outside what is signed; the key is not touched.
            Ok(csr) => {
                assert!(
                    !(start..start + signed.len()).contains(&at),
                    "byte {at} is signed"
                );
                assert_eq!(csr.fingerprint(), key.fingerprint(), "byte {at}");
            }
        }
    }
    assert!(Csr::from_der(&[der.as_slice(), &[0]].concat()).is_err());
    assert!(Csr::from_der(&der[..der.len() - 1]).is_err());
    assert!(Csr::from_der(&[]).is_err());
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let other = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&other)
            .unwrap();
        let error = Csr::from_der(csr.der()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "certificate request refused: the key must be ECDSA P-256 with SHA-256"
        );
    }
}

#[test]
fn a_request_that_is_too_long_is_refused_before_it_is_read() {
    let key = rcgen::KeyPair::generate().unwrap();
    let sized = |filler: usize| {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "x".repeat(filler));
        params.serialize_request(&key).unwrap().der().to_vec()
    };
    let mut filler = CSR_BYTES_MAX - 400;
    while sized(filler).len() < CSR_BYTES_MAX - 2 {
        filler += 1;
    }
    assert!(Csr::from_der(&sized(filler)).is_ok());
    let error = Csr::from_der(&sized(filler + 10)).unwrap_err();
    assert!(error.to_string().contains("at most 4096"), "{error}");
}

#[test]
fn pem_requests_are_read() {
    let key = rcgen::KeyPair::generate().unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let csr = Csr::from_pem(&request.pem().unwrap()).unwrap();
    assert_eq!(
        csr.fingerprint(),
        Csr::from_der(request.der()).unwrap().fingerprint()
    );
    assert!(Csr::from_pem("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n").is_err());
}

#[test]
fn lifetimes_and_names_have_limits() {
    let ca = Cluster::new().ca;
    let outcome = |spoil: &dyn Fn(&mut LeafRequest)| {
        let mut asked = request(Role::Controller);
        spoil(&mut asked);
        ca.sign(&csr(), &asked, now_ms()).map(drop)
    };
    let addresses = |count: usize| vec![IpAddr::from([127, 0, 0, 1]); count];
    assert!(outcome(&|asked| asked.lifetime = Duration::from_secs(1)).is_ok());
    assert!(outcome(&|asked| asked.lifetime = LEAF_LIFETIME_MAX).is_ok());
    assert!(outcome(&|asked| asked.ip_addresses = addresses(LEAF_NAMES_MAX)).is_ok());
    let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
    assert!(
        outcome(&|asked| asked.dns_names = vec!["c-1.rack2.example".into(), long.clone()]).is_ok()
    );

    assert!(outcome(&|asked| asked.lifetime = Duration::from_millis(999)).is_err());
    assert!(outcome(&|asked| asked.lifetime = LEAF_LIFETIME_MAX + DAY).is_err());
    assert!(outcome(&|asked| asked.ip_addresses = addresses(LEAF_NAMES_MAX + 1)).is_err());
    for name in [
        "",
        "*.example",
        "a..b",
        "-a",
        "a-",
        "a b",
        "ä.example",
        "a.example.",
        "virtflow://x",
        &"a".repeat(64),
    ] {
        let refused = outcome(&|asked| asked.dns_names = vec![name.into()]);
        assert!(matches!(refused, Err(PkiError::Request { .. })), "{name}");
    }
    for role in [Role::Agent, Role::Client] {
        let refused = outcome(&|asked| {
            asked.role = role;
            asked.dns_names = vec!["a.example".into()];
        });
        assert!(refused.is_err(), "{role}");
    }
}

#[test]
fn a_sealed_ca_opens_with_its_key_and_signs_on() {
    let cluster = Cluster::new();
    let (right, wrong) = (SealKey::generate().unwrap(), SealKey::generate().unwrap());
    let sealed = cluster.ca.sealed(&right).unwrap();
    let opened = CertificateAuthority::open(&sealed, &right).unwrap();
    assert_eq!(opened.certificate(), cluster.ca.certificate());
    let signed = opened
        .sign(&csr(), &request(Role::Agent), now_ms())
        .unwrap();
    cluster.ca.trust().verify(&signed, now_ms()).unwrap();
    let error = CertificateAuthority::open(&sealed, &wrong).unwrap_err();
    assert!(matches!(error, PkiError::WrongSealKey { .. }), "{error}");
}

#[test]
fn a_sealed_ca_that_was_tampered_with_does_not_open() {
    let key = SealKey::generate().unwrap();
    let sealed = Cluster::new().ca.sealed(&key).unwrap();
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        // The PEM armour around the certificate is not part of it.
        if let Ok(opened) = CertificateAuthority::open(&altered, &key) {
            let original = CertificateAuthority::open(&sealed, &key).unwrap();
            assert_eq!(opened.certificate(), original.certificate(), "byte {at}");
        }
    }
    // Another cluster's certificate beside our key.
    let theirs = Cluster::new().ca.sealed(&key).unwrap();
    let mut ours: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
    let theirs: serde_json::Value = serde_json::from_slice(&theirs).unwrap();
    ours["certificate_pem"] = theirs["certificate_pem"].clone();
    assert!(CertificateAuthority::open(ours.to_string().as_bytes(), &key).is_err());
    // A certificate of our cluster's name with another key.
    let id = CertificateAuthority::open(&sealed, &key)
        .unwrap()
        .cluster_id();
    let twin = CaCertificate::from_der(Forge::new(id).der.to_vec()).unwrap();
    ours["certificate_pem"] = twin.pem().into();
    let error = CertificateAuthority::open(ours.to_string().as_bytes(), &key).unwrap_err();
    assert!(matches!(error, PkiError::Unsealing { .. }), "{error}");
}

#[test]
fn only_a_self_signed_ca_of_a_cluster_is_taken_as_ca() {
    let forge = Forge::new(Uuid::new_v4());
    assert!(CaCertificate::from_der(forge.der.to_vec()).is_ok());
    assert!(CaCertificate::from_der(forge.sign(&forge.leaf("agent")).leaf().to_vec()).is_err());
    let mut unnamed = forge.params.clone();
    unnamed.subject_alt_names.clear();
    let unnamed = unnamed.self_signed(&forge.key).unwrap();
    assert!(CaCertificate::from_der(unnamed.der().to_vec()).is_err());
    let mut critical = forge.leaf("agent");
    critical.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    critical.subject_alt_names = vec![uri(&format!("virtflow://{}", forge.cluster_id))];
    critical.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0])];
    let signed_by_another = forge.sign(&critical);
    assert!(CaCertificate::from_der(signed_by_another.leaf().to_vec()).is_err());
    let mut altered = forge.der.to_vec();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    assert!(CaCertificate::from_der(altered).is_err());
}
