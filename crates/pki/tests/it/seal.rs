//! Sealed values open where they belong, whole, under their key; and nowhere else.

use proptest::prelude::*;
use uuid::Uuid;
use virtflow_pki::{PkiError, SealContext, SealKey, Token, TokenPrefix};

const CONTEXT: SealContext<'static> = SealContext {
    kind: "user",
    id: "u-1",
    field: "otp_secret",
};
const SECRET: &[u8] = b"correct horse battery staple";

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let key = SealKey::generate().unwrap();
    let sealed = key.seal(&CONTEXT, SECRET).unwrap();
    assert_eq!(key.open(&CONTEXT, &sealed).unwrap().as_slice(), SECRET);
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut altered = sealed.clone();
            altered[at] ^= 1 << bit;
            assert!(
                key.open(&CONTEXT, &altered).is_err(),
                "byte {at}, bit {bit}"
            );
        }
        assert!(
            key.open(&CONTEXT, &sealed[..at]).is_err(),
            "cut to {at} bytes"
        );
    }
    let longer = [sealed.as_slice(), &[0]].concat();
    assert!(key.open(&CONTEXT, &longer).is_err());
}

#[test]
fn a_box_opens_only_in_its_own_place() {
    let key = SealKey::generate().unwrap();
    let sealed = key.seal(&CONTEXT, SECRET).unwrap();
    for elsewhere in [
        SealContext {
            kind: "host",
            ..CONTEXT
        },
        SealContext {
            id: "u-2",
            ..CONTEXT
        },
        SealContext {
            field: "password",
            ..CONTEXT
        },
        // The same letters, cut elsewhere.
        SealContext {
            kind: "useru",
            id: "-1",
            field: "otp_secret",
        },
        SealContext {
            kind: "user",
            id: "u-1otp",
            field: "_secret",
        },
        SealContext {
            kind: "",
            id: "useru-1",
            field: "otp_secret",
        },
    ] {
        let error = key.open(&elsewhere, &sealed).unwrap_err();
        assert!(
            matches!(error, PkiError::Unsealing { .. }),
            "{elsewhere}: {error}"
        );
    }
}

#[test]
fn the_wrong_key_is_named() {
    let (right, wrong) = (SealKey::generate().unwrap(), SealKey::generate().unwrap());
    let error = wrong
        .open(&CONTEXT, &right.seal(&CONTEXT, SECRET).unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the value is sealed under key {}, but the key at hand is {}; load the seal key it \
             was sealed with",
            right.key_id(),
            wrong.key_id()
        )
    );
}

#[test]
fn equal_values_give_different_boxes_and_debug_shows_no_key() {
    let key = SealKey::generate().unwrap();
    assert_ne!(
        key.seal(&CONTEXT, SECRET).unwrap(),
        key.seal(&CONTEXT, SECRET).unwrap()
    );
    assert_eq!(
        format!("{key:?}"),
        format!("SealKey {{ key_id: KeyId({}), .. }}", key.key_id())
    );
}

#[test]
fn a_wrapped_key_opens_with_its_token_for_its_cluster_only() {
    let key = SealKey::generate().unwrap();
    let cluster = Uuid::new_v4();
    let token = Token::generate(TokenPrefix::Join, Uuid::new_v4()).unwrap();
    let other = Token::generate(TokenPrefix::Join, token.id()).unwrap();
    let wrapped = key.wrap_with_secret(token.secret(), cluster).unwrap();
    let unwrapped = SealKey::unwrap_with_secret(token.secret(), cluster, &wrapped).unwrap();
    let sealed = key.seal(&CONTEXT, SECRET).unwrap();
    assert_eq!(
        unwrapped.open(&CONTEXT, &sealed).unwrap().as_slice(),
        SECRET
    );

    assert!(SealKey::unwrap_with_secret(other.secret(), cluster, &wrapped).is_err());
    assert!(SealKey::unwrap_with_secret(token.secret(), Uuid::new_v4(), &wrapped).is_err());
    for at in 0..wrapped.len() {
        let mut altered = wrapped.clone();
        altered[at] ^= 1;
        assert!(
            SealKey::unwrap_with_secret(token.secret(), cluster, &altered).is_err(),
            "{at}"
        );
        assert!(SealKey::unwrap_with_secret(token.secret(), cluster, &wrapped[..at]).is_err());
    }
}

#[test]
fn derived_keys_depend_on_key_and_purpose_and_are_the_same_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    let key = SealKey::create_file(&path).unwrap();
    let elsewhere = SealKey::load(&path, None).unwrap();
    let derived = key.derive("access tokens").unwrap();
    assert_eq!(derived, elsewhere.derive("access tokens").unwrap());
    assert_ne!(derived, key.derive("access token").unwrap());
    assert_ne!(
        derived,
        SealKey::generate()
            .unwrap()
            .derive("access tokens")
            .unwrap()
    );
    assert_ne!(derived.as_slice(), std::fs::read(&path).unwrap());
}

proptest! {
    #[test]
    fn what_was_sealed_comes_back(
        kind in ".{0,20}", id in ".{0,40}", field in ".{0,20}",
        plaintext in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let key = SealKey::generate().unwrap();
        let context = SealContext { kind: &kind, id: &id, field: &field };
        let sealed = key.seal(&context, &plaintext).unwrap();
        let opened = key.open(&context, &sealed).unwrap();
        prop_assert_eq!(opened.as_slice(), plaintext.as_slice());
    }

    #[test]
    fn random_bytes_never_open_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = SealKey::generate().unwrap();
        prop_assert!(key.open(&CONTEXT, &bytes).is_err());
        prop_assert!(SealKey::unwrap_with_secret(&[7; 32], Uuid::nil(), &bytes).is_err());
    }
}
