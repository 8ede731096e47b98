use std::time::Duration;

use serde_json::json;
use virtflow_controller::testing;
use virtflow_model::Kind;

use super::agents::site;
use super::player::Host;
use super::support::*;

/// Seconds that certificates live in these tests.
const LIFE_S: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_lived_certificates_are_renewed_and_a_dark_site_starts_again() {
    let all = three(|config| {
        config.certificates.controller_lifetime_s = LIFE_S;
        config.certificates.agent_lifetime_s = LIFE_S;
    })
    .await;
    let token = site(&all[0].app).await;
    let mut host = Host::enrol(&all[0], &token, "S1").await.unwrap();
    let first_serial = all[0].app.certificates().certificate().serial_hex();
    tokio::time::sleep(Duration::from_secs(LIFE_S + 1)).await;
    assert_ne!(
        all[0].app.certificates().certificate().serial_hex(),
        first_serial
    );
    // New connections, with certificates that live: writes commit, agents are served.
    let dc = create(Kind::DataCenter, "dc2", json!({"region": "r"}));
    let made = act(&leader_of(&all).await.app, dc)
        .await
        .unwrap()
        .object_id
        .unwrap();
    assert!(
        !host.is_taken(&all[1]).await,
        "an expired agent is refused at the handshake"
    );
    host.reenrol(&all[1]).await;
    assert!(host.is_taken(&all[1]).await);

    let mut dark = Vec::new();
    for controller in all {
        dark.push(controller.kill().await);
    }
    tokio::time::sleep(Duration::from_secs(LIFE_S + 1)).await;
    let mut all = Vec::new();
    for (config, dir) in dark {
        all.push(Controller::start(config, dir).await);
    }
    let leader = leader_of(&all).await;
    assert!(leader.app.node().read().await.unwrap().get(made).is_some());
    testing::wait_until_leading(&leader.app).await.unwrap();
    assert!(!host.is_taken(&all[2]).await);
    host.reenrol(&all[2]).await;
    assert!(host.is_taken(&all[2]).await);
}
