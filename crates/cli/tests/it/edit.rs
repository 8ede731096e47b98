//! `edit` with editors that are scripts.

use crate::cloud::{Cloud, Ended};

async fn edit(cloud: &Cloud, editor: &std::path::Path) -> Ended {
    let mut command = cloud.command(&["rack", "edit", "r1"]);
    command.env("EDITOR", editor);
    command.output().await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_made_so_and_nothing_else() {
    let cloud = Cloud::start().await;
    cloud
        .run(&[
            "rack",
            "create",
            "r1",
            "--as-number",
            "1",
            "--bgp-number",
            "5",
        ])
        .await
        .good();
    let editor = cloud.script(
        "change",
        "sed -i -e 's/as_number: 1/as_number: 2/' -e '/bgp_number/d' \"$1\"",
    );
    let ended = edit(&cloud, &editor).await;
    assert!(
        ended.err.contains("~ as_number: 1 -> 2") && ended.err.contains("- bgp_number: 5"),
        "{ended:?}"
    );
    assert_eq!(ended.good(), "rack r1 changed\n");
    let rack = cloud.json(&["rack", "get", "r1"]).await;
    assert_eq!(
        (&rack["spec"]["as_number"], &rack["spec"]["bgp_number"]),
        (&2.into(), &serde_json::Value::Null)
    );
    let ended = edit(&cloud, &cloud.script("nothing", ":")).await;
    assert!(ended.err.contains("rack r1 unchanged"), "{ended:?}");
    ended.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_on_top_and_the_text_is_not_lost() {
    let cloud = Cloud::start().await;
    cloud
        .run(&["rack", "create", "r1", "--as-number", "1"])
        .await
        .good();
    // First a mistake, then, with the reason before its eyes, what was meant.
    let seen = cloud.path("seen");
    let editor = cloud.script(
        "mend",
        &format!("if grep -q 'no field' \"$1\"; then cp \"$1\" {seen}; sed -i 's/colour: red/as_number: 3/' \"$1\"; else sed -i 's/as_number: 1/colour: red/' \"$1\"; fi"),
    );
    assert_eq!(edit(&cloud, &editor).await.good(), "rack r1 changed\n");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(
        seen.starts_with("#| error: ") && seen.contains("there is no field `colour`"),
        "{seen}"
    );
    assert!(seen.contains("colour: red"), "{seen}");

    // Who leaves the mistake in gives up: the place of the text is told, and it is there.
    let editor = cloud.script(
        "err",
        "grep -q colour \"$1\" || sed -i 's/as_number: 3/colour: red/' \"$1\"",
    );
    let said = edit(&cloud, &editor).await.bad(2);
    let kept = said
        .split("your text is kept in ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    assert!(
        std::fs::read_to_string(kept)
            .unwrap()
            .contains("colour: red")
    );
    let said = edit(&cloud, &cloud.script("fails", "exit 3")).await.bad(1);
    assert!(
        said.contains("the editor") && !said.contains("kept in"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_meanwhile_is_shown_and_kept() {
    let cloud = Cloud::start().await;
    cloud
        .run(&["rack", "create", "r1", "--as-number", "1"])
        .await
        .good();
    let virtflow = env!("CARGO_BIN_EXE_virtflow");
    let seen = cloud.path("seen");
    let editor = cloud.script(
        "slow",
        &format!("if grep -q meanwhile \"$1\"; then cp \"$1\" {seen}; touch \"$1\"; else {virtflow} rack update r1 --bgp-number 9 >/dev/null; sed -i 's/as_number: 1/as_number: 2/' \"$1\"; fi"),
    );
    assert_eq!(edit(&cloud, &editor).await.good(), "rack r1 changed\n");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(
        seen.contains("admin changed rack r1 meanwhile") && seen.contains("+ bgp_number: 9"),
        "{seen}"
    );
    let rack = cloud.json(&["rack", "get", "r1"]).await;
    assert_eq!(
        (&rack["spec"]["as_number"], &rack["spec"]["bgp_number"]),
        (&2.into(), &9.into())
    );
}
