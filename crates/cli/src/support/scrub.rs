//! Takes secrets out of what is packed. The API shows none and the daemons log none; this is for the day on which one of
//! them is wrong, and for configuration files, in which people write what they like.

use serde_json::Value;

/// What stands where something was taken out.
const REMOVED: &str = "<removed>";
/// Fields and keys whose values are taken out, wherever they are, by the end of their names. A path of a file is no secret.
const SECRET: &[&str] = &[
    "password",
    "password_hash",
    "secret",
    "secret_hash",
    "token",
    "private_key",
    "seal_key",
    "sealed",
    "authorization",
    // Of a guest's kernel: people put passwords there.
    "cmdline",
];
/// What tokens of the API, of invitations and of sessions begin with.
const TOKENS: &[&str] = &["vft1.", "vfj1.", "eyJ"];
const BEARER: &str = "Bearer ";
const KEY_BEGIN: &str = "-----BEGIN";
const KEY_END: &str = "-----END";

fn is_secret(name: &str) -> bool {
    let name = name
        .trim_matches(['"', '\''])
        .to_ascii_lowercase()
        .replace('-', "_");
    SECRET.iter().any(|end| {
        name.strip_suffix(end)
            .is_some_and(|before| before.is_empty() || before.ends_with(['_', '.']))
    })
}

/// Takes the values of secret fields out of it, and secrets out of its texts.
pub(super) fn json(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Null | Value::Bool(_) | Value::Number(_) => {}
                    _ if is_secret(name) => *value = REMOVED.into(),
                    _ => json(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(json),
        Value::String(told) => *told = text(told),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Takes out tokens, private keys, credentials of requests, and what is assigned to a secret's name on a line.
pub(super) fn text(told: &str) -> String {
    let mut kept = String::with_capacity(told.len());
    let mut in_key = false;
    for line in told.split_inclusive('\n') {
        let is_begin = line.contains(KEY_BEGIN) && line.contains("PRIVATE KEY");
        if is_begin {
            in_key = true;
            kept.push_str(REMOVED);
            kept.push('\n');
        }
        if in_key {
            in_key = !line.contains(KEY_END);
            continue;
        }
        kept.push_str(&line_without(line));
    }
    kept
}

fn line_without(line: &str) -> String {
    let ending = if line.ends_with('\n') { "\n" } else { "" };
    if let Some((name, _)) = line.split_once('=')
        && is_secret(name.trim().trim_start_matches('#').trim())
    {
        return format!("{name}= {REMOVED}{ending}");
    }
    let mut line = line.to_owned();
    for begin in TOKENS {
        line = without_words(&line, begin, true);
    }
    without_words(&line, BEARER, false)
}

/// The line without the words behind `begin`, and without `begin` itself if that is a part of them.
fn without_words(line: &str, begin: &str, with_begin: bool) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(begin) {
        let (before, found) = rest.split_at(at);
        kept.push_str(before);
        let word = &found[begin.len()..];
        let is_part =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '=');
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        if !with_begin {
            kept.push_str(begin);
        }
        kept.push_str(REMOVED);
        rest = &word[end..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json as value;

    use super::*;

    #[test]
    fn fields_that_hold_secrets_are_emptied_at_any_depth() {
        let mut told = value!({
            "spec": {"password_hash": "$argon2id$x", "name": "anna", "parts": [{"token": ["a"]}]},
            "token_file": "/etc/virtflow/monitoring.token",
            "tokens": 3,
            "has_token": true,
            "message": "shown was vft1.00ff.abc_-9, twice",
        });
        json(&mut told);
        let expected = value!({
            "spec": {"password_hash": "<removed>", "name": "anna", "parts": [{"token": "<removed>"}]},
            "token_file": "/etc/virtflow/monitoring.token",
            "tokens": 3,
            "has_token": true,
            "message": "shown was <removed>, twice",
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn lines_lose_their_secrets_and_nothing_else() {
        for (told, kept) in [
            (
                "Authorization: Bearer abc.def-x==\n",
                "Authorization: Bearer <removed>\n",
            ),
            ("vfj1.a.b vfj1.c.d", "<removed> <removed>"),
            ("admin_password = \"x\"\n", "admin_password = <removed>\n"),
            ("cmdline = \"root_pw=x\"", "cmdline = <removed>"),
            ("token_file = \"/etc/t\"\n", "token_file = \"/etc/t\"\n"),
            ("secretary = 1", "secretary = 1"),
            ("", ""),
        ] {
            assert_eq!(text(told), kept);
        }
        let key = "a\n-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\nb\n";
        assert_eq!(text(key), "a\n<removed>\nb\n");
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert_eq!(text(certificate), certificate);
    }
}
