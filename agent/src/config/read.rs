//! The keys, and how they are read.

use std::path::Path;

use virtflow_settings::{ConfigError, Reads, Scheme};

use super::{Config, ENV_PREFIX, Written};

/// All keys: section and name.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("", "controllers"),
    ("", "data_dir"),
    ("", "guests_dir"),
    ("", "libvirt_uri"),
    ("", "libvirt_pid_dir"),
    ("", "hypervisor"),
    ("", "machine"),
    ("", "emulator"),
    ("", "bridge"),
    ("", "gpus"),
    ("", "serial"),
    ("", "name"),
    ("", "management_address"),
    ("reserve", "cpu_milli"),
    ("reserve", "memory_mib"),
    ("reserve", "storage_gib"),
    ("reserve", "gpus"),
    ("capacity", "cpu_milli"),
    ("capacity", "memory_mib"),
    ("capacity", "storage_gib"),
    ("capacity", "gpus"),
    ("boot", "kernel"),
    ("boot", "initrd"),
    ("boot", "cmdline"),
    ("status", "listen"),
    ("status", "advertise"),
    ("status", "token_file"),
    ("log", "level"),
    ("log", "format"),
];

fn reads(section: &str, key: &str) -> Reads {
    match (section, key) {
        ("", "controllers" | "gpus") => Reads::Texts,
        ("reserve" | "capacity", _) => Reads::Number,
        _ => Reads::Text,
    }
}

const SCHEME: Scheme = Scheme {
    prefix: ENV_PREFIX,
    example: "agent.example.toml",
    keys: KEYS,
    reads,
};

pub(super) fn read(
    path: &Path,
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    virtflow_settings::read(&SCHEME, path, text, variables, Written::checked)
}

#[cfg(test)]
pub(super) fn variable_of(section: &str, key: &str) -> String {
    SCHEME.variable_of(section, key)
}
