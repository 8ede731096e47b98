//! `--watch` on a real API.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::cloud::Cloud;

struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(cloud: &Cloud, arguments: &[&str]) -> Self {
        let mut child = cloud
            .command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap()
    }

    async fn event(&mut self) -> (String, String) {
        let told: Value = serde_json::from_str(&self.line().await).unwrap();
        let text = |pointer: &str| told.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (text("/event"), text("/object/name"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_as_things_happen_until_ctrl_c() {
    let cloud = Cloud::start().await;
    cloud.run(&["rack", "create", "r1"]).await.good();
    let mut table = Watching::start(&cloud, &["rack", "list", "--watch"]);
    assert!(table.line().await.starts_with("EVENT  NAME  "));
    assert!(table.line().await.starts_with("added  r1    -"));
    let mut json = Watching::start(&cloud, &["rack", "list", "-w", "-o", "json"]);
    assert_eq!(json.event().await, ("added".into(), "r1".into()));
    cloud.run(&["rack", "create", "r2"]).await.good();
    cloud
        .run(&["rack", "update", "r1", "--as-number", "7"])
        .await
        .good();
    cloud.run(&["rack", "delete", "r2"]).await.good();
    for (event, name) in [("added", "r2"), ("changed", "r1"), ("removed", "r2")] {
        assert_eq!(json.event().await, (event.into(), name.into()));
        let line = table.line().await;
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        assert_eq!(words, [event, name]);
    }
    let pid = table.child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
    assert_eq!(table.child.wait().await.unwrap().code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_watched_until_it_is_gone_or_the_time_is_over() {
    let cloud = Cloud::start().await;
    cloud.run(&["rack", "create", "r1"]).await.good();
    cloud.run(&["rack", "create", "r2"]).await.good();
    let ended = cloud
        .run(&[
            "rack",
            "get",
            "r1",
            "--watch",
            "--timeout",
            "1s",
            "-o",
            "json",
        ])
        .await;
    assert!(ended.good().contains("\"r1\""));
    let mut one = Watching::start(&cloud, &["rack", "get", "r1", "--watch", "-o", "json"]);
    assert_eq!(one.event().await, ("added".into(), "r1".into()));
    cloud.run(&["rack", "delete", "r2"]).await.good();
    cloud.run(&["rack", "delete", "r1"]).await.good();
    assert_eq!(one.event().await, ("removed".into(), "r1".into()));
    assert_eq!(one.child.wait().await.unwrap().code(), Some(0));
    let said = cloud.run(&["rack", "list", "--timeout", "1s"]).await.bad(2);
    assert!(said.contains("--watch"), "{said}");
    let said = cloud
        .run(&["rack", "list", "--watch", "--limit", "5"])
        .await
        .bad(2);
    assert!(said.contains("--limit"), "{said}");
}
