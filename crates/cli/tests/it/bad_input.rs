//! What the program is given that is no use to it: on its command line, in files, where it writes. It says so in a
//! line, ends with the code that is documented, and never with a panic.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::binary::program;

/// A context of a cluster that nobody answers for.
const CONTEXTS: &str = r#"
current = "work"
[contexts.work]
endpoints = ["https://127.0.0.1:1"]
ca = "not a certificate"
user = "ada"
token = "vft1.hush.hush"
"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, CONTEXTS).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, mode).unwrap();
    folder
}

fn command(folder: &TempDir) -> Command {
    let mut command = program(folder.path());
    command.current_dir(folder.path());
    command
}

/// That it ended with the code, and said why in what a person reads.
fn refused(what: &str, output: &Output, code: i32, why: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {told}");
    assert!(told.contains(why), "{what}: {told}");
    assert!(!told.contains("panicked"), "{what}: {told}");
    assert!(!told.contains("hush"), "{what}: {told}");
    assert!(told.len() < 4096, "{what}: {} bytes are told", told.len());
    assert!(output.stdout.is_empty(), "{what}: {output:?}");
}

#[test]
fn lines_that_make_no_sense() {
    let folder = folder();
    for (line, why) in [
        ("rack list --limit 5 --limit 6", "multiple times"),
        ("rack list --limit", "a value is required"),
        ("rack list --limit five", "--limit"),
        ("rack list --colour red", "unexpected argument"),
        ("--colour rack list", "unexpected argument"),
        ("rack get", "required"),
        ("rack get -x", "unexpected argument"),
        ("rack get a b c", "unexpected argument"),
        ("vm create x --timeout soon", "--timeout"),
        ("rack list -o html", "html"),
        (
            "login --endpoint https://c1:8443 --ca-fingerprint 00 --user a --password-file /dev/null",
            "fingerprint",
        ),
        (
            "login --endpoint https://c1:8443 --user a",
            "--ca-fingerprint",
        ),
        ("completions tcsh-of-old", "tcsh-of-old"),
    ] {
        let output = command(&folder).args(line.split(' ')).output().unwrap();
        refused(line, &output, 2, why);
    }
    let mut line = command(&folder);
    line.args(["rack", "get"]).arg(OsStr::from_bytes(b"r\xff1"));
    refused("not UTF-8", &line.output().unwrap(), 2, "UTF-8");
}

#[test]
fn files_that_are_none() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("nothing-in-it")).unwrap();
    let huge = fs::File::create(at("huge.yaml")).unwrap();
    huge.set_len(3 << 30).unwrap();
    for (name, text) in [
        ("empty.yaml", &b""[..]),
        ("bytes.yaml", b"kind: rack\nname: \xff\xfe\n"),
        ("nul.yaml", b"kind: rack\nname: a\0b\n"),
        ("cut.yaml", b"kind: rack\nname: r1\nspec: {"),
        ("twice.yaml", b"kind: rack\nname: r1\nname: r2\n"),
        ("unknown.yaml", b"kind: spaceship\nname: x\n"),
        ("no-kind.yaml", b"name: x\n"),
        ("list.yaml", b"- kind: rack\n"),
        ("word.yaml", b"rack\n"),
        ("field.yaml", b"kind: rack\nname: r1\nspec: {colour: red}\n"),
    ] {
        fs::write(at(name), text).unwrap();
    }
    fs::write(at("deep.yaml"), "[".repeat(200_000)).unwrap();
    // Nine lines of ten of the line before: a billion.
    let mut laughs = String::from("a0: &a0 x\n");
    for n in 1..10 {
        let ten = vec![format!("*a{}", n - 1); 10].join(",");
        laughs.push_str(&format!("a{n}: &a{n} [{ten}]\n"));
    }
    fs::write(at("laughs.yaml"), laughs).unwrap();
    let link = at("loop.yaml");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    for (name, code, why) in [
        ("absent.yaml", 1, "No such file"),
        ("nothing-in-it", 2, "has no file"),
        ("loop.yaml", 1, "symbolic links"),
        ("huge.yaml", 1, "is longer than"),
        ("/dev/zero", 1, "is longer than"),
        ("empty.yaml", 2, "no document"),
        ("/dev/null", 2, "no document"),
        ("bytes.yaml", 1, "UTF-8"),
        ("nul.yaml", 2, "nul.yaml"),
        ("cut.yaml", 2, "cut.yaml"),
        ("twice.yaml", 2, "twice.yaml"),
        ("unknown.yaml", 2, "spaceship"),
        ("no-kind.yaml", 2, "kind"),
        ("list.yaml", 2, "list.yaml"),
        ("word.yaml", 2, "word.yaml"),
        ("field.yaml", 2, "colour"),
        ("deep.yaml", 2, "deep.yaml"),
        ("laughs.yaml", 2, "laughs.yaml"),
    ] {
        let mut apply = command(&folder);
        apply.args(["apply", "-f", name, "--dry-run"]);
        refused(name, &apply.output().unwrap(), code, why);
    }
    let nothing = command(&folder)
        .args(["apply", "-f", "-"])
        .output()
        .unwrap();
    refused("nothing on standard input", &nothing, 2, "no document");
}

/// What some editors put before everything else is no part of a document: it is read, and only the cluster is missing.
#[test]
fn a_mark_before_a_document_and_the_ends_of_its_lines_make_no_difference() {
    let folder = folder();
    let told = |text: &str| {
        let path = folder.path().join("rack.yaml");
        fs::write(&path, text).unwrap();
        let mut apply = command(&folder);
        apply.args(["apply", "-f", "rack.yaml", "--dry-run"]);
        let output = apply.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let plain = told("kind: rack\nname: r1\nspec: {}\n");
    assert!(!plain.1.contains("rack.yaml"), "{plain:?}");
    assert_eq!(told("\u{feff}kind: rack\nname: r1\nspec: {}\n"), plain);
    assert_eq!(told("kind: rack\r\nname: r1\r\nspec: {}\r\n"), plain);
}

#[test]
fn nowhere_to_write_and_nowhere_to_live() {
    let folder = folder();
    for arguments in [
        &["completions", "zsh"][..],
        &["context", "list", "-o", "json"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut writing = command(&folder);
        let output = writing.args(arguments).stdout(full).output().unwrap();
        refused("a full disk", &output, 1, "No space left");
    }
    let mut homeless = command(&folder);
    homeless.env_clear();
    let output = homeless.args(["rack", "list"]).output().unwrap();
    refused("no home", &output, 1, "VIRTFLOW_CONFIG");
}
