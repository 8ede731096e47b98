//! Command lines that mean nothing, on a machine where the cluster could be asked: they are refused with a reason, and
//! nothing is sent.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cloud::Ended;
use crate::fake::{Fake, Reply, ok};
use crate::refused_lines::{check, words};

/// The same line in other orders, and names that look like options, ask for the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_options_makes_no_difference() {
    let fake = Fake::start(|_| ok(json!([]))).await;
    let mut asked = Vec::new();
    for line in [
        "rack list --limit 5 -o json",
        "rack list -o json --limit 5",
        "rack -o json list --limit 5",
        "-o json rack list --limit 5",
        "--output json rack list --limit 5",
        "--output=json rack list --limit=5",
        "-ojson rack list --limit=5",
        "racks ls -o json --limit 5",
        "-o yaml rack list --limit 5 -o json",
        "--context nowhere rack list --limit 5 -o json --context work",
    ] {
        let ended = fake.run(&words(line)).await;
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        assert_eq!(ended.out, "[]\n", "{line}");
        asked.push(fake.calls().pop().unwrap());
    }
    assert!(asked.iter().all(|it| *it == asked[0]), "{asked:?}");
    for (line, target) in [
        ("rack get -- -x", "/racks/-x"),
        ("rack get -- --limit", "/racks/--limit"),
        ("rack get -- --", "/racks/--"),
        ("rack get ../users", "/racks/..%2Fusers"),
        ("rack get r1?force=true", "/racks/r1%3Fforce%3Dtrue"),
        ("rack get a#b", "/racks/a%23b"),
        ("rack get %2e%2e", "/racks/%252e%252e"),
        ("rack get ü", "/racks/%C3%BC"),
    ] {
        fake.run(&words(line)).await;
        assert_eq!(fake.calls().pop().unwrap().target, target, "{line}");
    }
}

/// Whatever is no text where text is due, in the arguments and in the environment.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text() {
    let fake = Fake::start(|_| ok(json!([]))).await;
    let bytes = OsStr::from_bytes(b"\xffa\x1b[31m");
    for place in 0..4 {
        let mut line: Vec<&OsStr> = ["rack", "get", "r1", "--tenant"].map(OsStr::new).to_vec();
        line.truncate(place + 1);
        line.push(bytes);
        let mut command = fake.command(&[]);
        let ended = command.args(&line).output().await.unwrap().into();
        check(&format!("{line:?}"), &ended, 2, "");
    }
    // Another user than the one whose token is meant would be asked for.
    let mut command = fake.command(&["rack", "list"]);
    let ended = command
        .env("VIRTFLOW_TOKEN", bytes)
        .output()
        .await
        .unwrap()
        .into();
    check(
        "a token that is no text",
        &ended,
        3,
        "VIRTFLOW_TOKEN holds characters",
    );
    for token in ["two words", "line\nbreak", "\u{fc}"] {
        let mut command = fake.command(&["rack", "list"]);
        let ended = command
            .env("VIRTFLOW_TOKEN", token)
            .output()
            .await
            .unwrap()
            .into();
        check(token, &ended, 3, "characters that no token has");
    }
    let mut command = fake.command(&["rack", "list"]);
    let ended: Ended = command
        .env("VIRTFLOW_CONTEXT", bytes)
        .output()
        .await
        .unwrap()
        .into();
    check("a context that is no text", &ended, 2, "UTF-8");
    let mut command = fake.command(&["rack", "list"]);
    let ended: Ended = command
        .env("VIRTFLOW_CONTEXT", "nowhere")
        .output()
        .await
        .unwrap()
        .into();
    check("a context that is none", &ended, 4, "no context `nowhere`");
    assert_eq!(fake.calls(), []);
    // Variables that are empty are as good as not set.
    let mut command = fake.command(&["rack", "list"]);
    let command = command
        .env("VIRTFLOW_CONTEXT", "")
        .env("VIRTFLOW_TOKEN", "");
    let ended: Ended = command.output().await.unwrap().into();
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// As long as the system lets an argument be, and many of them.
#[tokio::test(flavor = "multi_thread")]
async fn arguments_without_end() {
    let fake = Fake::start(|_| ok(json!([]))).await;
    let long = "x".repeat(131_000);
    for line in [
        &["rack", "get", &long][..],
        &["rack", "delete", &long],
        &["rack", "list", &long],
        &[&long],
        &["rack", &long],
        &["rack", "list", "--limit", &long],
        &["rack", "list", "-o", &long],
        &["rack", "list", "--context", &long],
        &["explain", &long],
        &["vm", "create", "web-1", "--memory", &long],
        &["vm", "create", "web-1", "--idempotency-key", &long],
        &["login", "--endpoint", &long, "--ca", "x", "--user", "a"],
        &["can-i", &long],
    ] {
        let ended = fake.run(line).await;
        let shown = &line[..line.len() - 1];
        assert!(
            ended.code == 2 || ended.code == 4,
            "{shown:?}: {} {}",
            ended.code,
            ended.err.len()
        );
        assert!(
            ended.err.len() < 4096,
            "{shown:?}: {} bytes are told",
            ended.err.len()
        );
    }
    // A megabyte in all.
    let names: Vec<String> = (0..9).map(|n| format!("{n}{}", &long[1..])).collect();
    let mut line = vec!["rack", "list"];
    line.extend(names.iter().map(String::as_str));
    let ended = fake.run(&line).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.len() < 4096, "{} bytes are told", ended.err.len());
    let mut line = vec!["rack", "delete"];
    line.extend(["r"; 2001]);
    check("too many names", &fake.run(&line).await, 2, "2000");
    assert_eq!(fake.calls(), []);
}

/// What a line holds for the terminal is not obeyed when the line is refused.
#[tokio::test(flavor = "multi_thread")]
async fn escapes_in_arguments_are_shown() {
    let fake = Fake::start(|_| ok(json!([]))).await;
    let spell = "a\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}b";
    for line in [
        &[spell][..],
        &["rack", spell],
        &["rack", "list", spell],
        &["rack", "list", "-o", spell],
        &["rack", "list", "--limit", spell],
        &["rack", "list", "--context", spell],
        &["context", "use", spell],
        &["context", "show", spell],
        &["context", "delete", spell],
        &["explain", spell],
        &["can-i", spell],
        &["apply", "-f", spell],
        &["vm", "create", "x", "--memory", spell],
        &["vm", "create", "x", "--label", spell],
        &["login", "--endpoint", spell, "--ca", "x", "--user", "a"],
        &["login", "--endpoint", "c1", "--ca", spell, "--user", "a"],
        &["audit", "verify", "--file", spell],
        &["completions", spell],
    ] {
        let ended = fake.run(line).await;
        assert!([1, 2, 4].contains(&ended.code), "{line:?}: {ended:?}");
        let obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!ended.err.contains(obeyed), "{line:?}: {ended:?}");
        assert!(!ended.out.contains(obeyed), "{line:?}: {ended:?}");
    }
    assert_eq!(fake.calls(), []);
}

/// Files that cannot be read, wherever a command takes one.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read() {
    let fake = Fake::start(|_| ok(json!([]))).await;
    let ca = fake.write("ca.pem", &fake.ca);
    fs::create_dir(fake.folder.path().join("folder")).unwrap();
    fake.write("two-lines", "one\ntwo\n");
    fake.write("empty", "");
    fs::write(fake.folder.path().join("bytes"), b"\xff\xfe").unwrap();
    let login = ["login", "--endpoint", &fake.endpoint, "--user", "a"];
    for (file, code, why) in [
        ("absent", 1, "No such file"),
        ("folder", 1, "Is a directory"),
        // What root may open and nobody can read.
        ("/proc/self/mem", 1, "Input/output error"),
        ("/dev/zero", 1, "is longer than"),
        ("bytes", 1, "UTF-8"),
        ("empty", 2, ""),
    ] {
        let mut lines = vec![
            vec!["rack", "create", "r1", "--from-file", file],
            vec!["vm", "create", "web-1", "--from-file", file],
        ];
        if file != "folder" {
            lines.push(vec!["apply", "-f", file]);
            lines.push(vec!["vm", "create", "-f", file]);
        }
        let password = ["--ca", &ca, "--password-file", file];
        lines.push([&login[..], &password[..]].concat());
        lines.push(vec!["user", "create", "ada", "--password-file", file]);
        lines.push(vec!["user", "set-password", "ada", "--password-file", file]);
        lines.push([&login[..], &["--ca", file]].concat());
        for line in lines {
            let is_spec = line.contains(&"--from-file");
            let ended = fake.run(&line).await;
            match file {
                // An empty spec is one.
                "empty" if is_spec => {}
                _ => check(&line.join(" "), &ended, code, why),
            }
        }
    }
    let two = [&login[..], &["--ca", &ca, "--password-file", "two-lines"]].concat();
    check("two lines", &fake.run(&two).await, 2, "single line");
    for (file, code, why) in [
        ("absent", 1, "No such file"),
        ("folder", 1, "Is a directory"),
        ("bytes", 2, "line 1"),
        ("/dev/zero", 2, "longer than"),
    ] {
        let ended = fake.run(&["audit", "verify", "--file", file]).await;
        check(file, &ended, code, why);
    }
    for endings in [
        &["apply", "-f", "-", "-f", "-"][..],
        &["vm", "create", "-f", "-", "-f", "-"],
    ] {
        check("twice", &fake.run(endings).await, 2, "twice");
    }
    let sent = fake.calls().into_iter().filter(|call| {
        !call.target.starts_with("/racks") && !call.target.starts_with("/virtual_machines")
    });
    assert_eq!(sent.collect::<Vec<_>>(), []);
}

/// Standard input that is closed, and nobody who could be asked.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_terminal() {
    let fake =
        Fake::start(|_| ok(json!([{"id": "x", "kind": "rack", "name": "r1", "spec": {}}]))).await;
    let ca = fake.write("ca.pem", &fake.ca);
    let racks = fake.write("racks.yaml", "kind: rack\nname: r2\n");
    for (line, code, why) in [
        (
            vec![
                "login",
                "--endpoint",
                &fake.endpoint,
                "--ca",
                &ca,
                "--user",
                "a",
            ],
            2,
            "the password is empty",
        ),
        (
            vec!["user", "create", "ada", "--password"],
            2,
            "the password is empty",
        ),
        (
            vec!["user", "set-password", "ada"],
            2,
            "the password is empty",
        ),
        (
            vec!["user", "set-password", "ada", "--own"],
            2,
            "the password is empty",
        ),
        (vec!["vm", "delete", "--selector", "a=b"], 2, "--yes"),
        (
            vec!["apply", "-f", &racks, "--prune", "-l", "a=b"],
            2,
            "--yes",
        ),
        (vec!["upgrade", "finish"], 2, "--yes"),
        (vec!["apply", "-f", "-"], 2, "no document"),
        (vec!["rack", "create", "r1", "--from-file", "-"], -1, ""),
        (vec!["audit", "verify", "--file", "-"], 0, ""),
    ] {
        for closed in [false, true] {
            let ended: Ended = match closed {
                false => fake.run(&line).await,
                // With no standard input at all.
                true => {
                    let shell = fake.command(&[]);
                    let shell = shell.as_std();
                    let mut command = tokio::process::Command::new("sh");
                    command.args([
                        "-c",
                        "exec \"$0\" \"$@\" <&-",
                        env!("CARGO_BIN_EXE_virtflow"),
                    ]);
                    command
                        .args(&line)
                        .current_dir(fake.folder.path())
                        .env_clear();
                    for (key, value) in shell.get_envs() {
                        command.env(key, value.unwrap());
                    }
                    command.output().await.unwrap().into()
                }
            };
            if code >= 0 {
                assert_eq!(ended.code, code, "{line:?}: {ended:?}");
            }
            assert!(ended.err.contains(why), "{line:?}: {ended:?}");
            assert!(!ended.err.contains("panicked"), "{line:?}: {ended:?}");
        }
    }
    assert!(
        fake.calls()
            .iter()
            .all(|call| call.method == "GET" || call.is("POST", "/racks"))
    );
}

/// A disk that is full, or a reader that went: the first is told, the second is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn nowhere_to_write() {
    let rows: Vec<Value> = (0..900)
        .map(|n| json!({"id": n.to_string(), "kind": "rack", "name": format!("r{n}"), "spec": {}}))
        .collect();
    let event = format!(
        "event: added\ndata: {}\n\nevent: bookmark\nid: 7\ndata: {{}}\n\n",
        rows[0]
    );
    let fake = Fake::start(move |seen| match seen.target.as_str() {
        target if target.contains("watch=true") => {
            crate::fake::raw(200, "text/event-stream", event.clone())
        }
        target if target.contains("console") => ok(json!({"data": "login: \n", "total_bytes": 8})),
        target if target.starts_with("/racks?") => ok(Value::Array(rows.clone())),
        _ => ok(rows[0].clone()),
    })
    .await;
    for line in [
        "--help",
        "--version",
        "rack --help",
        "rack list --help",
        "help",
        "completions bash",
        "completions zsh --names",
        "explain rack",
        "role catalogue",
        "context list",
        "context list -o json",
        "context show",
        "rack list",
        "rack list -o json",
        "rack list -o yaml",
        "rack list -o wide",
        "rack list -o custom-columns=N:.name",
        "rack list --fields name",
        "rack get r1",
        "rack describe r1",
        "rack create r1",
        "rack delete r1",
        "rack list --watch",
        "rack list --watch -o json",
        "vm console web-1 --log",
        "whoami",
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = fake.command(&words(line));
        let child = command.stdout(full).spawn().unwrap();
        let ended: Ended = child.wait_with_output().await.unwrap().into();
        check(line, &ended, 1, "No space left");

        let mut child = fake.command(&words(line)).spawn().unwrap();
        let mut first = [0; 1];
        let mut stdout = child.stdout.take().unwrap();
        if !line.contains("--watch") {
            stdout.read_exact(&mut first).await.unwrap();
        }
        drop(stdout);
        let ended: Ended = child.wait_with_output().await.unwrap().into();
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{line}");
    }
}

/// A standard error that nobody reads changes nothing of how a command ends.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_tell() {
    let fake = Fake::start(|seen| {
        let operation =
            |state: &str| json!({"id": "o", "spec": {"verb": "start"}, "status": {"state": state}});
        match seen.method.as_str() {
            "POST" => ok(json!({"operation": operation("running")})),
            _ if seen.target.starts_with("/operations") => ok(operation("completed")),
            _ => ok(json!([])),
        }
    })
    .await;
    for (line, code) in [
        ("rack lst", 2),
        ("rack get ..", 2),
        ("vm start web-1 --wait", 0),
        ("context use x", 4),
    ] {
        for full in [true, false] {
            let mut command = fake.command(&words(line));
            let mut child = match full {
                true => {
                    let full = fs::File::options().write(true).open("/dev/full").unwrap();
                    command.stderr(full).spawn().unwrap()
                }
                false => command.spawn().unwrap(),
            };
            drop(child.stderr.take());
            let ended = child.wait().await.unwrap();
            assert_eq!(ended.code(), Some(code), "{line}");
        }
    }
}

/// A password reaches nothing that others of the machine can read, and no output.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_out_of_sight() {
    let mut fake = Fake::start(|_| Reply::Never).await;
    let ca = fake.write("ca.pem", &fake.ca);
    let file = fake.write("password", "hush-in-a-file");
    let login = [
        "login",
        "--endpoint",
        &fake.endpoint.clone(),
        "--ca",
        &ca,
        "--user",
        "ada",
    ];
    for by_file in [true, false] {
        let mut line = login.to_vec();
        if by_file {
            line.extend(["--password-file", &file]);
        }
        let mut command = fake.command(&line);
        command
            .stdin(Stdio::piped())
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"hush-typed\n").await.unwrap();
        drop(stdin);
        fake.next("POST", "/auth/login").await;
        let id = child.id().unwrap();
        for name in ["cmdline", "environ", "comm"] {
            let seen = fs::read(format!("/proc/{id}/{name}")).unwrap();
            let seen = String::from_utf8_lossy(&seen);
            assert!(!seen.contains("hush"), "{name}: {seen}");
        }
        child.start_kill().unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("hush"),
            "{output:?}"
        );
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    // The token of the context, with everything that makes programs talk.
    let told = Fake::start(|_| crate::fake::refused(500, "internal")).await;
    for line in [
        "rack list",
        "whoami",
        "context show",
        "context list -o yaml",
        "vm create web-1 --wait",
    ] {
        let mut command = told.command(&words(line));
        let command = command
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full");
        let ended: Ended = command.output().await.unwrap().into();
        assert!(
            !ended.err.contains("hush") && !ended.out.contains("hush"),
            "{line}: {ended:?}"
        );
    }
}

/// Nowhere to keep what is known, and a place that is none.
#[tokio::test(flavor = "multi_thread")]
async fn no_home() {
    let fake = Fake::start(|_| ok(json!([]))).await;
    for (variable, value, code, why) in [
        ("NOTHING", "", 1, "VIRTFLOW_CONFIG"),
        ("HOME", "", 1, "VIRTFLOW_CONFIG"),
        ("HOME", "/nonexistent", 3, "virtflow login"),
        ("XDG_CONFIG_HOME", "/nonexistent", 3, "virtflow login"),
        (
            "VIRTFLOW_CONFIG",
            "/nonexistent/config.toml",
            3,
            "virtflow login",
        ),
        ("VIRTFLOW_CONFIG", "/proc/self/mem", 1, "/proc/self/mem"),
        (
            "VIRTFLOW_CONFIG",
            "/dev/null/config.toml",
            1,
            "Not a directory",
        ),
        ("VIRTFLOW_CONFIG", "/tmp", 1, "/tmp"),
    ] {
        let mut command = fake.command(&["rack", "list"]);
        let command = command.env_remove("VIRTFLOW_CONFIG").env(variable, value);
        let ended = command.output().await.unwrap().into();
        check(&format!("{variable}={value}"), &ended, code, why);
    }
    // What needs no place is done without one.
    for line in [
        "--help",
        "--version",
        "completions bash",
        "explain vm",
        "role catalogue",
    ] {
        let mut command = fake.command(&words(line));
        let ended: Ended = command
            .env_remove("VIRTFLOW_CONFIG")
            .output()
            .await
            .unwrap()
            .into();
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
    }
    assert_eq!(fake.calls(), []);
}
