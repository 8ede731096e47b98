//! What a shell is offered while somebody types, on a real API.

use crate::cloud::Cloud;

/// What bash is offered for the last of these words.
async fn offered(cloud: &Cloud, words: &[&str]) -> Vec<String> {
    let mut command = cloud.command(&["--"]);
    let last = (words.len() - 1).to_string();
    command
        .args(words)
        .env("VIRTFLOW_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", last)
        .env("_CLAP_IFS", "\n");
    let ended = command.output().await.unwrap();
    assert!(
        ended.status.success() && ended.stderr.is_empty(),
        "{ended:?}"
    );
    let text = String::from_utf8(ended.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_offered_the_names_that_are_there_and_silence_where_none_can_be_had() {
    let cloud = Cloud::start().await;
    cloud
        .run(&["data-center", "create", "north", "--region", "r"])
        .await
        .good();
    for rack in ["a1", "a2", "b1"] {
        let line = ["rack", "create", rack, "--data-center", "north"];
        cloud.run(&line).await.good();
    }
    let names = offered(&cloud, &["virtflow", "rack", "get", "a"]).await;
    assert_eq!(names, ["a1", "a2"]);
    let names = offered(&cloud, &["virtflow", "rack", "delete", "a1", "b"]).await;
    assert_eq!(names, ["b1"]);
    let line = ["virtflow", "rack", "list", "--data-center", "n"];
    assert_eq!(offered(&cloud, &line).await, ["north"]);
    assert!(
        offered(&cloud, &["virtflow", "rack", "create", "a"])
            .await
            .is_empty()
    );
    let commands = offered(&cloud, &["virtflow", "rack", "ge"]).await;
    assert_eq!(commands, ["get"]);
    let line = ["virtflow", "--context", "unknown", "rack", "get", "a"];
    assert!(offered(&cloud, &line).await.is_empty());
    let script = cloud.run(&["completions", "bash", "--names"]).await.good();
    assert!(script.contains("VIRTFLOW_COMPLETE=\"bash\""), "{script}");
}
