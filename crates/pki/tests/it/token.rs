//! Tokens: one spelling, one use, and only the hash is kept.

use proptest::prelude::*;
use uuid::Uuid;
use virtflow_pki::{Token, TokenHash, TokenPrefix};

const ID: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_00ab);

#[test]
fn the_text_is_as_documented() {
    for (prefix, word) in [(TokenPrefix::Join, "vfj1"), (TokenPrefix::Api, "vft1")] {
        let text = Token::generate(prefix, ID).unwrap().text();
        let parts: Vec<&str> = text.split('.').collect();
        assert_eq!(parts[..2], [word, "019200000000700080000000000000ab"]);
        assert_eq!(parts[2].len(), 43);
        assert_eq!(parts.len(), 3);
    }
}

#[test]
fn a_token_is_read_back_and_matches_its_hash_alone() {
    let token = Token::generate(TokenPrefix::Api, ID).unwrap();
    let read = Token::parse(&token.text()).unwrap();
    assert_eq!(
        (read.prefix(), read.id(), read.secret()),
        (TokenPrefix::Api, ID, token.secret())
    );
    let hash = token.hash();
    assert!(hash.matches(&read));
    assert!(!hash.matches(&Token::generate(TokenPrefix::Api, ID).unwrap()));
    let stored: TokenHash = hash.to_string().parse().unwrap();
    assert!(stored.matches(&token));
    let stored: TokenHash = serde_json::from_str(&serde_json::to_string(&hash).unwrap()).unwrap();
    assert!(stored.matches(&token));
}

#[test]
fn the_hash_is_bound_to_purpose_and_id() {
    let token = Token::generate(TokenPrefix::Join, ID).unwrap();
    let text = token.text();
    let as_api = Token::parse(&text.replacen("vfj1", "vft1", 1)).unwrap();
    let other_id = Token::parse(&text.replacen("00ab.", "00ac.", 1)).unwrap();
    assert_eq!(as_api.secret(), token.secret());
    assert!(!token.hash().matches(&as_api));
    assert!(!token.hash().matches(&other_id));
}

#[test]
fn any_other_text_is_no_token_or_another_one() {
    let token = Token::generate(TokenPrefix::Api, ID).unwrap();
    let text = token.text();
    for at in 0..text.len() {
        for replacement in ['A', '_', '.', '=', '0', ' '] {
            let mut altered = text.to_string();
            altered.replace_range(at..=at, &replacement.to_string());
            if altered == *text {
                continue;
            }
            if let Ok(other) = Token::parse(&altered) {
                assert!(!token.hash().matches(&other), "{at} {replacement}");
                // One spelling: what is read is what is written.
                assert_eq!(*other.text(), altered);
            }
        }
        assert!(Token::parse(&text[..at]).is_err());
    }
    for wrong in [
        format!("{}\n", *text),
        format!(" {}", *text),
        text.to_uppercase(),
        text.replacen("vft1", "vft2", 1),
        text.replacen('.', "..", 1),
        format!("{}=", *text),
        "ä".repeat(40),
    ] {
        assert!(Token::parse(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn neither_debug_nor_errors_show_the_secret() {
    let token = Token::generate(TokenPrefix::Join, ID).unwrap();
    let text = token.text();
    let secret = &text[38..];
    assert!(!format!("{token:?}").contains(secret));
    let error = Token::parse(&text[..text.len() - 1]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&secret[..42]));
}

proptest! {
    #[test]
    fn reading_never_panics(text in "(vf[jt]1)?\\.?[0-9a-f]{0,34}\\.?.{0,45}") {
        if let Ok(token) = Token::parse(&text) {
            let written = token.text();
            prop_assert_eq!(written.as_str(), text);
        }
    }
}
