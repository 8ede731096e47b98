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

/// Fewer make a password that is soon found, however long it is.
const CHARS_DIFFERENT_MIN: usize = 5;
/// Keys in a row, there and back.
const ROWS: &[&str] = &[
    "01234567890123456789",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz",
    "zyxwvutsrqponmlkjihgfedcba",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "q1w2e3r4t5y6u7i8o9p0",
    "1q2w3e4r5t6y7u8i9o0p",
];
/// Those of at least ten characters that lists of leaked passwords begin with.
const COMMON: &[&str] = &[
    "password12",
    "password123",
    "password1234",
    "password12345",
    "passw0rd123",
    "p@ssw0rd123",
    "p@ssword123",
    "password2025",
    "password2026",
    "password!1",
    "password1!",
    "changeme123",
    "changeme1234",
    "administrator",
    "administrator1",
    "admin12345",
    "admin123456",
    "adminadmin",
    "rootrootroot",
    "welcome123",
    "welcome1234",
    "welcome2025",
    "welcome2026",
    "letmein123",
    "letmein1234",
    "iloveyou12",
    "iloveyou123",
    "qwerty12345",
    "qwerty123456",
    "qwertyuiop1",
    "qwertyuiop123",
    "1234567890a",
    "a123456789",
    "123456789a",
    "abc1234567",
    "abcd123456",
    "football123",
    "baseball123",
    "superman123",
    "sunshine123",
    "princess123",
    "default123",
    "virtflow123",
    "virtflow1234",
    "secret1234",
    "secret12345",
    "testtest12",
    "test123456",
    "user123456",
];

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
    let lower = password.to_lowercase();
    let mut different: Vec<char> = lower.chars().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < CHARS_DIFFERENT_MIN {
        return Err(Error::invalid(
            "password",
            format!("must have at least {CHARS_DIFFERENT_MIN} different characters"),
        ));
    }
    if COMMON.contains(&lower.as_str()) || ROWS.iter().any(|row| row.contains(&lower)) {
        return Err(Error::invalid(
            "password",
            "is one of those that are tried first; choose another",
        ));
    }
    Ok(())
}

/// The same for a user of this name, which must not be what most of the password is.
pub fn check_for(user: &str, password: &str) -> Result<(), Error> {
    check(password)?;
    let rest = password.to_lowercase().replace(&user.to_lowercase(), "");
    let is_most = user.chars().count() >= 3 && rest.chars().count() * 2 < password.chars().count();
    if is_most {
        return Err(Error::invalid(
            "password",
            "is little more than the user's name",
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
        for weak in [
            "aaaaaaaaaaaaaa",
            "1234567890",
            "9876543210",
            "Password123",
            "qwertyuiop",
            "abababababab",
        ] {
            assert!(check(weak).is_err(), "{weak}");
        }
        assert!(check_for("mallory", "mallory-mallory1").is_err());
        assert!(check_for("mallory", "Mallory2026").is_err());
        for fine in [
            "mallory likes long walks",
            "correct horse battery",
            "k7-otter-42-lamp",
        ] {
            check_for("mallory", fine).unwrap();
        }
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
