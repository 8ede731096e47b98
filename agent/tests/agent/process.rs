//! The program as its users meet it: commands, signals, memory.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;
use virtflow_agent::identity::HostIdentity;
use virtflow_proto::agent::v1;
use virtflow_proto::agent::v1::agent_message::Body as Said;
use virtflow_proto::agent::v1::controller_message::Body as Tell;

/// Resident memory that an agent may take once it has settled.
const RESIDENT_MIB_MAX: u64 = 20;
/// What of that may be the agent's own and not code that is shared with others.
const ANONYMOUS_MIB_MAX: u64 = 8;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtflow-agent"));
    command
        .env_remove("VIRTFLOW_JOIN_TOKEN")
        .stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(config: &Path) -> Self {
        let log = config.with_extension("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut command = program();
        command.arg("--config").arg(config).arg("run").stderr(file);
        Self {
            child: command.spawn().unwrap(),
            log,
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    async fn logs(&self, what: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap();
            if log.contains(what) {
                return;
            }
            assert!(Instant::now() < until, "{what:?} is not in {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn memory_mib(&self, figure: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with(figure))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_takes_the_token_from_file_environment_or_input_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::new();
    let controller = cluster.controller().await;
    let config = config(folder.path(), "");
    let file = folder.path().join("agent.toml");
    let join = || {
        let mut command = program();
        command.arg("--config").arg(&file).arg("join");
        command
            .arg("--controller")
            .arg(format!("https://{}", controller.api_address));
        command
            .arg("--ca-fingerprint")
            .arg(cluster.fingerprint().to_string());
        command
    };
    let token_file = folder.path().join("token");
    let mut options = std::fs::OpenOptions::new();
    let mut opened = options
        .write(true)
        .create(true)
        .mode(0o600)
        .open(&token_file)
        .unwrap();
    opened.write_all(TOKEN.as_bytes()).unwrap();

    let from_file = join()
        .arg("--token-file")
        .arg(&token_file)
        .output()
        .unwrap();
    assert!(from_file.status.success(), "{}", text(&from_file));
    assert!(
        text(&from_file).contains("joined cluster"),
        "{}",
        text(&from_file)
    );
    let from_environment = join().env("VIRTFLOW_JOIN_TOKEN", TOKEN).output().unwrap();
    assert!(
        from_environment.status.success(),
        "{}",
        text(&from_environment)
    );
    let mut child = join()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{TOKEN}").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(HostIdentity::load(&config).unwrap().is_some());

    let none = join().output().unwrap();
    assert!(
        !none.status.success() && text(&none).contains("no token"),
        "{}",
        text(&none)
    );
    let argument = join().arg("--token").arg(TOKEN).output().unwrap();
    assert!(
        text(&argument).contains("unexpected argument"),
        "{}",
        text(&argument)
    );
    let wrong = join()
        .env("VIRTFLOW_JOIN_TOKEN", "another")
        .output()
        .unwrap();
    assert!(
        text(&wrong).contains("the token is not known"),
        "{}",
        text(&wrong)
    );
    assert!(
        !text(&wrong).contains("another"),
        "the token is not repeated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_checked_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "");
    let file = folder.path().join("agent.toml");
    for arguments in [&["check-config"][..], &["--check-config"]] {
        let fine = program()
            .arg("--config")
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            fine.status.success() && text(&fine).contains("is fine"),
            "{}",
            text(&fine)
        );
    }
    std::fs::write(&file, "colour = 1\n").unwrap();
    for command in ["check-config", "run", "check"] {
        let refused = program()
            .arg("--config")
            .arg(&file)
            .arg(command)
            .output()
            .unwrap();
        assert!(!refused.status.success());
        let expected = format!("{}:1: `colour`: unknown field", file.display());
        assert!(text(&refused).contains(&expected), "{}", text(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_missing_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "");
    let file = folder.path().join("agent.toml");
    let output = program()
        .arg("--config")
        .arg(&file)
        .arg("check")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let text = text(&output);
    assert!(
        text.contains("FAIL  this host has not joined a cluster"),
        "{text}"
    );
    assert!(text.contains("-> get a token"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_in_little_memory_changes_its_log_and_ends_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::new();
    let controller = cluster.controller().await;
    let config = config(folder.path(), "");
    join(&config, &cluster, &controller).await;
    let file = folder.path().join("agent.toml");
    let mut agent = Running::start(&file);
    let (mut session, _) = controller.welcome(3).await;
    let vms: Vec<_> = (1..=20).map(vm).collect();
    session.tell(desired(10, 3, vms)).await;
    agent.logs("session begun").await;
    // Heartbeats at twenty times the usual rate, until the agent has settled.
    let until = Instant::now() + PATIENCE;
    let resident = loop {
        // Answered: after some seconds without an answer it would look for another controller.
        if let Said::Heartbeat(beat) = session.hear().await {
            session
                .tell(Tell::HeartbeatAck(v1::HeartbeatAck {
                    sequence: beat.sequence,
                    session: beat.session,
                }))
                .await;
        }
        let resident = agent.memory_mib("VmRSS:");
        if resident <= RESIDENT_MIB_MAX {
            break resident;
        }
        assert!(Instant::now() < until, "{resident} MiB");
    };
    let anonymous = agent.memory_mib("RssAnon:");
    println!("resident: {resident} MiB, anonymous: {anonymous} MiB");
    assert!(anonymous <= ANONYMOUS_MIB_MAX, "{anonymous} MiB");

    let mut text = String::new();
    std::fs::File::open(&file)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    std::fs::write(&file, [&text, "[log]\nlevel = \"debug\"\n"].concat()).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.logs("the log's level was set").await;
    std::fs::write(&file, [&text, "[log]\nlevel = \"a=b=c\"\n"].concat()).unwrap();
    agent.signal(rustix::process::Signal::HUP);
    agent.logs("the log's level stays").await;

    agent.signal(rustix::process::Signal::TERM);
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = agent.child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < until, "it does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{status}");
    agent.logs("guests go on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_json_names_the_request_behind_an_order_once() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::new();
    let controller = cluster.controller().await;
    let config = config(folder.path(), "log = {format = \"json\"}\n");
    join(&config, &cluster, &controller).await;
    let agent = Running::start(&folder.path().join("agent.toml"));
    let (session, _) = controller.welcome(3).await;
    let request_id = "00000000-0000-0000-0000-0000000000aa";
    for index in [10, 11] {
        let Tell::Desired(mut order) = desired(index, 3, vec![vm(1), vm(2)]) else {
            unreachable!()
        };
        let cause = |vm: u128, request_id: &str| v1::Cause {
            vm_id: virtflow_types::ObjectId::from_u128(vm).as_bytes().to_vec(),
            request_id: request_id.to_owned(),
        };
        // What is none is left out.
        order.causes = vec![cause(1, request_id), cause(2, "x\" injected")];
        session.tell(Tell::Desired(order)).await;
    }
    let Tell::Desired(mut last) = desired(12, 3, vec![vm(1), vm(2)]) else {
        unreachable!()
    };
    last.causes = vec![v1::Cause {
        vm_id: virtflow_types::ObjectId::from_u128(2).as_bytes().to_vec(),
        request_id: "00000000-0000-0000-0000-0000000000bb".to_owned(),
    }];
    session.tell(Tell::Desired(last)).await;
    agent.logs("0000000000bb").await;

    let log = std::fs::read_to_string(&agent.log).unwrap();
    let lines = log.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        line["fields"].clone()
    });
    let told: Vec<_> = lines
        .filter(|it| it["message"] == "an order came")
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["request_id"], request_id);
    assert_eq!(told[0]["vm"], "00000000-0000-0000-0000-000000000001");
    assert!(!log.contains("injected"), "{log}");
}
