//! What only the machine itself knows: its daemons' journal and configuration, and what they say on the loopback.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::archive::Archive;
use crate::failure::Failure;

/// Lines of the journal, the newest.
const JOURNAL_LINES_MAX: u32 = 50_000;
/// How long the journal may take.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a daemon on this machine may take.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer and the largest configuration file.
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where things are on a machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// The folder of configurations.
    configuration: PathBuf,
    /// The daemons: their names, and the ports of their status listeners.
    daemons: [(&'static str, u16); 2],
    journalctl: PathBuf,
}

impl Default for Machine {
    /// Where they are unless configured.
    fn default() -> Self {
        Self {
            configuration: "/etc/virtflow".into(),
            daemons: [("controller", 9440), ("agent", 9441)],
            journalctl: "journalctl".into(),
        }
    }
}

impl Machine {
    /// Packs what there is. A machine without a daemon has nothing, and misses nothing.
    pub(super) async fn look(&self, archive: &mut Archive, since: &str) -> Result<(), Failure> {
        let mut units = Vec::new();
        for (daemon, port) in self.daemons {
            let file = self.configuration.join(format!("{daemon}.toml"));
            match fs::read_to_string(&file) {
                Ok(text) => archive.add_text(&format!("machine/{daemon}.toml"), &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => archive.missing(&format!("machine/{daemon}.toml"), error.to_string()),
            }
            units.push(format!("--unit=virtflow-{daemon}"));
            for (page, name) in [("status", "status.json"), ("metrics", "metrics.txt")] {
                let name = format!("machine/{daemon}-{name}");
                match ask(port, page).await {
                    Ok(text) => archive.add_text(&name, &text)?,
                    Err(error) => archive.missing(&name, format!("127.0.0.1:{port}: {error}")),
                }
            }
        }
        if units.is_empty() {
            return Ok(());
        }
        match self.journal(&units, since).await {
            Ok(text) => archive.add_text("machine/journal.txt", &text)?,
            Err(why) => archive.missing("machine/journal.txt", why),
        }
        Ok(())
    }

    async fn journal(&self, units: &[String], since: &str) -> Result<String, String> {
        let mut command = Command::new(&self.journalctl);
        command
            .args(units)
            .arg(format!("--since={since}"))
            .args(["--no-pager", "--output=short-iso-precise"])
            .arg(format!("--lines={JOURNAL_LINES_MAX}"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = match timeout(JOURNAL_TIMEOUT, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("journalctl: {error}")),
            Err(_) => {
                return Err(format!(
                    "journalctl gave nothing within {JOURNAL_TIMEOUT:?}"
                ));
            }
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "journalctl ended with {}: {}",
            output.status,
            said.trim()
        ))
    }
}

/// A page of a daemon on this machine.
async fn ask(port: u16, page: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET /{page} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(TEXT_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(STATUS_TIMEOUT, exchange).await??;
    body_of(&String::from_utf8_lossy(&answer)).map_err(io::Error::other)
}

/// The body of an answer that is a success.
fn body_of(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let first = head.lines().next().unwrap_or_default();
    match first.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("the answer is `{first}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that answers each request with the path it was asked for and a token.
    async fn daemon() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 256];
                let n = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..n]).into_owned();
                let path = request.split(' ').nth(1).unwrap();
                let answer = format!("HTTP/1.0 200 OK\r\n\r\nthis is {path} vft1.a.hush\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn a_machines_own_words_are_packed_without_secrets() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let here = |name: &str| folder.path().join(name);
        let settings = "name = \"c1\"\nadmin_password = \"hush\"\n";
        fs::write(here("controller.toml"), settings).unwrap();
        let script = "#!/bin/sh\necho \"$@ Bearer hush\"\n";
        fs::write(here("journalctl"), script).unwrap();
        fs::set_permissions(here("journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
        let machine = Machine {
            configuration: folder.path().to_owned(),
            daemons: [("controller", daemon().await), ("agent", 1)],
            journalctl: here("journalctl"),
        };
        let path = here("b.tar.gz");
        let mut archive =
            Archive::create(&path, "b", virtflow_types::Timestamp::EPOCH, 1 << 20).unwrap();
        machine.look(&mut archive, "-1h").await.unwrap();
        let manifest = archive.finish("1").unwrap();
        assert_eq!(manifest["missing"], serde_json::json!([]), "{manifest}");

        let mut packed = std::collections::BTreeMap::new();
        let file = flate2::read::GzDecoder::new(fs::File::open(&path).unwrap());
        for entry in tar::Archive::new(file).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            packed.insert(name, text);
        }
        for (name, text) in [
            (
                "b/machine/controller.toml",
                "name = \"c1\"\nadmin_password = <removed>\n",
            ),
            (
                "b/machine/controller-status.json",
                "this is /status <removed>\n",
            ),
            (
                "b/machine/controller-metrics.txt",
                "this is /metrics <removed>\n",
            ),
            (
                "b/machine/journal.txt",
                "--unit=virtflow-controller --since=-1h --no-pager --output=short-iso-precise --lines=50000 Bearer <removed>\n",
            ),
        ] {
            assert_eq!(packed[name], text, "{name}");
        }
        assert_eq!(packed.len(), 5, "{:?}", packed.keys());
    }

    #[test]
    fn only_a_success_has_a_body() {
        assert_eq!(
            body_of("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}\n"),
            Ok("{}\n".into())
        );
        let refused = body_of("HTTP/1.0 401 Unauthorized\r\n\r\nno");
        assert_eq!(
            refused,
            Err("the answer is `HTTP/1.0 401 Unauthorized`".into())
        );
        assert!(body_of("").is_err());
    }
}
