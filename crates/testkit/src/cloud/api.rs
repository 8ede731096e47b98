//! Somebody with curl: requests to one chosen controller, with exactly the headers that are given.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
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

    /// The file with the `Authorization` header.
    pub fn credential(&self) -> &Path {
        &self.credential
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

    /// Posts each of `bodies` to `path`, one after the other over one connection.
    ///
    /// # Errors
    /// When curl cannot be started, or breaks off.
    pub fn post_all(
        &self,
        address: impl std::fmt::Display,
        path: &str,
        bodies: &[Value],
    ) -> Result<Vec<Answer>> {
        let requests = bodies.iter().map(|body| {
            format!(
                "request = POST\nheader = \"Content-Type: application/json\"\ndata = {}\n\
                 url = \"https://{address}:8443/api/v1{path}\"\n",
                quoted(&body.to_string())
            )
        });
        self.all(requests.collect())
    }

    /// Reads each of `paths`, one after the other over one connection.
    ///
    /// # Errors
    /// When curl cannot be started, or breaks off.
    pub fn get_all(
        &self,
        address: impl std::fmt::Display,
        paths: impl Iterator<Item = String>,
    ) -> Result<Vec<Answer>> {
        let requests = paths.map(|path| format!("url = \"https://{address}:8443/api/v1{path}\"\n"));
        self.all(requests.collect())
    }

    /// Sends requests that are parts of a curl configuration.
    fn all(&self, requests: Vec<String>) -> Result<Vec<Answer>> {
        let common = format!(
            "silent\nmax-time = {ANSWER_TIMEOUT_S}\nwrite-out = \"\\n%{{http_code}}\\n\"\n\
             cacert = {}\nheader = {}\n",
            quoted(&self.ca.display().to_string()),
            quoted(&format!("@{}", self.credential.display())),
        );
        let sent = requests.len();
        let parts: Vec<String> = requests
            .into_iter()
            .map(|request| format!("{common}{request}"))
            .collect();
        let mut child = system("nsenter")
            .args(["--target", &self.place.to_string(), "--net", "--"])
            .args(["curl", "--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting curl")?;
        let mut input = child.stdin.take().context("curl has no input")?;
        // curl reads all of it before it begins.
        input.write_all(parts.join("next\n").as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        let lines: Vec<&[u8]> = output.stdout.split(|byte| *byte == b'\n').collect();
        let answers: Vec<Answer> = lines
            .chunks_exact(2)
            .map(|pair| answer(&pair.join(&b'\n')))
            .collect();
        ensure!(
            answers.len() == sent,
            "curl got {} answers to {sent} requests: {}",
            answers.len(),
            output.status
        );
        Ok(answers)
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

    /// A connection to the controller at `address` that is up, so that a request on it leaves at a
    /// known moment.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn connect(&self, address: impl std::fmt::Display) -> Result<Connection> {
        let address = address.to_string();
        let mut child = system("nsenter")
            .args(["--target", &self.place.to_string(), "--net", "--"])
            .args(["openssl", "s_client", "-brief", "-nocommands", "-ign_eof"])
            .args(["-alpn", "http/1.1", "-verify_return_error"])
            .args(["-verify_ip", &address, "-CAfile"])
            .arg(&self.ca)
            .args(["-connect", &format!("{address}:8443")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting openssl")?;
        let said = child.stderr.take().context("openssl has no output")?;
        let mut told = String::new();
        for line in BufReader::new(said).lines() {
            let line = line?;
            // The last of what is told of a handshake that went well.
            if line.starts_with("Server Temp Key") {
                let input = child.stdin.take().context("openssl has no input")?;
                let credential = fs::read_to_string(&self.credential)?;
                return Ok(Connection {
                    child,
                    input,
                    credential: credential.trim().to_owned(),
                    address,
                });
            }
            told.push_str(&line);
            told.push('\n');
        }
        child.wait()?;
        bail!("no connection to {address}: {told}");
    }

    /// What came of a request under way.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn finish(request: Child) -> Result<Answer> {
        Ok(answer(&request.wait_with_output()?.stdout))
    }
}

/// A connection for one request.
#[derive(Debug)]
pub struct Connection {
    child: Child,
    input: ChildStdin,
    credential: String,
    address: String,
}

impl Connection {
    /// Sends a request.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(
        mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &Value,
    ) -> Result<Sent> {
        let body = body.to_string();
        let mut text = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: {}:8443\r\n{}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.address,
            self.credential,
            body.len()
        );
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.push_str(&body);
        self.input.write_all(text.as_bytes())?;
        self.input.flush()?;
        Ok(Sent {
            at: Instant::now(),
            child: self.child,
            _input: self.input,
        })
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct Sent {
    /// When its last byte left.
    pub at: Instant,
    child: Child,
    /// Its end would be the connection's.
    _input: ChildStdin,
}

impl Sent {
    /// Waits for the answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn http_status(mut self) -> Result<u16> {
        let mut text = String::new();
        if let Some(mut output) = self.child.stdout.take() {
            output.read_to_string(&mut text)?;
        }
        self.child.wait()?;
        text.split_whitespace()
            .nth(1)
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("the answer is `{text}`"))
    }
}

/// A value in a curl configuration.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
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
    fn a_value_stays_in_its_quotes() {
        assert_eq!(quoted(r#"{"a": "\n"}"#), r#""{\"a\": \"\\n\"}""#);
    }

    #[test]
    fn status_and_body_are_told_apart() {
        let refused = answer(b"{\"error\":{\"code\":\"not_found\"}}\n404");
        assert_eq!((refused.http_status, refused.code()), (404, "not_found"));
        assert!(refused.data().is_err());
        let silent = answer(b"\n000");
        assert_eq!((silent.http_status, &silent.body), (0, &Value::Null));
    }
}
