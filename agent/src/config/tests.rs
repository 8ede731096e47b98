use super::read::{KEYS, read, variable_of};
use super::*;

const FILE: &str = "/etc/virtflow/agent.toml";
const EXAMPLE: &str = include_str!("../../../systemd/agent.example.toml");

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    read(Path::new(FILE), text, variables).map_err(|error| error.to_string())
}

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).expect_err(text)
}

#[test]
fn nothing_written_means_the_defaults() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/virtflow/agent"));
    assert_eq!(
        config.guests.guests_dir,
        Path::new("/var/lib/virtflow/guests")
    );
    assert_eq!(config.status.listen.to_string(), "127.0.0.1:9441");
    assert_eq!(config.hypervisor, HypervisorChoice::Auto);
    assert_eq!(config.guests.kernel, None);
}

#[test]
fn the_example_documents_every_key_and_says_the_defaults() {
    for (section, key) in KEYS {
        let line = EXAMPLE.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.strip_prefix(key)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        assert!(line, "{section}.{key} is not in the example");
    }
    assert_eq!(
        load(EXAMPLE, &[]),
        load("", &[]),
        "as it stands it changes nothing"
    );
    // With every key taken out of its comment it is still a configuration.
    let all: Vec<_> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("#") {
            Some(rest) if !rest.starts_with([' ', '#']) => rest,
            _ => line,
        })
        .collect();
    let config = load(&all.join("\n"), &[]).unwrap();
    assert!(config.guests.kernel.is_some() && config.serial.is_some());
}

#[test]
fn errors_name_file_line_and_key() {
    let cases = [
        ("colour = 1\n", ":1: `colour`: unknown field `colour`"),
        (
            "\n[reserve]\ncpu = 1\n",
            ":3: `reserve.cpu`: unknown field `cpu`",
        ),
        (
            "hypervisor = \"xen\"\n",
            ":1: `hypervisor`: unknown variant `xen`",
        ),
        (
            "[reserve]\nmemory_mib = \"much\"\n",
            ":2: `reserve.memory_mib`: invalid type",
        ),
        (
            "[reserve]\nmemory_mib = -1\n",
            ":2: `reserve.memory_mib`: invalid value",
        ),
        (
            "data_dir = \"a\"\ndata_dir = \"b\"\n",
            ":2: `data_dir`: duplicate key",
        ),
        (
            "data_dir = \"relative\"\n",
            ":1: `data_dir`: path `relative` is not absolute",
        ),
        (
            "\ncontrollers = [\"10.0.0.1\"]\n",
            ":2: `controllers`: `10.0.0.1` is not `host:port`",
        ),
        ("serial = \"\"\n", ":1: `serial`: must be 1 to 64 printable"),
        (
            "bridge = \"a/b\"\n",
            ":1: `bridge`: bridge `a/b` contains '/'",
        ),
        (
            "[status]\nlisten = \"10.0.0.21:9441\"\n",
            ": `status.token_file`: is needed where",
        ),
        (
            "[status]\nlisten = \"0.0.0.0:9441\"\ntoken_file = \"/t\"\n",
            ": `status.advertise`: is needed, for others cannot dial 0.0.0.0:9441",
        ),
        (
            "[status]\nadvertise = \"h1\"\n",
            ":2: `status.advertise`: `h1` is not `host:port`",
        ),
        ("[log]\nlevel = \"shout=loud\"\n", ":2: `log.level`: "),
        (
            "[boot]\ninitrd = \"/a\"\n",
            ":2: `boot.initrd`: is given without `boot.kernel`",
        ),
        (
            "[boot]\ncmdline = \"a\"\n",
            ":2: `boot.cmdline`: is given without `boot.kernel`",
        ),
        (
            "[boot]\nkernel = \"/a\"\ncmdline = \"a<b\"\n",
            ":3: `boot.cmdline`: kernel arguments",
        ),
        (
            "hypervisor = \"qemu\"\n[capacity]\ngpus = 1\n",
            ":3: `capacity.gpus`: is of simulated guests",
        ),
        (
            "hypervisor = \"simulated\"\ngpus = [\"0000:65:00.0\"]\n",
            ":2: `gpus`: simulated guests are passed none",
        ),
        (
            "gpus = [\"65:00.0\"]\n",
            ":1: `gpus`: PCI address `65:00.0` is not like `0000:65:00.0`",
        ),
        (
            "gpus = [\"0000:0a:00.0\", \"0000:0A:00.0\"]\n",
            ":1: `gpus`: 0000:0a:00.0 is listed twice",
        ),
        (
            "[capacity]\ncpu_milli = 1\n[reserve]\ncpu_milli = 2\n",
            ":4: `reserve.cpu_milli`: 2 is more than the capacity, 1",
        ),
        (
            "data_dir = \"/a\"\nguests_dir = \"/a/guests\"\n",
            ":2: `guests_dir`: lies in `data_dir`",
        ),
        ("controllers = ", ":1: `controllers`: "),
        ("= 1", ":1"),
        ("\u{feff}\0", ":1"),
    ];
    for (text, expected) in cases {
        let error = refused(text, &[]);
        let expected = [FILE, expected].concat();
        assert!(
            error.starts_with(&expected),
            "{text:?}: {error}\nexpected {expected}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "serial = \"file\"\n[reserve]\nmemory_mib = 1\ncpu_milli = 7\n";
    let config = load(
        text,
        &[
            ("VIRTFLOW_AGENT_SERIAL", "environment"),
            ("VIRTFLOW_AGENT_RESERVE_MEMORY_MIB", "2048"),
            (
                "VIRTFLOW_AGENT_CONTROLLERS",
                "10.0.0.1:8444, [fd00::1]:8444",
            ),
            ("VIRTFLOW_AGENT_LOG_FORMAT", "json"),
            ("VIRTFLOW_OTHER", "is none of ours"),
        ],
    )
    .unwrap();
    assert_eq!(config.serial.as_deref(), Some("environment"));
    assert_eq!(config.reserve.memory_mib, Some(2048));
    assert_eq!(config.reserve.cpu_milli, Some(7));
    assert_eq!(config.controllers, ["10.0.0.1:8444", "[fd00::1]:8444"]);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn a_wrong_variable_is_named() {
    let cases = [
        ("VIRTFLOW_AGENT_COLOUR", "red", "names no key"),
        (
            "VIRTFLOW_AGENT_RESERVE_MEMORY_MIB",
            "much",
            "`much` is not a whole number",
        ),
        ("VIRTFLOW_AGENT_HYPERVISOR", "xen", "unknown variant `xen`"),
        ("VIRTFLOW_AGENT_RESERVE_CPU_MILLI", "-1", "invalid value"),
    ];
    for (variable, value, expected) in cases {
        let error = refused("", &[(variable, value)]);
        let begin = ["environment variable ", variable, ": "].concat();
        assert!(
            error.starts_with(&begin) && error.contains(expected),
            "{error}"
        );
    }
    let names: Vec<_> = KEYS
        .iter()
        .map(|(section, key)| variable_of(section, key))
        .collect();
    for (index, name) in names.iter().enumerate() {
        assert!(!names[..index].contains(name), "{name} names two keys");
    }
}

#[test]
fn monitoring_is_told_an_address_beyond_the_loopback_only() {
    let told = |text: &str| {
        let text = format!("[status]\ntoken_file = \"/t\"\n{text}");
        let status = load(&text, &[]).unwrap().status;
        status.reached_at(status.listen)
    };
    assert_eq!(told(""), None);
    assert_eq!(told("advertise = \"h1.example:9441\""), None);
    assert_eq!(
        told("listen = \"10.0.0.21:9441\"").as_deref(),
        Some("10.0.0.21:9441")
    );
    assert_eq!(
        told("listen = \"[::]:9441\"\nadvertise = \"h1.example:1\"").as_deref(),
        Some("h1.example:1")
    );
}
