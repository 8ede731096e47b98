//! What every port lets in, seen from outside: which certificates, which credentials, which bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use virtflow_testkit::cloud::json::text;
use virtflow_testkit::cloud::{AGENT, CONTROLLER, Cloud, Hypervisor, Plan};
use virtflow_testkit::command::{printed, run, system};
use virtflow_testkit::poll;

use crate::support;

const API: u16 = 8443;
const AGENTS: u16 = 8444;
const PEERS: u16 = 8445;
const STATUS: u16 = 9440;

/// Bytes that are no TLS, no HTTP, and a TLS record that is cut short.
const GARBAGE: [&[u8]; 4] = [
    b"\x00\x00\x00\x00\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\x04\x00\x00\x00\x00\x00",
];

fn plan() -> Plan {
    Plan {
        hosts: 2,
        hypervisor: Hypervisor::Simulated,
        ..Plan::default()
    }
}

/// A certificate with its key, as files.
struct Credential {
    certificate: PathBuf,
    key: PathBuf,
}

impl Credential {
    /// The one that a daemon keeps below `folder`: told by what the files hold, not by their names.
    fn below(folder: &Path) -> Result<Self> {
        let mut certificate = None;
        let mut key = None;
        for path in files_below(folder)? {
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            if text.contains("PRIVATE KEY") {
                key = Some(path);
            } else if text.contains("BEGIN CERTIFICATE") && is_leaf(&path)? {
                certificate = Some(path);
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Self { certificate, key }),
            other => anyhow::bail!("{} holds {other:?}", folder.display()),
        }
    }
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

fn is_leaf(certificate: &Path) -> Result<bool> {
    let output = run(system("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(certificate))?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("virtflow://"))
}

/// Whether a TLS 1.3 handshake with that certificate (or none) is completed by the server: it says
/// so only after it has judged the certificate, by answering an HTTP/2 preface with its settings.
fn admitted(cloud: &Cloud, name: &str, port: u16, who: Option<&Credential>) -> Result<bool> {
    let address = cloud.address(name)?;
    let mut command = lan(cloud, "sh");
    let credential = who.map_or(String::new(), |who| {
        format!(
            "-cert {} -key {}",
            who.certificate.display(),
            who.key.display()
        )
    });
    // The preface of HTTP/2 with empty settings; a server that lets us in answers with its own.
    let script = format!(
        "(printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\000\\000\\000\\004\\000\\000\\000\\000\\000'; sleep 1) \
         | timeout 5 openssl s_client -connect {address}:{port} -tls1_3 -alpn h2 -quiet {credential} 2>/dev/null | head -c 9 | wc -c"
    );
    command.args(["-c", &script]);
    let output = run(&mut command)?;
    let bytes: usize = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    Ok(bytes == 9)
}

fn lan(cloud: &Cloud, program: &str) -> Command {
    let mut command = system("nsenter");
    command
        .args([
            "--target",
            &cloud.place.rig.lan().init_pid().to_string(),
            "--net",
            "--",
        ])
        .arg(program);
    command
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn each_port_takes_only_its_own_role() -> Result<()> {
    let (folder, cloud) = support::start(plan())?;
    let host = cloud.place.node("h1")?.directory().to_owned();
    let agent = Credential::below(&host.join("var/lib/virtflow/agent"))?;
    let controller = Credential::below(&cloud.place.store("c2")?)?;

    for name in ["c1", "c2"] {
        for (port, who, credential, expected) in [
            (API, "nobody", None, true),
            (API, "an agent", Some(&agent), false),
            (API, "a controller", Some(&controller), false),
            (AGENTS, "nobody", None, false),
            (AGENTS, "an agent", Some(&agent), true),
            (AGENTS, "a controller", Some(&controller), false),
            (PEERS, "nobody", None, false),
            (PEERS, "an agent", Some(&agent), false),
        ] {
            ensure!(
                admitted(&cloud, name, port, credential)? == expected,
                "{who} on port {port} of {name}: expected admitted = {expected}"
            );
        }
    }
    // c2's own certificate is taken by c1, for c2 is a member.
    ensure!(
        admitted(&cloud, "c1", PEERS, Some(&controller))?,
        "c1 refuses c2"
    );
    // A certificate of the right role by somebody else's CA.
    let stranger = stranger(folder.path())?;
    for port in [AGENTS, PEERS] {
        ensure!(
            !admitted(&cloud, "c1", port, Some(&stranger))?,
            "port {port} takes a certificate that our CA didn't sign"
        );
    }
    // Beyond TLS 1.3 there is nothing.
    let address = cloud.address("c1")?;
    let old = run(lan(&cloud, "openssl").args([
        "s_client",
        "-connect",
        &format!("{address}:{API}"),
        "-tls1_2",
    ]))?;
    ensure!(!old.status.success(), "TLS 1.2: {}", printed(&old));

    removed_host(&cloud, &agent)?;
    support::end(folder, cloud)
}

/// A certificate that claims to be a controller's, signed by itself.
fn stranger(folder: &Path) -> Result<Credential> {
    let credential = Credential {
        certificate: folder.join("stranger.pem"),
        key: folder.join("stranger.key"),
    };
    let output = run(system("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"])
        .args(["-subj", "/CN=stranger", "-addext"])
        .arg("subjectAltName=URI:virtflow://11111111-1111-4111-8111-111111111111/controller/22222222-2222-4222-8222-222222222222")
        .arg("-keyout")
        .arg(&credential.key)
        .arg("-out")
        .arg(&credential.certificate))?;
    ensure!(output.status.success(), "{}", printed(&output));
    Ok(credential)
}

/// A host that was removed is shut out at once, on every controller.
fn removed_host(cloud: &Cloud, credential: &Credential) -> Result<()> {
    cloud.operator.json(&["host", "delete", "h1"])?;
    for name in cloud.place.controllers() {
        poll::until(
            format_args!("{name} to refuse h1"),
            Duration::from_secs(3),
            || Ok((!admitted(cloud, &name, AGENTS, Some(credential))?).then_some(())),
        )?;
    }
    poll::until(
        "h1's agent to have no session",
        Duration::from_secs(10),
        || {
            Ok(cloud.place.status("h1").map_or(Some(()), |status| {
                status["session"]["number"].is_null().then_some(())
            }))
        },
    )?;
    cloud.wait_liveness("h2", "online")?;
    ensure!(
        cloud.place.node("h2")?.service(AGENT)?.starts == 1,
        "h2's agent went down"
    );
    Ok(())
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn garbage_does_nothing() -> Result<()> {
    let (folder, cloud) = support::start(plan())?;
    let node = cloud.place.node("c1")?;
    for port in [API, AGENTS, PEERS, STATUS] {
        let address = match port {
            STATUS => "127.0.0.1".to_owned(),
            _ => node.address().to_string(),
        };
        for (number, bytes) in GARBAGE.iter().enumerate() {
            let file = folder.path().join(format!("garbage-{number}"));
            fs::write(&file, bytes)?;
            send(&cloud, &file, &address, port)?;
        }
        // A megabyte of noise, and many connections that say nothing.
        let noise = folder.path().join("noise");
        let mut state = u64::from(port);
        let bytes: Vec<u8> = (0..1 << 20)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        fs::write(&noise, bytes)?;
        send(&cloud, &noise, &address, port)?;
    }
    // Broken requests inside a good connection.
    let address = cloud.address("c1")?;
    for (path, body, expected) in [
        ("/vms", json!({"name": 5}), 400..=422),
        ("/vms", json!([[[[]]]]), 400..=422),
        ("/vms/../../etc/passwd", json!({}), 400..=422),
        ("/no-such-thing", json!({}), 404..=404),
    ] {
        let answer = cloud.api.request(address, "POST", path, &[], Some(&body))?;
        ensure!(
            expected.contains(&answer.http_status) && !answer.code().is_empty(),
            "{path} with {body}: {answer:?}"
        );
    }
    for name in cloud.place.controllers() {
        let service = cloud.place.node(&name)?.service(CONTROLLER)?;
        ensure!(service.starts == 1, "{name} went down: {service:?}");
        let answer = cloud.api.get(cloud.address(&name)?, "/auth/whoami")?;
        answer.data()?;
        let log = fs::read_to_string(cloud.place.log(&name)?)?;
        ensure!(
            !log.contains("panicked"),
            "{}",
            cloud.place.end_of_log(&name)?
        );
    }
    support::end(folder, cloud)
}

/// Sends a file as it is; how the other end takes it is its own matter.
fn send(cloud: &Cloud, file: &Path, address: &str, port: u16) -> Result<()> {
    let node = cloud.place.node("c1")?;
    let script = format!(
        "timeout 5 busybox nc -w 2 {address} {port} < {} > /dev/null",
        file.display()
    );
    // Within the node, whose loopback has the status port; its exit code says only how it was cut.
    run(node.command("sh").args(["-c", &script]))?;
    Ok(())
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_revoked_token_is_useless_at_once_everywhere() -> Result<()> {
    let (folder, cloud) = support::start(plan())?;
    let followers = cloud.followers()?;
    let token = cloud.operator.json(&["token", "create", "doomed"])?;
    let doomed = cloud.api_with("doomed", text(&token, "/token")?)?;
    for name in cloud.place.controllers() {
        doomed.get(cloud.address(&name)?, "/auth/whoami")?.data()?;
    }
    // One follower stands still while the token is revoked by the two others.
    let held = &followers[0];
    let process = cloud.place.node(held)?.service_process(CONTROLLER)?;
    signal(process.pid, "STOP")?;
    let id = text(&token, "/id")?;
    let leader = cloud.leader()?;
    let deleted = cloud.api.request(
        cloud.address(&leader)?,
        "DELETE",
        &format!("/api_tokens/{id}"),
        &[],
        None,
    )?;
    deleted.data()?;
    // Asked while it stands still, answered when it goes on: it must not answer from what it knew.
    let asked = doomed.begin(cloud.address(held)?, "GET", "/auth/whoami", &[], None)?;
    std::thread::sleep(Duration::from_millis(300));
    signal(process.pid, "CONT")?;
    let late = virtflow_testkit::cloud::Api::finish(asked)?;
    ensure!(
        late.http_status == 401 || late.http_status == 503,
        "{held}, held behind, answered {late:?}"
    );
    for name in cloud.place.controllers() {
        let answer = poll::until(
            format_args!("an answer of {name}"),
            Duration::from_secs(10),
            || {
                let answer = doomed.get(cloud.address(&name)?, "/auth/whoami")?;
                Ok((answer.http_status != 503).then_some(answer))
            },
        )?;
        ensure!(answer.http_status == 401, "{name} answered {answer:?}");
    }
    support::end(folder, cloud)
}

fn signal(pid: i32, name: &str) -> Result<()> {
    let output = run(system("kill").args([format!("-{name}"), pid.to_string()]))?;
    ensure!(output.status.success(), "{}", printed(&output));
    Ok(())
}
