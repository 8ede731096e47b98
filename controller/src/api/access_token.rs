//! Access tokens: short-lived JWTs (HS256) that name a session.
//!
//! A token proves nothing by itself but that we signed it: the session it names is looked up at each
//! request. There is exactly one accepted header, compared as text, so no algorithm can be chosen by
//! the caller.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use virtflow_types::{ObjectId, Timestamp};

/// How long an access token is good for.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Longest token looked at.
const BYTES_MAX: usize = 1024;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    /// The cluster.
    iss: ObjectId,
    /// The user.
    sub: ObjectId,
    /// The session.
    sid: ObjectId,
    /// Issued, seconds since the Unix epoch.
    iat: u64,
    /// Refused from then on, seconds since the Unix epoch.
    exp: u64,
}

/// Makes and checks access tokens of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct AccessTokens {
    key: hmac::Key,
    cluster_id: ObjectId,
}

impl AccessTokens {
    /// With the key that all controllers derive alike.
    pub(crate) fn new(key: &[u8; 32], cluster_id: ObjectId) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            cluster_id,
        }
    }

    /// A token for a session of a user.
    pub(crate) fn issue(&self, user_id: ObjectId, session_id: ObjectId, now: Timestamp) -> String {
        let issued = now.ms() / 1000;
        let claims = Claims {
            iss: self.cluster_id,
            sub: user_id,
            sid: session_id,
            iat: issued,
            exp: issued + LIFETIME.as_secs(),
        };
        let claims = serde_json::to_vec(&claims).expect("claims are plain text and numbers");
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(HEADER),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The session that a token names, if we signed it and it has not expired.
    pub(crate) fn session(&self, token: &str, now: Timestamp) -> Option<ObjectId> {
        if token.len() > BYTES_MAX {
            return None;
        }
        let (signed, tag) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != URL_SAFE_NO_PAD.encode(HEADER) {
            return None;
        }
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &tag).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let valid = claims.iss == self.cluster_id && now.ms() / 1000 < claims.exp;
        valid.then_some(claims.sid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_456_800_000);

    fn tokens(key: u8, cluster: u128) -> AccessTokens {
        AccessTokens::new(&[key; 32], ObjectId::from_u128(cluster))
    }

    #[test]
    fn names_its_session_until_it_expires() {
        let tokens = tokens(7, 1);
        let session = ObjectId::from_u128(3);
        let token = tokens.issue(ObjectId::from_u128(2), session, NOW);
        assert_eq!(tokens.session(&token, NOW), Some(session));
        let last = NOW.plus(LIFETIME - Duration::from_secs(1));
        assert_eq!(tokens.session(&token, last), Some(session));
        assert_eq!(tokens.session(&token, NOW.plus(LIFETIME)), None);
    }

    #[test]
    fn forged_and_foreign_tokens_are_refused() {
        let ours = tokens(7, 1);
        let token = ours.issue(ObjectId::from_u128(2), ObjectId::from_u128(3), NOW);
        assert_eq!(tokens(8, 1).session(&token, NOW), None, "another key");
        assert_eq!(tokens(7, 2).session(&token, NOW), None, "another cluster");
        let parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}A.{}", parts[0], parts[1], parts[2]),
            String::new(),
            "..".into(),
            "x".repeat(BYTES_MAX + 1),
        ] {
            assert_eq!(ours.session(&forged, NOW), None, "{forged}");
        }
    }

    #[test]
    fn every_bit_of_the_signature_counts() {
        let ours = tokens(7, 1);
        let token = ours.issue(ObjectId::from_u128(2), ObjectId::from_u128(3), NOW);
        let (signed, tag) = token.rsplit_once('.').unwrap();
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap();
        assert_eq!(tag.len(), 32);
        for bit in 0..256 {
            let mut flipped = tag.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&flipped));
            assert_eq!(ours.session(&forged, NOW), None, "bit {bit}");
        }
    }
}
