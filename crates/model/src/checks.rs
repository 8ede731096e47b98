//! What several kinds check in the same way.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use virtflow_types::ObjectId;

use crate::Invalid;
use crate::net::Cidr;

/// Largest free-form JSON that an object keeps, in bytes.
pub(crate) const JSON_BYTES_MAX: usize = 16 * 1024;

/// Six pairs of hexadecimal digits.
pub(crate) fn mac(field: &str, text: &str) -> Result<(), Invalid> {
    let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|it| it.is_ascii_hexdigit());
    if text.split(':').count() == 6 && text.split(':').all(is_pair) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        "must be six pairs of hexadecimal digits, `52:54:00:ab:cd:ef`",
    ))
}

/// A semantic version: `1.31.0`, without a `v`.
pub(crate) fn version(field: &str, text: &str) -> Result<(), Invalid> {
    Invalid::text(field, text, 64)?;
    semver::Version::parse(text).map(drop).map_err(|error| {
        let problem = format!("`{text}` is no semantic version such as 1.31.0: {error}");
        Invalid::new(field, problem)
    })
}

/// A network such as `10.244.0.0/16`, with no bits set beyond its prefix.
pub(crate) fn network(field: &str, text: &str) -> Result<Cidr, Invalid> {
    Invalid::text(field, text, 64)?;
    text.parse()
        .map_err(|problem: String| Invalid::new(field, problem))
}

/// Kubernetes' labels and annotations: keys may have a prefix and a slash.
pub(crate) fn marks(
    field: &str,
    marks: &BTreeMap<String, String>,
    value_max: usize,
) -> Result<(), Invalid> {
    if marks.len() > 64 {
        return Err(Invalid::new(
            field,
            format!("has {}, at most 64 are allowed", marks.len()),
        ));
    }
    for (key, value) in marks {
        let printable = key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        if key.is_empty() || key.len() > 253 || !printable {
            let problem = format!("`{key}` is no key: 1 to 253 of a-z A-Z 0-9 `-` `_` `.` `/`");
            return Err(Invalid::new(field, problem));
        }
        Invalid::text(field, value, value_max)?;
    }
    Ok(())
}

/// The address of something on the web: `http://` or `https://`, without blanks.
pub(crate) fn url(field: &str, text: &str) -> Result<(), Invalid> {
    Invalid::text(field, text, 2048)?;
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
        return Err(Invalid::new(field, "must be an http:// or https:// URL"));
    }
    Ok(())
}

/// A currency's code, `EUR`.
pub(crate) fn currency(field: &str, text: &str) -> Result<(), Invalid> {
    if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        format!("`{text}` is no currency's code such as EUR"),
    ))
}

/// A bounded number of short texts.
pub(crate) fn words(field: &str, words: &[String], most: usize) -> Result<(), Invalid> {
    if words.len() > most {
        let problem = format!("has {}, at most {most} are allowed", words.len());
        return Err(Invalid::new(field, problem));
    }
    for word in words {
        if word.is_empty() {
            return Err(Invalid::new(field, "has an empty entry"));
        }
        Invalid::text(field, word, 128)?;
    }
    Ok(())
}

/// Free-form JSON of a bounded size.
pub(crate) fn json(field: &str, value: &Map<String, Value>) -> Result<(), Invalid> {
    let bytes = serde_json::to_string(value).map_or(usize::MAX, |text| text.len());
    if bytes > JSON_BYTES_MAX {
        let problem = format!("has {bytes} bytes as JSON, at most {JSON_BYTES_MAX} are allowed");
        return Err(Invalid::new(field, problem));
    }
    Ok(())
}

/// User groups that an object is shown to: some if it is shown to groups, and none else. At most 32, each once.
pub(crate) fn shown_to(is_for_groups: bool, groups: &[ObjectId]) -> Result<(), Invalid> {
    let field = "user_group_ids";
    match (is_for_groups, groups) {
        (true, []) => Err(Invalid::new(field, "names no group: nobody would see it")),
        (false, [_, ..]) => Err(Invalid::new(
            field,
            "goes with the visibility `group_specific`",
        )),
        _ => {
            let count = u64::try_from(groups.len()).unwrap_or(u64::MAX);
            Invalid::outside(field, count, 0, 32)?;
            let each: std::collections::BTreeSet<_> = groups.iter().collect();
            if each.len() < groups.len() {
                return Err(Invalid::new(field, "names a group twice"));
            }
            Ok(())
        }
    }
}
