//! Refusals and failed logins: counted together, never written to the log one by one.

use serde_json::json;

use super::support::Rig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refusals_is_no_flood_of_log_entries() {
    let rig = Rig::start().await;
    let dave = rig.tenant_with("acme", "dave", "developer").await;
    let before = rig.app.node().image().index();
    for n in 0..150_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let from = format!("10.{a}.{b}.{c}:1");
        let forbidden = rig.ask("GET", "/verify").token(&dave).from(&from);
        assert_eq!(forbidden.send().await.error(403), "forbidden");
        let nobody = rig.ask("GET", "/vms").from(&from);
        assert_eq!(nobody.send().await.error(401), "unauthenticated");
        let login = json!({"username": format!("nobody-{n}"), "password": "a guess at random"});
        let login = rig.ask("POST", "/auth/login").json(&login).from(&from);
        assert_eq!(login.send().await.error(401), "unauthenticated");
    }
    // 450 refusals; what is written meanwhile is a summary every ten seconds, and what the loops have to do.
    let written = rig.app.node().image().index() - before;
    assert!(written < 50, "{written}");
}
