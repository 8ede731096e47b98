//! "A" or "an", by the sound of what follows.

use crate::Kind;

/// The word with the article that it is spoken with: `a host`, `an alert`, `a user`.
pub fn with_article(word: &str) -> String {
    // These begin with a vowel as they are written and with a consonant as they are spoken.
    let is_spoken_you = ["user", "unit", "uni", "usage"]
        .iter()
        .any(|begin| word.starts_with(begin));
    let is_vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']) && !is_spoken_you;
    format!("{} {word}", if is_vowel { "an" } else { "a" })
}

impl Kind {
    /// Its word for programs with the article: `an api_token`.
    pub fn with_article(self) -> String {
        with_article(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_article_goes_by_the_sound() {
        let an: Vec<&str> = Kind::ALL
            .iter()
            .filter(|kind| kind.with_article().starts_with("an "))
            .map(|kind| kind.name())
            .collect();
        assert_eq!(
            an,
            [
                "api_token",
                "operation",
                "idempotency_key",
                "instance",
                "instance_set",
                "instance_set_member",
                "alert",
                "ontology",
                "ip_pool",
                "ip_address",
                "image",
                "image_version",
                "image_tag",
            ]
        );
        assert_eq!(Kind::User.with_article(), "a user");
        assert_eq!(with_article("unknown word"), "an unknown word");
        assert_eq!(with_article("object"), "an object");
    }
}
