//! Ctrl-C and SIGTERM wherever a command may be: how it ends, what it says of what is done and what is not known, and
//! what it leaves of terminal and files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Child;

use crate::cloud::{Cloud, Ended};
use crate::fake::{End, Fake, Reply, TOKEN, ok, refused};

/// Each signal, with the exit code and the word that go with it.
const SIGNALS: [(Signal, i32, &str); 2] = [
    (Signal::INT, 130, "interrupted"),
    (Signal::TERM, 143, "terminated"),
];

fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

async fn end(child: Child) -> Ended {
    let ended: Ended = child.wait_with_output().await.unwrap().into();
    assert!(!ended.err.contains("panicked"), "{ended:?}");
    assert!(!ended.err.contains(TOKEN), "{ended:?}");
    ended
}

fn object(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "id": format!("id-of-{name}"), "name": name, "generation": 1, "spec": {}})
}

/// What was started with `--wait`.
fn begun() -> Value {
    json!({
        "object": object("virtual_machine", "web-1"),
        "operation": operation("running"),
    })
}

fn operation(state: &str) -> Value {
    json!({
        "id": "o-1",
        "kind": "operation",
        "spec": {"verb": "create", "target_kind": "virtual_machine", "target_name": "web-1", "target_id": "v-1"},
        "status": {"state": state},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_connects_nothing_was_sent() {
    for (signal, code, word) in SIGNALS {
        for line in [
            &["rack", "list"][..],
            &["rack", "create", "r1"],
            &["vm", "create", "web-1", "--wait"],
        ] {
            // It takes connections, and says nothing.
            let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = silent.local_addr().unwrap().port();
            let mut fake = Fake::start(|_| Reply::Never).await;
            fake.endpoint = format!("https://127.0.0.1:{port}");
            fake.context(&format!("token = \"{TOKEN}\""));
            let child = fake.command(line).spawn().unwrap();
            let _connection = silent.accept().await.unwrap();
            send(&child, signal);
            let ended = end(child).await;
            assert_eq!(ended.code, code, "{line:?}: {ended:?}");
            assert_eq!(
                ended.err,
                format!("error: {word}: nothing was changed\n"),
                "{line:?}"
            );
            assert_eq!(ended.out, "");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_waits_for_its_answer_changed_nothing() {
    for (signal, code, word) in SIGNALS {
        for (line, method, path) in [
            (&["rack", "list"][..], "GET", "/racks"),
            (&["vm", "get", "web-1"], "GET", "/virtual_machines/web-1"),
            (&["status"], "GET", "/status"),
            (&["can-i", "rack.read"], "POST", "/auth/can-i"),
            (&["rack", "create", "r1", "--dry-run"], "POST", "/racks"),
        ] {
            let mut fake = Fake::start(|_| Reply::Never).await;
            let child = fake.command(line).spawn().unwrap();
            fake.next(method, path).await;
            send(&child, signal);
            let ended = end(child).await;
            assert_eq!(ended.code, code, "{line:?}: {ended:?}");
            assert_eq!(
                ended.err,
                format!("error: {word}: nothing was changed\n"),
                "{line:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waits_for_its_answer_is_not_known() {
    for (signal, code, word) in SIGNALS {
        for line in [
            &["rack", "create", "r1"][..],
            &["rack", "update", "r1", "--as-number", "7"],
            &["rack", "delete", "r1"],
            &["rack", "delete", "r1", "r2"],
            &["vm", "stop", "web-1"],
            &["host", "cordon", "h1"],
            &["operation", "cancel", "o-1"],
            &["controller", "hand-over"],
            &["controller", "promote", "c1"],
            &["token", "create", "ci"],
        ] {
            let mut fake = Fake::start(|_| Reply::Never).await;
            let child = fake.command(line).spawn().unwrap();
            let seen = fake.next_any().await;
            send(&child, signal);
            let ended = end(child).await;
            let key = seen.key.unwrap();
            let path = format!("/api/v1{}", seen.target.split('?').next().unwrap());
            assert_eq!(ended.code, code, "{line:?}: {ended:?}");
            assert_eq!(
                ended.err,
                format!(
                    "error: {word}: the request was sent, and may or may not have been carried out\n  \
                     not known: {} {path}\n  \
                     look whether it happened, or repeat the same command with `--idempotency-key {key}`: it is carried out once\n",
                    seen.method
                ),
                "{line:?}"
            );
            // The advice is one that the command takes.
            let mut again = line.to_vec();
            again.extend(["--idempotency-key", &key]);
            let mut child = fake.command(&again).spawn().unwrap();
            assert_eq!(fake.next_any().await.key, Some(key), "{line:?}");
            child.kill().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_as_json() {
    let mut fake = Fake::start(|_| Reply::Never).await;
    let line = [
        "rack",
        "create",
        "r1",
        "-o",
        "json",
        "--idempotency-key",
        "k-1",
    ];
    let child = fake.command(&line).spawn().unwrap();
    fake.next("POST", "/racks").await;
    send(&child, Signal::INT);
    let ended = end(child).await;
    let told: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(told["code"], "interrupted");
    assert_eq!(told["exit_code"], 130);
    assert_eq!(told["details"]["unknown"], json!(["POST /api/v1/racks"]));
    assert_eq!(told["details"]["done"], json!([]));
    assert_eq!(told["details"]["idempotency_key"], "k-1");
}

/// What was sent when Ctrl-C came is done once, also if the command is repeated with the key that was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_with_the_key_is_safe() {
    let cloud = Cloud::start().await;
    let line = [
        "rack",
        "create",
        "r1",
        "--idempotency-key",
        "k-1",
        "-o",
        "json",
    ];
    let first: Value = serde_json::from_str(&cloud.run(&line).await.good()).unwrap();
    let again: Value = serde_json::from_str(&cloud.run(&line).await.good()).unwrap();
    assert_eq!(first["id"], again["id"]);
    assert_eq!(
        cloud
            .json(&["rack", "list"])
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    cloud.run(&["rack", "create", "r1"]).await.bad(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_watch_it_ends_without_a_word() {
    for (signal, code, _) in SIGNALS {
        for form in ["table", "json", "yaml"] {
            let event = format!(
                "event: added\ndata: {}\n\nevent: bookmark\nid: 7\ndata: {{}}\n\n",
                object("rack", "r1")
            );
            let fake = Fake::start(move |_| {
                let pieces = vec![Bytes::from(event.clone())];
                Reply::Bytes(200, "text/event-stream", pieces, End::Never)
            })
            .await;
            let mut child = fake
                .command(&["rack", "list", "--watch", "-o", form])
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            lines.next_line().await.unwrap().unwrap();
            send(&child, signal);
            let ended = end(child).await;
            assert_eq!((ended.code, ended.err.as_str()), (code, ""), "{form}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_console_ends_without_a_word() {
    for (signal, code, _) in SIGNALS {
        let fake = Fake::start(|_| ok(json!({"data": "login: ", "total_bytes": 7}))).await;
        let mut child = fake
            .command(&["vm", "console", "web-1", "--log", "--follow"])
            .spawn()
            .unwrap();
        let mut text = [0; 7];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut text).await.unwrap();
        send(&child, signal);
        let ended = end(child).await;
        assert_eq!((ended.code, ended.err.as_str()), (code, ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_wait_the_operation_is_named_and_goes_on() {
    for (signal, code, word) in SIGNALS {
        let mut fake = Fake::start(|seen| match seen.method.as_str() {
            "POST" => ok(begun()),
            _ => Reply::Never,
        })
        .await;
        let child = fake
            .command(&["vm", "create", "web-1", "--wait"])
            .spawn()
            .unwrap();
        fake.next("GET", "/operations/o-1").await;
        send(&child, signal);
        let ended = end(child).await;
        assert_eq!(ended.code, code, "{ended:?}");
        for part in [
            &format!("error: {word}: stopped waiting; operation o-1 goes on\n")[..],
            "done: POST /api/v1/virtual_machines, virtual_machine web-1, operation o-1\n",
            "`virtflow operation get o-1`",
            "`virtflow operation wait o-1`",
            "`virtflow operation cancel o-1`",
        ] {
            let err = ended.err.replace("/vms,", "/virtual_machines,");
            assert!(err.contains(part), "{part}: {}", ended.err);
        }
        // An operation that was begun before.
        let mut fake = Fake::start(|seen| match seen.target.contains("wait=") {
            true => Reply::Never,
            false => ok(operation("running")),
        })
        .await;
        let child = fake.command(&["operation", "wait", "o-1"]).spawn().unwrap();
        loop {
            if fake
                .next("GET", "/operations/o-1")
                .await
                .target
                .contains("wait=")
            {
                break;
            }
        }
        send(&child, signal);
        let ended = end(child).await;
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(
            ended.err.contains("stopped waiting; operation o-1 goes on"),
            "{ended:?}"
        );
    }
}

const RACKS: &str = "kind: rack\nname: r1\n---\nkind: rack\nname: r2\n---\nkind: rack\nname: r3\n";

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_an_apply_what_is_done_and_what_is_open_are_told_apart() {
    for (signal, code, word) in SIGNALS {
        for form in ["table", "json"] {
            let posts = std::sync::atomic::AtomicUsize::new(0);
            let mut fake = Fake::start(move |seen| match seen.method.as_str() {
                "POST" if posts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
                    ok(object("rack", "r1"))
                }
                "POST" => Reply::Never,
                _ => ok(json!([])),
            })
            .await;
            let file = fake.write("racks.yaml", RACKS);
            let child = fake
                .command(&["apply", "-f", &file, "-o", form])
                .spawn()
                .unwrap();
            fake.next("POST", "/racks").await;
            fake.next("POST", "/racks").await;
            send(&child, signal);
            let ended = end(child).await;
            assert_eq!(ended.code, code, "{ended:?}");
            if form == "json" {
                let told: Value = serde_json::from_str(&ended.err).unwrap();
                assert_eq!(told["details"]["done"][0]["object"], "rack r1");
                assert_eq!(told["details"]["unknown"], json!(["POST /api/v1/racks"]));
                continue;
            }
            assert_eq!(ended.out, "rack r1 created\n");
            assert_eq!(
                ended.err,
                format!(
                    "error: {word}: the request was sent, and may or may not have been carried out\n  \
                     done: POST /api/v1/racks, rack r1\n  \
                     not known: POST /api/v1/racks\n  \
                     repeat the command: what is done already is left as it is\n"
                )
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_was_interrupted_is_repeated_safely() {
    let cloud = Cloud::start().await;
    let file = cloud.write("racks.yaml", RACKS);
    let first = cloud
        .run(&[
            "apply",
            "-f",
            &cloud.write("one.yaml", "kind: rack\nname: r1\n"),
        ])
        .await;
    first.good();
    let said = cloud.run(&["apply", "-f", &file]).await.good();
    assert!(said.contains("2 created, 0 changed, 1 unchanged"), "{said}");
}

/// Neither a file that does not come to its end nor standard input that is not closed is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn while_it_reads_what_does_not_end() {
    for (signal, code, word) in SIGNALS {
        for named in ["-", "pipe"] {
            let fake = Fake::start(|_| Reply::Never).await;
            let pipe = fake.folder.path().join("pipe");
            rustix::fs::mkfifoat(
                rustix::fs::CWD,
                &pipe,
                rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            )
            .unwrap();
            let mut child = fake
                .command(&["apply", "-f", named])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            // Waiting for the program would close it.
            let mut stdin = child.stdin.take().unwrap();
            let mut writer = match named {
                // Opened once it is read.
                "pipe" => tokio::task::spawn_blocking(move || {
                    let file = fs::File::options().write(true).open(pipe).unwrap();
                    tokio::fs::File::from_std(file)
                })
                .await
                .map(Some)
                .unwrap(),
                _ => {
                    stdin.write_all(b"kind: rack\n").await.unwrap();
                    // A second one more than the pipe holds is taken only by who reads.
                    stdin
                        .write_all("# \n".repeat(50_000).as_bytes())
                        .await
                        .unwrap();
                    None
                }
            };
            if let Some(writer) = &mut writer {
                writer.write_all(b"kind: rack\n").await.unwrap();
            }
            send(&child, signal);
            let status = child.wait().await.unwrap();
            let mut told = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut told)
                .await
                .unwrap();
            assert_eq!(status.code(), Some(code), "{named}: {told}");
            assert_eq!(
                told,
                format!("error: {word}: nothing was changed\n"),
                "{named}"
            );
            assert!(fake.calls().is_empty());
        }
    }
}

/// On a terminal: `steps` is run by a shell there, which tells in files how it was before and after.
async fn on_a_terminal(fake: &Fake, steps: &str) -> Child {
    let script = format!(
        "trap : INT; stty -a > before; echo ready; {steps}; echo $? > code; stty -a > after; echo over",
    );
    let path = fake.write("steps.sh", &script);
    tokio::process::Command::new("script")
        .args(["-q", "-e", "-c", &format!("sh {path}"), "/dev/null"])
        .current_dir(fake.folder.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("SHELL", "/bin/sh")
        .env("VIRTFLOW", env!("CARGO_BIN_EXE_virtflow"))
        .env("VIRTFLOW_CONFIG", fake.folder.path().join("config.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Reads until the text has come.
async fn until(out: &mut (impl AsyncReadExt + Unpin), seen: &mut String, text: &str) {
    while !seen.contains(text) {
        let mut piece = [0; 1024];
        let n = out.read(&mut piece).await.unwrap();
        assert!(n > 0, "it ended without {text}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
}

const LOGIN: &str = r#""$VIRTFLOW" login --endpoint "$ENDPOINT" --ca ca.pem --user ada"#;

/// How a question on a terminal is ended, by keys or by a signal, with the exit code and what is said.
type Way = (
    &'static str,
    &'static [u8],
    Option<Signal>,
    i32,
    &'static str,
);

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_asked_for_leaves_the_terminal_as_it_was() {
    let ways: [Way; 6] = [
        (
            "Ctrl-C",
            b"\x03",
            None,
            130,
            "interrupted: nothing was changed",
        ),
        (
            "Ctrl-C after some keys",
            b"hush\x03",
            None,
            130,
            "interrupted: nothing was changed",
        ),
        ("Ctrl-D", b"\x04", None, 1, "cannot read from the terminal"),
        ("an empty line", b"\n", None, 2, "the password is empty"),
        (
            "SIGINT",
            b"",
            Some(Signal::INT),
            130,
            "interrupted: nothing was changed",
        ),
        (
            "SIGTERM",
            b"",
            Some(Signal::TERM),
            143,
            "terminated: nothing was changed",
        ),
    ];
    for (way, keys, signal, code, why) in ways {
        let fake = Fake::start(|_| Reply::Never).await;
        fake.write("ca.pem", &fake.ca);
        let steps = format!(
            "ENDPOINT={} ; sh -c 'echo $$ > pid; exec {}'",
            fake.endpoint,
            LOGIN.replace("\"$ENDPOINT\"", &fake.endpoint)
        );
        let mut child = on_a_terminal(&fake, &steps).await;
        let (mut keyboard, mut screen) =
            (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = String::new();
        until(&mut screen, &mut seen, "Password of ada: ").await;
        keyboard.write_all(keys).await.unwrap();
        if let Some(signal) = signal {
            let id = fs::read_to_string(fake.folder.path().join("pid")).unwrap();
            kill_process(Pid::from_raw(id.trim().parse().unwrap()).unwrap(), signal).unwrap();
        }
        until(&mut screen, &mut seen, "over").await;
        let read = |name: &str| fs::read_to_string(fake.folder.path().join(name)).unwrap();
        assert_eq!(read("code").trim(), code.to_string(), "{way}: {seen}");
        assert!(read("before").contains(" echo "), "{}", read("before"));
        assert_eq!(read("after"), read("before"), "{way}");
        assert!(seen.contains(why), "{way}: {seen}");
        assert!(!seen.contains("hush"), "{way}: {seen}");
        drop(keyboard);
        child.wait().await.unwrap();
    }
}

/// A password is taken as it is typed, and not shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_typed_blind() {
    let fake = Fake::start(|_| refused(401, "unauthenticated")).await;
    fake.write("ca.pem", &fake.ca);
    let steps = LOGIN.replace("\"$ENDPOINT\"", &fake.endpoint);
    let mut child = on_a_terminal(&fake, &steps).await;
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = String::new();
    until(&mut screen, &mut seen, "Password of ada: ").await;
    keyboard.write_all("hush hüsh\n".as_bytes()).await.unwrap();
    until(&mut screen, &mut seen, "over").await;
    assert_eq!(fake.calls().len(), 1);
    assert!(seen.contains("unauthenticated, as the test says"), "{seen}");
    assert!(!seen.contains("hush"), "{seen}");
    let read = |name: &str| fs::read_to_string(fake.folder.path().join(name)).unwrap();
    assert_eq!(read("after"), read("before"));
    drop(keyboard);
    child.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_before_a_deletion_is_no_yes() {
    for (keys, code, why) in [
        (&b"\x03"[..], 130, "interrupted: nothing was changed"),
        (b"\x04", 1, "not confirmed"),
        (b"\n", 1, "not confirmed"),
        (b"yess\n", 1, "not confirmed"),
        (b"n\n", 1, "not confirmed"),
    ] {
        let fake = Fake::start(|_| ok(json!([object("rack", "r1")]))).await;
        let mut child = on_a_terminal(&fake, r#""$VIRTFLOW" vm delete --selector a=b"#).await;
        let (mut keyboard, mut screen) =
            (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = String::new();
        until(&mut screen, &mut seen, "[y/N] ").await;
        keyboard.write_all(keys).await.unwrap();
        until(&mut screen, &mut seen, "over").await;
        let read = |name: &str| fs::read_to_string(fake.folder.path().join(name)).unwrap();
        assert_eq!(read("code").trim(), code.to_string(), "{seen}");
        assert!(seen.contains(why), "{seen}");
        assert!(
            fake.calls().iter().all(|call| call.method == "GET"),
            "{:?}",
            fake.calls()
        );
        drop(keyboard);
        child.wait().await.unwrap();
    }
}

fn editor(fake: &Fake, text: &str) -> String {
    let path = fake.write("editor", &format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// In an editor Ctrl-C is the editor's. Whoever ends us there finds what was written.
#[tokio::test(flavor = "multi_thread")]
async fn in_an_editor_ctrl_c_is_its_own_and_a_draft_is_kept() {
    let mut fake = Fake::start(|seen| match seen.method.as_str() {
        "GET" => ok(object("rack", "r1")),
        _ => Reply::Never,
    })
    .await;
    let editor = editor(
        &fake,
        "sed -i 's/spec: {}/spec: {as_number: 7}/' \"$1\"; echo \"$1\" > draft; mkfifo go; read line < go",
    );
    let child = fake
        .command(&["rack", "edit", "r1"])
        .env("EDITOR", editor)
        .spawn()
        .unwrap();
    // The editor waits for a word; that it opened the pipe says that it is there.
    let go = fake.folder.path().join("go");
    while !go.exists() {
        tokio::task::yield_now().await;
    }
    send(&child, Signal::INT);
    fs::write(&go, "go\n").unwrap();
    fake.next("PATCH", "/racks/id-of-r1").await;
    send(&child, Signal::TERM);
    let ended = end(child).await;
    let draft = fs::read_to_string(fake.folder.path().join("draft")).unwrap();
    assert_eq!(ended.code, 143, "{ended:?}");
    assert!(
        ended
            .err
            .contains("not known: PATCH /api/v1/racks/id-of-r1"),
        "{ended:?}"
    );
    assert!(
        ended
            .err
            .contains(&format!("your text is kept in {}", draft.trim())),
        "{ended:?}"
    );
    assert!(
        fs::read_to_string(draft.trim())
            .unwrap()
            .contains("as_number: 7")
    );
}

/// A refresh token is good once: the next one is kept before the command ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_being_renewed_is_not_lost() {
    for (signal, code, _) in SIGNALS {
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let answered = std::sync::Mutex::new(answered);
        let mut fake = Fake::start(move |seen| {
            if seen.is("POST", "/auth/refresh") {
                answered.lock().unwrap().recv().unwrap();
                return ok(json!({"access_token": "access-2", "refresh_token": "refresh-2"}));
            }
            match seen.bearer.as_deref() {
                Some("Bearer access-2") => Reply::Never,
                _ => refused(401, "unauthenticated"),
            }
        })
        .await;
        fake.context(
            "[contexts.work.session]\naccess_token = \"access-1\"\nrefresh_token = \"refresh-1\"",
        );
        let child = fake.command(&["rack", "list"]).spawn().unwrap();
        fake.next("GET", "/racks").await;
        // The server has the old token, and its answer comes after the signal.
        while !fake
            .calls()
            .iter()
            .any(|call| call.is("POST", "/auth/refresh"))
        {
            tokio::task::yield_now().await;
        }
        send(&child, signal);
        answer.send(()).unwrap();
        assert_eq!(end(child).await.code, code);
        let kept = fs::read_to_string(fake.folder.path().join("config.toml")).unwrap();
        assert!(kept.contains("refresh-2"), "{kept}");
    }
}

/// What was learned is told already when the controllers are asked which there are.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_command_is_done_it_ends_as_it_ended() {
    for (signal, ..) in SIGNALS {
        for (line, answer, code) in [
            (["rack", "list"], ok(json!([])), 0),
            (["rack", "list"], refused(409, "conflict"), 5),
        ] {
            let mut fake = Fake::start(move |seen| match seen.target.as_str() {
                "/auth/whoami" => Reply::Never,
                _ => answer.clone(),
            })
            .await;
            let path = fake.folder.path().join("config.toml");
            let text = fs::read_to_string(&path).unwrap();
            let kept = text.lines().filter(|line| !line.starts_with("learned_at"));
            fs::write(&path, kept.collect::<Vec<_>>().join("\n")).unwrap();
            let child = fake.command(&line).spawn().unwrap();
            fake.next("GET", "/auth/whoami").await;
            send(&child, signal);
            let ended = end(child).await;
            assert_eq!(ended.code, code, "{ended:?}");
            assert_eq!(ended.err.is_empty(), code == 0, "{ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_whole_is_taken_away() {
    for (signal, code, _) in SIGNALS {
        let mut fake = Fake::start(|_| Reply::Never).await;
        let child = fake
            .command(&["support-bundle", "--out", "bundle.tar.gz"])
            .spawn()
            .unwrap();
        fake.next("GET", "/status").await;
        let path = fake.folder.path().join("bundle.tar.gz");
        assert!(path.exists());
        send(&child, signal);
        assert_eq!(end(child).await.code, code);
        assert!(!path.exists());
    }
}

/// A shell's background job, or `nohup`, is not to hear the signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_is_ignored_stays_so() {
    let mut fake = Fake::start(|_| Reply::Never).await;
    let mut shell = tokio::process::Command::new("sh");
    let child = shell
        .args([
            "-c",
            "trap '' INT; exec \"$0\" rack create r1",
            env!("CARGO_BIN_EXE_virtflow"),
        ])
        .env_clear()
        .env("VIRTFLOW_CONFIG", fake.folder.path().join("config.toml"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    fake.next("POST", "/racks").await;
    send(&child, Signal::INT);
    send(&child, Signal::TERM);
    let ended = end(child).await;
    assert_eq!(ended.code, 143, "{ended:?}");
    assert!(ended.err.starts_with("error: terminated: "), "{ended:?}");
}
