//! Lines and keys of a text in TOML, as it is written: what errors point at.

use crate::full_key;

/// The line that a byte is on, from 1.
pub(crate) fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// Each section and each `key = value` of the text, with its line.
fn written_keys(text: &str) -> Vec<(String, usize)> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            section = name.trim().to_owned();
            keys.push((section.clone(), number + 1));
        } else if let Some((key, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let key = key.trim().trim_matches('"');
            keys.push((full_key(&section, key), number + 1));
        }
    }
    keys
}

pub(crate) fn line_of_key(text: &str, key: &str) -> Option<usize> {
    written_keys(text)
        .into_iter()
        .find(|(written, _)| written == key)
        .map(|(_, line)| line)
}

/// The last key on or before the line that holds a byte.
pub(crate) fn key_at(text: &str, at: usize) -> Option<String> {
    let line = line_at(text, at);
    written_keys(text)
        .into_iter()
        .take_while(|(_, key_line)| *key_line <= line)
        .last()
        .map(|(key, _)| key)
}
