//! Load from another process: Debian's wrk, which is fast enough for nginx and speaks TLS.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use virtflow_testkit::command::{run, system};

/// The Debian package; it starts nothing.
pub(super) const PACKAGE: &str = "wrk";

/// Longest wait for an answer.
const ANSWER_TIMEOUT: &str = "30s";

/// Who sends, and with what credential.
#[derive(Debug)]
pub(super) struct Wrk {
    /// A process in the network namespace to send from.
    place: i32,
    folder: PathBuf,
    /// Holds the `Authorization` header.
    authorization: PathBuf,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// Reads of these paths in turn.
    Gets(&'a [String]),
    /// Posts of this body, in which `{n}` is the request's number.
    Posts { path: &'a str, body: &'a str },
}

/// What came of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Load {
    pub(super) requests: u64,
    micros: u64,
    bytes: u64,
    /// Answers that were no success.
    pub(super) refused: u64,
    /// Connections that failed, and answers that did not come.
    pub(super) broken: u64,
    p50: u64,
    p99: u64,
}

impl Load {
    /// Requests a second.
    pub(super) fn rate(&self) -> f64 {
        self.requests as f64 * 1e6 / self.micros as f64
    }

    /// Bytes of an answer, headers included.
    pub(super) fn bytes_each(&self) -> u64 {
        self.bytes / self.requests.max(1)
    }

    /// What half and 99 of 100 did not exceed, in milliseconds.
    pub(super) fn half_ms(&self) -> f64 {
        self.p50 as f64 / 1e3
    }

    pub(super) fn most_ms(&self) -> f64 {
        self.p99 as f64 / 1e3
    }
}

impl Wrk {
    pub(super) fn new(place: i32, folder: PathBuf, authorization: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let script = include_str!("load.lua");
        fs::write(folder.join("load.lua"), script)?;
        Ok(Self {
            place,
            folder,
            authorization,
        })
    }

    /// Sends to `origin` (scheme, address, port) from so many connections, each of which waits for an answer before
    /// it sends on, for so long. Every answer has to be a success.
    pub(super) fn load(
        &self,
        origin: &str,
        connections: usize,
        lasting: Duration,
        what: What<'_>,
    ) -> Result<Load> {
        let paths = self.folder.join("paths");
        let mut command = system("nsenter");
        command
            .args(["--target", &self.place.to_string(), "--net", "--"])
            .args(["wrk", "--threads", "1", "--timeout", ANSWER_TIMEOUT])
            .args(["--connections", &connections.to_string()])
            .args(["--duration", &format!("{}s", lasting.as_secs())])
            .arg("--script")
            .arg(self.folder.join("load.lua"))
            .arg(origin)
            .env("VF_PATHS", &paths)
            .env("VF_AUTHORIZATION", &self.authorization);
        let list = match what {
            What::Gets(paths) => {
                command.env("VF_METHOD", "GET");
                paths.join("\n")
            }
            What::Posts { path, body } => {
                command.env("VF_METHOD", "POST").env("VF_BODY", body);
                path.to_owned()
            }
        };
        ensure!(!list.is_empty(), "nothing to send");
        fs::write(&paths, list)?;
        let output = run(&mut command)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let told = printed
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "));
        let (true, Some(told)) = (output.status.success(), told) else {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("wrk failed: {printed}{said}");
        };
        let load: Load = serde_json::from_str(told).context("what wrk told")?;
        ensure!(
            load.requests > 0 && load.refused == 0 && load.broken == 0,
            "of {} requests to {origin} {} were refused and {} broke",
            load.requests,
            load.refused,
            load.broken
        );
        Ok(load)
    }
}
