use std::path::Path;

use super::read::read;
use super::*;

const GOOD: &str = r#"
name = "c1"
data_dir = "/var/lib/virtflow/controller"

[listen]
api = "10.0.0.1:8443"
agent = "10.0.0.1:8444"
peer = "10.0.0.1:8445"
"#;

fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    read(
        Path::new("c.toml"),
        text,
        env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    )
}

fn refusal(text: &str) -> String {
    parse(text, &[]).unwrap_err().to_string()
}

#[test]
fn a_short_file_suffices() {
    let config = parse(GOOD, &[]).unwrap();
    assert_eq!(config.name, "c1");
    assert_eq!(config.api_address(), "10.0.0.1:8443");
    assert_eq!(config.hosts.lease_s, 10);
    assert_eq!(config.limits.token_requests_per_s, 250);
    assert_eq!(config.limits.token_requests_burst, 1000);
    assert_eq!(config.limits.user_requests_per_s, 500);
    assert_eq!(config.limits.user_requests_burst, 2000);
    assert_eq!(config.limits.tenant_requests_per_s, 2000);
    assert_eq!(config.limits.tenant_requests_burst, 8000);
    assert_eq!(config.listen.status.to_string(), "127.0.0.1:9440");
}

#[test]
fn the_example_file_is_valid_and_names_every_key() {
    let text = include_str!("../../../systemd/controller.example.toml");
    let config = parse(text, &[]).unwrap();
    assert_eq!(config.limits, parse(GOOD, &[]).unwrap().limits);
    for (section, key) in read::all_keys() {
        let line = format!("{key} =");
        assert!(text.contains(&line), "the example lacks `{section}.{key}`");
    }
}

#[test]
fn mistakes_are_named_with_file_line_and_key() {
    let unknown = refusal(&format!("{GOOD}\n[hosts]\nlease = 3\n"));
    assert!(unknown.starts_with("c.toml:11: `hosts.lease`"), "{unknown}");
    let kind = refusal(&format!("{GOOD}\n[hosts]\nlease_s = \"ten\"\n"));
    assert!(kind.starts_with("c.toml:11: `hosts.lease_s`"), "{kind}");
    let syntax = refusal("name = \n");
    assert!(syntax.starts_with("c.toml:1"), "{syntax}");
    let missing = refusal("[listen]\napi = \"10.0.0.1:1\"\n");
    assert!(missing.contains("name"), "{missing}");
}

#[test]
fn contradictions_are_refused() {
    for (extra, key) in [
        (
            "[hosts]\nlease_s = 5\nheartbeat_ms = 2000\n",
            "hosts.lease_s",
        ),
        ("[raft]\nheartbeat_ms = 100\n", "raft.heartbeat_ms"),
        (
            "[raft]\nheartbeat_ms = 100\nelection_min_ms = 150\nelection_max_ms = 300\n",
            "raft.election_min_ms",
        ),
        (
            "[raft]\nheartbeat_ms = 100\nelection_min_ms = 300\nelection_max_ms = 300\n",
            "raft.election_max_ms",
        ),
        ("[advertise]\napi = \"nowhere\"\n", "advertise.api"),
        (
            "[certificates]\nagent_lifetime_s = 1\n",
            "certificates.agent_lifetime_s",
        ),
        (
            "[limits]\ntoken_requests_per_s = 1000001\n",
            "limits.token_requests_per_s",
        ),
        (
            "[limits]\ntoken_requests_burst = 0\n",
            "limits.token_requests_burst",
        ),
        (
            "[limits]\nuser_requests_per_s = 0\n",
            "limits.user_requests_per_s",
        ),
        (
            "[limits]\nuser_requests_burst = 1000001\n",
            "limits.user_requests_burst",
        ),
        ("[log]\nlevel = \"info,=x=y\"\n", "log.level"),
    ] {
        let refused = refusal(&format!("{GOOD}\n{extra}"));
        assert!(refused.contains(&format!("`{key}`")), "{extra}: {refused}");
    }
    let any = refusal("name = \"c1\"\n");
    assert!(any.contains("advertise.api"), "{any}");
    let port = refusal(&GOOD.replace("8445", "8444"));
    assert!(port.contains("listen.peer"), "{port}");
    let inside = refusal(&format!(
        "seal_key_file = \"/var/lib/virtflow/controller/k\"{GOOD}"
    ));
    assert!(inside.contains("seal_key_file"), "{inside}");
}

#[test]
fn the_environment_overrides() {
    let config = parse(
        GOOD,
        &[
            ("VIRTFLOW_CONTROLLER_NAME", "c9"),
            ("VIRTFLOW_CONTROLLER_HOSTS_LEASE_S", "30"),
            (
                "VIRTFLOW_CONTROLLER_CERTIFICATES_NAMES",
                "a.example, 10.1.1.1",
            ),
            ("VIRTFLOW_TOKEN", "not ours"),
        ],
    )
    .unwrap();
    assert_eq!(config.name, "c9");
    assert_eq!(config.hosts.lease_s, 30);
    assert_eq!(config.certificates.names, ["a.example", "10.1.1.1"]);
    for (variable, value) in [
        ("VIRTFLOW_CONTROLLER_HOSTS_LEAS_S", "30"),
        ("VIRTFLOW_CONTROLLER_HOSTS_LEASE_S", "soon"),
    ] {
        let refused = parse(GOOD, &[(variable, value)]).unwrap_err().to_string();
        assert!(refused.contains(variable), "{refused}");
    }
}

#[test]
fn monitoring_is_told_an_address_beyond_the_loopback_only() {
    let told = |listen: &str, advertise: &str| {
        let text = GOOD.replace("peer =", &format!("status = \"{listen}\"\npeer ="));
        let text = format!("{text}\n[advertise]\napi = \"c1.example:8443\"\n{advertise}");
        parse(&text, &[]).unwrap().status_address()
    };
    let given = "status = \"m.example:1\"\n";
    assert_eq!(told("127.0.0.1:9440", ""), None);
    assert_eq!(told("[::1]:9440", given), None);
    assert_eq!(told("10.0.0.1:9440", "").as_deref(), Some("10.0.0.1:9440"));
    assert_eq!(told("0.0.0.0:9440", "").as_deref(), Some("c1.example:9440"));
    assert_eq!(told("0.0.0.0:9440", given).as_deref(), Some("m.example:1"));
    let refused = refusal(&format!("{GOOD}[advertise]\nstatus = \"c1\"\n"));
    assert!(
        refused.contains("`advertise.status`: `c1` is not host:port"),
        "{refused}"
    );
}
