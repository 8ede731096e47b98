//! Whatever stands in the configuration file.

use std::path::Path;

use virtflow_settings::ConfigError;
use virtflow_testkit::fuzz::{Format, Target, text};

use super::read::{all_keys, read};

const EXAMPLE: &str = include_str!("../../../systemd/controller.example.toml");

/// An error names the file, and a line that it has.
fn well_placed(error: &ConfigError, text: &str) {
    let said = error.to_string();
    let rest = said
        .strip_prefix("c.toml")
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
fn controller_config() {
    let mut target = Target::new("controller_config", Format::Text)
        .seed(EXAMPLE)
        .seed("name = \"c1\"\n[listen]\napi = \"10.0.0.1:8443\"\nagent = \"10.0.0.1:8444\"\npeer = \"10.0.0.1:8445\"\n")
        .words(&["[raft]", "true", "1_000", "0x10", "1e9", "inf", "\"\"\"", "'''", "1979-05-27", "{}", "[[a]]", "0.0.0.0:1"])
        .iterations(2000)
        .sizes(8192, 128 * 1024)
        .memory(192, 512 * 1024);
    for (_, key) in all_keys() {
        target = target.words(&[key]);
    }
    target.run(|input| {
        let text = text(input);
        let read = read(Path::new("c.toml"), &text, std::iter::empty());
        if let Err(error) = &read {
            well_placed(error, &text);
        }
        read.map(|_| ()).map_err(|error| error.to_string())
    });
}
