//! The keys, how they are read, and what no single one of them can say.

use std::path::Path;

use virtflow_settings::{ConfigError, Reads, Scheme};
use virtflow_types::is_host_port;

use super::{Config, ENV_PREFIX};

/// Largest number of seconds that a certificate may live: what the CA signs at most.
const CERTIFICATE_LIFETIME_S_MAX: u64 = 90 * super::DAY_S;
/// Smallest: a renewal must fit in a third of it.
const CERTIFICATE_LIFETIME_S_MIN: u64 = 6;

/// Largest number of requests that one user may be allowed: beyond it there is no limit to speak of.
const REQUESTS_MAX: u32 = 1_000_000;

/// All keys: section and name.
const KEYS: &[(&str, &str)] = &[
    ("", "name"),
    ("", "data_dir"),
    ("", "seal_key_file"),
    ("listen", "api"),
    ("listen", "agent"),
    ("listen", "peer"),
    ("listen", "status"),
    ("advertise", "api"),
    ("advertise", "agent"),
    ("advertise", "peer"),
    ("advertise", "status"),
    ("raft", "heartbeat_ms"),
    ("raft", "election_min_ms"),
    ("raft", "election_max_ms"),
    ("raft", "snapshot_entries"),
    ("raft", "log_keep_entries"),
    ("hosts", "lease_s"),
    ("hosts", "heartbeat_ms"),
    ("certificates", "agent_lifetime_s"),
    ("certificates", "controller_lifetime_s"),
    ("certificates", "names"),
    ("status", "token_file"),
    ("limits", "token_requests_per_s"),
    ("limits", "token_requests_burst"),
    ("limits", "user_requests_per_s"),
    ("limits", "user_requests_burst"),
    ("limits", "tenant_requests_per_s"),
    ("limits", "tenant_requests_burst"),
    ("retention", "audit_days"),
    ("retention", "history_days"),
    ("log", "level"),
    ("log", "format"),
];

fn reads(section: &str, key: &str) -> Reads {
    match (section, key) {
        ("certificates", "names") => Reads::Texts,
        ("raft" | "hosts" | "certificates" | "limits" | "retention", _) => Reads::Number,
        _ => Reads::Text,
    }
}

const SCHEME: Scheme = Scheme {
    prefix: ENV_PREFIX,
    example: "controller.example.toml",
    keys: KEYS,
    reads,
};

pub(super) fn read(
    path: &Path,
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    virtflow_settings::read(&SCHEME, path, text, variables, |config: Config| {
        check(&config).map(|()| config)
    })
}

/// Contradictions: the key at fault and what to do.
fn check(config: &Config) -> Result<(), (&'static str, String)> {
    virtflow_types::Name::new(&config.name).map_err(|error| ("name", error.to_string()))?;
    if config.seal_key_file.starts_with(&config.data_dir) {
        return Err((
            "seal_key_file",
            "lies in the data folder, where whoever copies the data copies the key along; put it elsewhere".into(),
        ));
    }
    for (key, listen, advertise) in [
        ("advertise.api", config.listen.api, &config.advertise.api),
        (
            "advertise.agent",
            config.listen.agent,
            &config.advertise.agent,
        ),
        ("advertise.peer", config.listen.peer, &config.advertise.peer),
    ] {
        match advertise {
            None if listen.ip().is_unspecified() => {
                return Err((
                    key,
                    format!("is needed, for others cannot dial {listen}; write \"host:port\""),
                ));
            }
            Some(address) if !is_host_port(address) => {
                return Err((key, format!("`{address}` is not host:port")));
            }
            _ => {}
        }
    }
    if let Some(address) = &config.advertise.status
        && !is_host_port(address)
    {
        return Err(("advertise.status", format!("`{address}` is not host:port")));
    }
    let listens = [
        ("listen.api", config.listen.api),
        ("listen.agent", config.listen.agent),
        ("listen.peer", config.listen.peer),
        ("listen.status", config.listen.status),
    ];
    for (at, (key, address)) in listens.iter().enumerate() {
        if address.port() != 0
            && let Some((other, _)) = listens[..at].iter().find(|(_, earlier)| {
                earlier.port() == address.port()
                    && (earlier.ip() == address.ip()
                        || earlier.ip().is_unspecified()
                        || address.ip().is_unspecified())
            })
        {
            return Err((
                key,
                format!("{address} is taken by `{other}`; each needs its own port"),
            ));
        }
    }
    check_raft(config)?;
    let (lease_ms, beat_ms) = (
        config.hosts.lease_s.saturating_mul(1000),
        config.hosts.heartbeat_ms,
    );
    if beat_ms < 100 {
        return Err(("hosts.heartbeat_ms", "must be at least 100".into()));
    }
    if lease_ms < beat_ms.saturating_mul(3) {
        return Err((
            "hosts.lease_s",
            format!(
                "must be at least three heartbeats ({beat_ms} ms each), or one lost message makes a host offline"
            ),
        ));
    }
    for (key, life) in [
        (
            "certificates.agent_lifetime_s",
            config.certificates.agent_lifetime_s,
        ),
        (
            "certificates.controller_lifetime_s",
            config.certificates.controller_lifetime_s,
        ),
    ] {
        if !(CERTIFICATE_LIFETIME_S_MIN..=CERTIFICATE_LIFETIME_S_MAX).contains(&life) {
            return Err((
                key,
                format!(
                    "must be between {CERTIFICATE_LIFETIME_S_MIN} and {CERTIFICATE_LIFETIME_S_MAX}"
                ),
            ));
        }
    }
    let limits = &config.limits;
    for (key, number) in [
        ("limits.token_requests_burst", limits.token_requests_burst),
        ("limits.user_requests_per_s", limits.user_requests_per_s),
        ("limits.user_requests_burst", limits.user_requests_burst),
        ("limits.tenant_requests_burst", limits.tenant_requests_burst),
    ] {
        if !(1..=REQUESTS_MAX).contains(&number) {
            return Err((key, format!("must be between 1 and {REQUESTS_MAX}")));
        }
    }
    for (key, number) in [
        ("limits.token_requests_per_s", limits.token_requests_per_s),
        ("limits.tenant_requests_per_s", limits.tenant_requests_per_s),
    ] {
        if number > REQUESTS_MAX {
            return Err((
                key,
                format!("must be between 1 and {REQUESTS_MAX}, or 0 for no limit"),
            ));
        }
    }
    if config.retention.audit_days == 0 || config.retention.history_days == 0 {
        return Err((
            "retention.audit_days",
            "and history_days must be at least 1".into(),
        ));
    }
    crate::daemon::log::filter(&config.log.level).map_err(|problem| ("log.level", problem))?;
    Ok(())
}

fn check_raft(config: &Config) -> Result<(), (&'static str, String)> {
    let raft = &config.raft;
    match (
        raft.heartbeat_ms,
        raft.election_min_ms,
        raft.election_max_ms,
    ) {
        (None, None, None) => {}
        (Some(beat), Some(min), Some(max)) => {
            if beat < 10 {
                return Err(("raft.heartbeat_ms", "must be at least 10".into()));
            }
            if min < beat.saturating_mul(2) {
                return Err((
                    "raft.election_min_ms",
                    "must be at least two heartbeats".into(),
                ));
            }
            if max <= min {
                return Err((
                    "raft.election_max_ms",
                    "must be larger than election_min_ms".into(),
                ));
            }
        }
        _ => {
            return Err((
                "raft.heartbeat_ms",
                "give heartbeat_ms, election_min_ms and election_max_ms together, or none and they are measured".into(),
            ));
        }
    }
    if raft.snapshot_entries.is_some_and(|n| n < 10) {
        return Err(("raft.snapshot_entries", "must be at least 10".into()));
    }
    Ok(())
}

/// Section and name of every key.
#[cfg(test)]
pub(super) fn all_keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().copied()
}
