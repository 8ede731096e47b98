//! Whatever stands in the configuration file.

use std::path::Path;

use virtflow_settings::ConfigError;
use virtflow_testkit::fuzz::{Format, Target, text};

use super::read::{KEYS, read, variable_of};

const EXAMPLE: &str = include_str!("../../../systemd/agent.example.toml");

/// The example with every key taken out of its comment.
fn all_keys() -> String {
    let open = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with([' ', '#']) => rest.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(|line| open(line) + "\n").collect()
}

/// An error names the file, and a line that it has.
fn well_placed(error: &ConfigError, text: &str) {
    let said = error.to_string();
    let rest = said
        .strip_prefix("a.toml")
        .unwrap_or_else(|| panic!("{said}"));
    if let Some(rest) = rest.strip_prefix(':') {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
        if let Ok(line) = digits.parse::<usize>() {
            assert!(
                (1..=text.lines().count().max(1) + 1).contains(&line),
                "{said}"
            );
        }
    }
}

#[test]
fn agent_config() {
    let mut target = Target::new("agent_config", Format::Text)
        .seed("")
        .seed(EXAMPLE)
        .seed(all_keys())
        .seed("controllers = [\"c1:8444\"]\n[log]\nlevel = \"debug\"\n")
        .words(&[
            "[reserve]",
            "true",
            "1_000",
            "0x10",
            "1e9",
            "inf",
            "\"\"\"",
            "'''",
            "1979-05-27",
            "{}",
            "[[a]]",
        ])
        .iterations(2000)
        .sizes(8192, 128 * 1024)
        .memory(128, 512 * 1024);
    for (_, key) in KEYS {
        target = target.words(&[key]);
    }
    target.run(|input| {
        let text = text(input);
        let alone = read(Path::new("a.toml"), &text, std::iter::empty());
        if let Err(error) = &alone {
            well_placed(error, &text);
        }
        // The same text in the environment: read as that key, or laid at its door.
        let (section, key) = KEYS[input.len() % KEYS.len()];
        let variable = variable_of(section, key);
        let value: String = text.chars().take(64).collect();
        let _ = read(Path::new("a.toml"), "", [(variable, value)].into_iter());
        alone.map(|_| ()).map_err(|error| error.to_string())
    });
}
