//! Whatever is shown as a token, a request, a certificate, a key, or a sealed secret.
//!
//! The certificates were made by OpenSSL, the boxes by the program that made the first ones.

use uuid::Uuid;
use virtflow_testkit::fuzz::{Format, Target, text};

use crate::{
    CaCertificate, CaFingerprint, Certificate, CertificateAuthority, Csr, Identity, KeyFingerprint,
    KeyPair, SealContext, SealKey, Token, TokenHash,
};

const CA: &[u8] = include_bytes!("fuzz/ca.der");
const LEAF: &[u8] = include_bytes!("fuzz/leaf.der");
const CSR: &[u8] = include_bytes!("fuzz/csr.der");
const KEY: &[u8] = include_bytes!("fuzz/key.pem");
const BOX: &[u8] = include_bytes!("fuzz/box.bin");
const WRAPPED: &[u8] = include_bytes!("fuzz/wrapped.bin");
const SEALED_CA: &[u8] = include_bytes!("fuzz/sealed-ca.json");
const IDENTITY: &str =
    "virtflow://0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11/agent/0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c22";
const TOKEN: &str =
    "vfj1.0190d3b27c1e7e6ab1a15b0e3f4d2c11.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const CLUSTER: Uuid = Uuid::from_u128(0xc1);
const CONTEXT: SealContext<'static> = SealContext {
    kind: "virtual_machine",
    id: "0190d3b2-7c1e-7e6a-b1a1-5b0e3f4d2c11",
    field: "password",
};

#[test]
fn token() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    Target::new("token", Format::Text)
        .seed(TOKEN)
        .seed(TOKEN.replace("vfj1", "vft1"))
        .seed(hash)
        .words(&["vfj1", "vft1", ".", "=", "-", "_", "+", "/"])
        .iterations(10_000)
        .run(|input| {
            let text = text(input);
            let hash = text.parse::<TokenHash>();
            if let Ok(hash) = &hash {
                assert_eq!(hash.to_string(), text.to_ascii_lowercase());
            }
            let fingerprints = (
                text.parse::<KeyFingerprint>(),
                text.parse::<CaFingerprint>(),
            );
            if let Ok(key) = &fingerprints.0 {
                assert_eq!(
                    key.to_string().parse::<KeyFingerprint>().as_ref().ok(),
                    Some(key)
                );
            }
            let read = Token::parse(&text);
            if let Ok(token) = &read {
                // One spelling: two texts never open the same door.
                assert_eq!(**token.text(), *text);
                assert!(token.hash().matches(token));
            }
            read.map(|_| ())
                .or(hash.map(|_| ()))
                .or(fingerprints.0.map(|_| ()))
                .map_err(|error| error.to_string())
        });
}

#[test]
fn identity() {
    Target::new("identity", Format::Text)
        .seed(IDENTITY)
        .words(&[
            "virtflow://",
            "/",
            "controller",
            "agent",
            "client",
            "Virtflow://",
            "{",
            "}",
        ])
        .iterations(10_000)
        .run(|input| {
            let text = text(input);
            let read: Identity = text.parse().map_err(|e: crate::PkiError| e.to_string())?;
            assert_eq!(read.to_string(), *text);
            Ok(())
        });
}

#[test]
fn certificate() {
    Target::new("certificate", Format::Bytes)
        .seed(LEAF)
        .seed(CA)
        .words(&["virtflow://", "VirtFlow:", IDENTITY])
        .memory(24, 64 * 1024)
        .run(|input| {
            let leaf = Certificate::from_der(input.to_vec());
            if let Ok(leaf) = &leaf {
                assert_eq!(Certificate::from_pem(&leaf.pem()).unwrap(), *leaf);
                let _ = (leaf.serial_hex(), leaf.validity().renew_at_ms(u64::MAX));
                let _ = leaf.validity().is_expired(0);
            }
            let ca = CaCertificate::from_der(input.to_vec());
            if let Ok(ca) = &ca {
                assert_eq!(CaCertificate::from_pem(&ca.pem()).unwrap(), *ca);
            }
            leaf.map(|_| ())
                .or(ca.map(|_| ()))
                .map_err(|error| error.to_string())
        });
}

#[test]
fn certificate_request() {
    Target::new("certificate_request", Format::Bytes)
        .seed(CSR)
        .memory(24, 64 * 1024)
        .run(|input| {
            let read = Csr::from_der(input).map_err(|error| error.to_string())?;
            let again = Csr::from_pem(&crate::certificate::pem("CERTIFICATE REQUEST", input));
            assert_eq!(again.unwrap().fingerprint(), read.fingerprint());
            Ok(())
        });
}

#[test]
fn pem() {
    Target::new("pem", Format::Text)
        .seed(KEY)
        .seed(crate::certificate::pem("CERTIFICATE", LEAF))
        .seed(crate::certificate::pem("CERTIFICATE REQUEST", CSR))
        .words(&[
            "-----BEGIN CERTIFICATE-----\n",
            "-----END CERTIFICATE-----\n",
            "-----",
            "PRIVATE KEY",
            "\r\n",
        ])
        .iterations(1500)
        .sizes(2048, 64 * 1024)
        .memory(24, 64 * 1024)
        .run(|input| {
            let text = text(input);
            let key = KeyPair::from_pem(input);
            if let Ok(key) = &key {
                let again = KeyPair::from_pem(key.pem().as_bytes()).unwrap();
                assert_eq!(again.fingerprint(), key.fingerprint());
            }
            let certificate = Certificate::from_pem(&text);
            let request = Csr::from_pem(&text);
            key.map(|_| ())
                .or(certificate.map(|_| ()))
                .or(request.map(|_| ()))
                .map_err(|error| error.to_string())
        });
}

fn seal_key() -> SealKey {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seal.key");
    let fixed: Vec<u8> = (0..32).collect();
    crate::files::write(
        &path,
        &fixed,
        crate::files::PRIVATE,
        crate::files::Replace::No,
    )
    .unwrap();
    SealKey::load(&path, None).unwrap()
}

#[test]
fn sealed_box() {
    let key = seal_key();
    assert_eq!(**key.open(&CONTEXT, BOX).unwrap(), *b"a secret");
    let other = SealContext {
        field: "token",
        ..CONTEXT
    };
    Target::new("sealed_box", Format::Bytes)
        .seed(BOX)
        .seed(WRAPPED)
        .run(|input| {
            let opened = key.open(&CONTEXT, input).map_err(|error| error.to_string());
            // Only the very box opens, and only where it belongs.
            assert_eq!(opened.is_ok(), input == BOX);
            assert!(key.open(&other, input).is_err());
            let unwrapped = SealKey::unwrap_with_secret(&[7; 32], CLUSTER, input);
            assert_eq!(unwrapped.is_ok(), input == WRAPPED);
            opened
                .map(|_| ())
                .or(unwrapped.map(|_| ()))
                .map_err(|error| error.to_string())
        });
}

#[test]
fn sealed_ca() {
    let key = seal_key();
    Target::new("sealed_ca", Format::Text)
        .seed(SEALED_CA)
        .words(&[
            "\"format\"",
            "\"certificate_pem\"",
            "\"sealed_key\"",
            "-----END CERTIFICATE-----",
        ])
        .iterations(2000)
        .memory(24, 64 * 1024)
        .run(|input| {
            let opened = CertificateAuthority::open(input, &key).map_err(|e| e.to_string())?;
            let again = CertificateAuthority::open(&opened.sealed(&key).unwrap(), &key).unwrap();
            assert_eq!(again.certificate(), opened.certificate());
            Ok(())
        });
}
