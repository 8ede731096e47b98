//! Somebody with the command line tool, sitting at the rig's network.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::place::Cluster;
use crate::command::{describe, output_of, printed, run, system};
use crate::packages;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One person: a configuration file with its own credentials, and a place on the network.
#[derive(Debug, Clone)]
pub struct Person {
    name: String,
    folder: PathBuf,
    /// A process in the network namespace where this person sits.
    place: i32,
    tool: PathBuf,
}

/// What the tool said when it was refused.
#[derive(Debug)]
pub struct Refusal {
    /// What the tool ended with.
    pub exit_code: i32,
    /// The error as JSON: `code`, `message`, `advice`, `details`.
    pub error: Value,
}

impl Refusal {
    /// The error's code, such as `quota_exceeded`.
    pub fn code(&self) -> &str {
        self.error["code"].as_str().unwrap_or_default()
    }

    /// The error's sentence for people.
    pub fn message(&self) -> &str {
        self.error["message"].as_str().unwrap_or_default()
    }
}

impl Person {
    /// A person called `name`, whose files are in a folder of that name below `people`, and who
    /// sits in the network namespace of the process `place`.
    ///
    /// # Errors
    /// When the folder cannot be made or the tool is not built.
    pub fn new(name: &str, people: &Path, place: i32) -> Result<Self> {
        let folder = people.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            place,
            tool: packages::own_binary("virtflow")?,
        })
    }

    /// The command line as it would look on this person's screen.
    pub fn shown(&self, arguments: &[&str]) -> String {
        format!("{}$ virtflow {}", self.name, arguments.join(" "))
    }

    /// The tool's configuration file of this person.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("config.toml")
    }

    /// Writes a secret that the tool is to read from a file, since its command line would show it
    /// to everybody on the machine.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn secret(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// The tool with these arguments, to be run where this person sits.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = system("nsenter");
        command
            .args(["--target", &self.place.to_string(), "--net", "--"])
            .arg(&self.tool)
            .args(arguments)
            .env("VIRTFLOW_CONFIG", self.configuration())
            .env("NO_COLOR", "1");
        command
    }

    /// Logs in with the password in a file; the tool keeps the session.
    ///
    /// # Errors
    /// When the tool is refused.
    pub fn log_in(&self, cluster: &Cluster, user: &str, password: &Path) -> Result<()> {
        self.text(&[
            "login",
            "--endpoint",
            &cluster.endpoint,
            "--ca-fingerprint",
            &cluster.ca_fingerprint,
            "--user",
            user,
            "--password-file",
            &password.to_string_lossy(),
        ])?;
        Ok(())
    }

    /// What the tool prints for a person.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        output_of(&mut self.command(arguments))
    }

    /// What the tool prints for a program.
    ///
    /// # Errors
    /// When the tool fails or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.command(arguments);
        command.args(["-o", "json"]);
        let text = output_of(&mut command)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`{}` printed no JSON: {text}", describe(&command)))
    }

    /// Starts the tool and leaves it at work.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments);
        command
            .args(["-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting `{}`", describe(&command)))
    }

    /// Expects the tool to be refused.
    ///
    /// # Errors
    /// When it succeeds, or gives no error as JSON.
    pub fn refused(&self, arguments: &[&str]) -> Result<Refusal> {
        let mut command = self.command(arguments);
        command.args(["-o", "json"]);
        let output = run(&mut command)?;
        if output.status.success() {
            bail!(
                "`{}` should have been refused, but succeeded: {}",
                describe(&command),
                printed(&output)
            );
        }
        Ok(Refusal {
            exit_code: output.status.code().unwrap_or(-1),
            error: error_in(&output)
                .with_context(|| format!("`{}` gave no error as JSON", describe(&command)))?,
        })
    }
}

/// The JSON on standard error, which may follow lines for people.
fn error_in(output: &Output) -> Result<Value> {
    let text = String::from_utf8_lossy(&output.stderr);
    let start = text.find('{').context("no `{` on standard error")?;
    let value: Value = serde_json::from_str(&text[start..])?;
    Ok(match value.get("error") {
        Some(error) => error.clone(),
        None => value,
    })
}
