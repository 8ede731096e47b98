//! A cluster of one controller in this process, with its real API, and somebody who is logged in to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use virtflow_controller::app::App;
use virtflow_controller::testing::{self, ADMIN, ADMIN_PASSWORD};

/// See the module.
pub(crate) struct Cloud {
    pub(crate) app: App,
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// What it printed, for it must have ended well.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// What it said, for it must have ended so.
    pub(crate) fn bad(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.err
    }
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = testing::single_node(folder.path(), |_| {}).await.unwrap();
        testing::serve(&app).await.unwrap();
        let cloud = Self { app, folder };
        cloud.write("ca.pem", &cloud.app.ca().pem());
        cloud.write("password", ADMIN_PASSWORD);
        let endpoint = format!("https://{}", cloud.app.config().listen.api);
        let [ca, password] = ["ca.pem", "password"].map(|name| cloud.path(name));
        let line = [
            "login",
            "--endpoint",
            &endpoint,
            "--ca",
            &ca,
            "--user",
            ADMIN,
            "--password-file",
            &password,
        ];
        cloud.run(&line).await.good();
        cloud
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        if let Some(above) = Path::new(&path).parent() {
            fs::create_dir_all(above).unwrap();
        }
        fs::write(&path, text).unwrap();
        path
    }

    /// A program, such as an editor.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = PathBuf::from(self.write(name, &format!("#!/bin/sh\n{text}\n")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A command that is not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtflow"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", self.folder.path())
            .env("VIRTFLOW_CONFIG", self.path("config/config.toml"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().await.unwrap().into()
    }

    /// Runs a command whose words have no spaces in them.
    pub(crate) async fn run_line(&self, line: &str) -> Ended {
        let words: Vec<&str> = line.split(' ').collect();
        self.run(&words).await
    }

    /// Runs a command with `-o json` that must end well.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        serde_json::from_str(&self.run(&all).await.good()).unwrap()
    }

    /// Applies documents from a file.
    pub(crate) async fn apply(&self, text: &str, more: &[&str]) -> Ended {
        let path = self.write("applied.yaml", text);
        let mut all = vec!["apply", "-f", &path];
        all.extend(more);
        self.run(&all).await
    }
}
