//! The program as its users start it, as far as that needs no cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The program with a configuration file in a folder, and nothing else to go by.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtflow"));
    command
        .env_clear()
        .env("VIRTFLOW_CONFIG", folder.join("config.toml"))
        .stdin(Stdio::null());
    command
}

struct Person {
    folder: TempDir,
}

impl Person {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(self.folder.path());
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn write(&self, text: &str, mode: u32) {
        let path = self.folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

const CONTEXTS: &str = r#"
current = "work"
[contexts.work]
endpoints = ["https://127.0.0.1:1"]
ca = "not a certificate"
user = "ada"
token = "vft1.hush.hush"
[contexts.spare]
endpoints = ["https://[::1]:8443"]
ca = "not a certificate"
"#;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn exit_codes_and_streams() {
    let person = Person::new();
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["vm", "create", "--help"], 0),
        (&["completions", "bash"], 0),
        (&["role", "catalogue"], 0),
        (&["context", "list"], 0),
        (&[], 2),
        (&["vm", "explode"], 2),
        (&["vm", "list"], 3),
        (&["context", "use", "nowhere"], 4),
        (&["vm", "list", "--context", "nowhere"], 4),
    ] {
        let output = person.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        assert_eq!(output.stdout.is_empty(), code != 0, "{arguments:?}");
        assert_eq!(output.stderr.is_empty(), code == 0, "{arguments:?}");
    }
}

#[test]
fn a_failure_is_json_where_json_was_asked_for() {
    let output = Person::new().run(&["vm", "list", "-o", "json"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["code"], "unauthenticated");
    assert_eq!(error["exit_code"], 3);
    assert!(error["advice"].as_str().unwrap().contains("virtflow login"));
}

#[test]
fn contexts_are_listed_switched_and_forgotten_without_their_secrets() {
    let person = Person::new();
    person.write(CONTEXTS, 0o600);
    let output = person.run(&["context", "list"]);
    let expected = concat!(
        "   NAME   USER  BY       ENDPOINT\n",
        "   spare  -     nothing  https://[::1]:8443\n",
        "*  work   ada   token    https://127.0.0.1:1\n",
    );
    assert_eq!(text(&output.stdout), expected);
    for arguments in [&["context", "show"][..], &["context", "list", "-o", "json"]] {
        let output = person.run(arguments);
        assert!(
            output.status.success() && !text(&output.stdout).contains("hush"),
            "{output:?}"
        );
    }
    assert!(person.run(&["context", "use", "spare"]).status.success());
    assert!(person.run(&["context", "delete", "spare"]).status.success());
    let output = person.run(&["vm", "list"]);
    assert_eq!(
        output.status.code(),
        Some(3),
        "the forgotten context is in use"
    );
}

#[test]
fn a_contexts_file_that_others_can_read_is_refused() {
    let person = Person::new();
    person.write(CONTEXTS, 0o644);
    let output = person.run(&["vm", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("chmod 600"), "{output:?}");
}

#[test]
fn a_mistake_in_the_contexts_file_is_named_by_line_without_its_text() {
    let person = Person::new();
    person.write(&CONTEXTS.replace("token =", "tokn ="), 0o600);
    let output = person.run(&["vm", "list"]);
    let error = text(&output.stderr);
    assert!(
        error.contains("line 7") && error.contains("tokn"),
        "{error}"
    );
    assert!(!error.contains("hush"), "{error}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let person = Person::new();
    let mut child = person
        .command(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
