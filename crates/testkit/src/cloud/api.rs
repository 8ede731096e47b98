//! Somebody with curl: requests to one chosen controller, with exactly the headers that are given.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{describe, run, system};

/// How long curl waits for an answer, in seconds.
const ANSWER_TIMEOUT_S: &str = "20";

/// What a controller answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status; 0 when there was no answer.
    pub http_status: u16,
    /// The envelope; null when the body was no JSON.
    pub body: Value,
}

impl Answer {
    /// The error's code; empty when it is no error.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// The payload of a success.
    ///
    /// # Errors
    /// When it is none.
    pub fn data(&self) -> Result<&Value> {
        ensure!(
            (200..300).contains(&self.http_status),
            "the answer is {}: {}",
            self.http_status,
            self.body
        );
        Ok(&self.body["data"])
    }
}

/// A caller of the REST API with one credential.
#[derive(Debug, Clone)]
pub struct Api {
    /// A process in the network namespace where the caller sits.
    place: i32,
    ca: PathBuf,
    /// Holds the `Authorization` header: a command line is no place for it.
    credential: PathBuf,
}

impl Api {
    /// A caller in the network of the process `place` that trusts the CA `ca_pem` and shows `token`.
    /// Its files are in `folder`.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn new(place: i32, folder: &Path, ca_pem: &str, token: &str) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let api = Self {
            place,
            ca: folder.join("ca.pem"),
            credential: folder.join("authorization"),
        };
        fs::write(&api.ca, ca_pem)?;
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&api.credential)?;
        writeln!(file, "Authorization: Bearer {token}")?;
        Ok(api)
    }

    /// The file with the CA's certificate.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// A curl command for `path` (below `/api/v1`) of the controller at `address`, which prints the
    /// body and, on a last line, the HTTP status.
    pub fn command(
        &self,
        address: impl std::fmt::Display,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Value>,
    ) -> Command {
        let mut command = system("nsenter");
        command
            .args(["--target", &self.place.to_string(), "--net", "--"])
            .args(["curl", "--silent", "--max-time", ANSWER_TIMEOUT_S])
            .args(["--write-out", "\n%{http_code}", "--request", method])
            .arg("--cacert")
            .arg(&self.ca)
            .arg("--header")
            .arg(format!("@{}", self.credential.display()));
        for header in headers {
            command.args(["--header", header]);
        }
        if let Some(body) = body {
            command
                .args(["--header", "Content-Type: application/json"])
                .args(["--data", &body.to_string()]);
        }
        command.arg(format!("https://{address}:8443/api/v1{path}"));
        command
    }

    /// One request, and what came of it; no answer is an answer too (status 0).
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn request(
        &self,
        address: impl std::fmt::Display,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let output = run(&mut self.command(address, method, path, headers, body))?;
        Ok(answer(&output.stdout))
    }

    /// Reads `path` from the controller at `address`.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn get(&self, address: impl std::fmt::Display, path: &str) -> Result<Answer> {
        self.request(address, "GET", path, &[], None)
    }

    /// Starts a request and leaves it under way; see [`Api::finish`].
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn begin(
        &self,
        address: impl std::fmt::Display,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Value>,
    ) -> Result<Child> {
        let mut command = self.command(address, method, path, headers, body);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting `{}`", describe(&command)))
    }

    /// What came of a request under way.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn finish(request: Child) -> Result<Answer> {
        Ok(answer(&request.wait_with_output()?.stdout))
    }
}

fn answer(printed: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(printed);
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", ""));
    Answer {
        http_status: status.trim().parse().unwrap_or(0),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let refused = answer(b"{\"error\":{\"code\":\"not_found\"}}\n404");
        assert_eq!((refused.http_status, refused.code()), (404, "not_found"));
        assert!(refused.data().is_err());
        let silent = answer(b"\n000");
        assert_eq!((silent.http_status, &silent.body), (0, &Value::Null));
    }
}
