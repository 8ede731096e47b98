//! Passwords: Argon2id, in PHC form.
//!
//! Hashing takes tens of milliseconds and megabytes on purpose: call it on a blocking thread, few at a
//! time.

use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use virtflow_types::{Error, ErrorCode};

/// Shortest password that is accepted, in characters.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// Longest, in bytes: hashing more costs without gain.
pub const PASSWORD_BYTES_MAX: usize = 256;

const SALT_BYTES: usize = 16;
/// Letters and digits that are not mistaken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const GENERATED_CHARS: usize = 24;

fn argon2() -> Argon2<'static> {
    // 19 MiB, two passes, one lane: the least that is recommended for Argon2id.
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A hash that no known password gives: verified for users that do not exist, at the same cost.
pub(crate) static DUMMY: LazyLock<String> =
    LazyLock::new(|| hash_unchecked(&generate()).unwrap_or_default());

/// Refuses what is too short or too long.
pub fn check(password: &str) -> Result<(), Error> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(Error::invalid(
            "password",
            format!("must have at least {PASSWORD_CHARS_MIN} characters"),
        ));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::invalid(
            "password",
            format!("must have at most {PASSWORD_BYTES_MAX} bytes"),
        ));
    }
    Ok(())
}

/// The PHC text to keep.
pub fn hash(password: &str) -> Result<String, Error> {
    check(password)?;
    hash_unchecked(password)
}

fn hash_unchecked(password: &str) -> Result<String, Error> {
    let salt: [u8; SALT_BYTES] = virtflow_types::chance::bytes();
    argon2()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| Error::new(ErrorCode::Internal, format!("hashing a password: {error}")))
}

/// True if `phc` was made of `password`. False for a text that is no hash.
pub(crate) fn verify(phc: &str, password: &str) -> bool {
    if password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    PasswordHash::new(phc)
        .is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
}

/// A random password: 24 characters of 32, 120 bits.
pub fn generate() -> String {
    let chance: [u8; GENERATED_CHARS] = virtflow_types::chance::bytes();
    chance
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_and_another_does_not() {
        let phc = hash("correct horse battery").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(verify(&phc, "correct horse battery"));
        assert!(!verify(&phc, "correct horse batterx"));
        assert!(!verify("", "correct horse battery"));
        assert!(!verify(&phc, &"x".repeat(10_000)));
        assert!(hash("short").is_err());
        assert_ne!(generate(), generate());
    }

    /// A vector of the reference implementation's own test.
    #[test]
    fn agrees_with_the_reference_implementation() {
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify(phc, "password"));
        assert!(!verify(phc, "Password"));
    }
}
