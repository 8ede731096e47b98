//! What can happen to a controller's store: a full disk, a wiped disk, a lag longer than the log, a
//! lost quorum, a backup that is all there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use virtflow_testkit::cloud::json::{list, number, text};
use virtflow_testkit::cloud::{CONTROLLER, Cloud, Hypervisor, Plan, TENANT};
use virtflow_testkit::command::{printed, run};
use virtflow_testkit::poll;
use virtflow_testkit::rig::Node;

use crate::support;

const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Size of the small disk in MiB; roomy for a young store.
const DISK_MIB: u32 = 96;

/// Leaves not a page of it.
const FILL: &str = "dd if=/dev/zero of=/var/lib/virtflow/filler bs=4k oflag=append conv=notrunc 2>/dev/null || true";

fn plan(environment: &[(&str, &str)]) -> Plan {
    Plan {
        hosts: 1,
        hypervisor: Hypervisor::Simulated,
        environment: environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..Plan::default()
    }
}

/// Makes `count` racks, by the leader, and returns their ids.
fn write_some(cloud: &Cloud, prefix: &str, count: usize) -> Result<Vec<String>> {
    let leader = cloud.leader()?;
    let address = cloud.address(&leader)?;
    (0..count)
        .map(|number| {
            let body = json!({
                "name": format!("{prefix}-{number}"),
                "spec": {"data_center": "attic"},
            });
            let answer = cloud
                .api
                .request(address, "POST", "/racks", &[], Some(&body))?;
            Ok(text(answer.data()?, "/id")?.to_owned())
        })
        .collect()
}

fn all_there(cloud: &Cloud, controller: &str, racks: &[String]) -> Result<()> {
    let address = cloud.address(controller)?;
    for id in racks {
        let answer = cloud.api.get(address, &format!("/racks/{id}"))?;
        ensure!(
            answer.http_status == 200,
            "{controller} has no rack {id}: {answer:?}"
        );
    }
    Ok(())
}

fn shell(node: &Node, script: &str) -> Result<String> {
    node.call("sh", &["-c", script])
}

/// Whether a controller says that it stops, and on the same line why, in the words of whoever met it first: the
/// log on the file system, the database, or one whose words say nothing of it, to which the controller adds what it sees.
fn names_a_full_disk(log: &str) -> bool {
    log.lines().any(|line| {
        line.contains("this controller must not go on; it stops")
            && (line.contains("No space left on device (os error 28)")
                || line.contains("database or disk is full")
                || line.contains("the disk of /var/lib/virtflow/controller/shadow is full"))
    })
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_full_disk_stops_one_controller_only() -> Result<()> {
    let (folder, mut cloud) = support::start(Plan {
        controllers: 2,
        ..plan(&[])
    })?;
    // The third has a disk of its own, a small one.
    cloud.place.add_controller("c3")?;
    shell(
        cloud.place.node("c3")?,
        &format!(
            "mkdir -p /var/lib/virtflow && mount -t tmpfs -o size={DISK_MIB}m disk /var/lib/virtflow"
        ),
    )?;
    let invite = ["invite", "create", "--role", "controller", "--name", "c3"];
    cloud
        .place
        .join("c3", &cloud.operator, &cloud.cluster, &invite)?;
    cloud.wait_voters(3)?;
    let node = cloud.place.node("c3")?;
    // What a store lets go of meanwhile (a log that was purged, a journal that was cut) is room again, in
    // which a few hundred racks may well fit: so it is filled again until the controller meets the end.
    let mut racks = Vec::new();
    poll::until("c3 to say what is wrong", Duration::from_secs(90), || {
        shell(node, FILL)?;
        racks.extend(write_some(&cloud, &format!("full{}", racks.len()), 50)?);
        let log = fs::read_to_string(cloud.place.log("c3")?)?;
        Ok(names_a_full_disk(&log).then_some(()))
    })?;
    for name in ["c1", "c2"] {
        all_there(&cloud, name, &racks)?;
        let service = cloud.place.node(name)?.service(CONTROLLER)?;
        ensure!(service.starts == 1, "{name} went down too: {service:?}");
    }
    // Whoever looks while it tries again is told what to do, whatever the database calls it.
    poll::until("c3 to ask for room", CATCH_UP_TIMEOUT, || {
        shell(node, FILL)?;
        let log = fs::read_to_string(cloud.place.log("c3")?)?;
        let asks = log.lines().any(|line| {
            line.contains("opening the store")
                && line.contains("is full")
                && line.contains("make room")
        });
        Ok(asks.then_some(()))
    })?;
    shell(node, "rm /var/lib/virtflow/filler")?;
    cloud.place.wait_ready("c3")?;
    cloud.wait_caught_up("c3", CATCH_UP_TIMEOUT)?;
    all_there(&cloud, "c3", &racks)?;
    support::end(folder, cloud)
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_member_that_lags_behind_the_log_gets_a_snapshot() -> Result<()> {
    let (folder, mut cloud) = support::start(plan(&[
        ("VIRTFLOW_CONTROLLER_RAFT_SNAPSHOT_ENTRIES", "100"),
        ("VIRTFLOW_CONTROLLER_RAFT_LOG_KEEP_ENTRIES", "20"),
    ]))?;
    let behind = cloud.followers()?.remove(0);
    cloud.place.stop(&behind)?;
    let mut racks = write_some(&cloud, "a", 150)?;
    // The leader has forgotten what the one that is away would need.
    let leader = cloud.leader()?;
    poll::until("the log to be purged", Duration::from_secs(30), || {
        racks.extend(write_some(&cloud, &format!("b{}", racks.len()), 20)?);
        let status = cloud.place.status(&leader)?;
        Ok((number(&status, "/purged_index")? > 100).then_some(()))
    })?;
    cloud.place.start(&behind)?;
    cloud.wait_caught_up(&behind, CATCH_UP_TIMEOUT)?;
    all_there(&cloud, &behind, &racks)?;
    let verdict = virtflow_testkit::cloud::shadow::verify(&cloud.place.copy_of_shadow(&behind)?)?;
    ensure!(verdict.sound, "{}", verdict.text);

    // A new member starts from a snapshot as well; it learns first, votes when told, and goes.
    cloud.add_controller("c4", &[])?;
    cloud.wait_voters(4)?;
    cloud.wait_caught_up("c4", CATCH_UP_TIMEOUT)?;
    all_there(&cloud, "c4", &racks)?;
    cloud.operator.json(&["controller", "remove", "c4"])?;
    cloud.wait_voters(3)?;
    // Leadership moves when asked to, without anybody going down.
    cloud.operator.json(&["controller", "hand-over"])?;
    poll::until("another leader", Duration::from_secs(10), || {
        Ok((cloud.leader()? != leader).then_some(()))
    })?;
    write_some(&cloud, "c", 5)?;
    for name in cloud.place.controllers() {
        let service = cloud.place.node(&name)?.service(CONTROLLER)?;
        let starts = if name == behind { 2 } else { 1 };
        ensure!(service.starts == starts, "{name} went down: {service:?}");
    }
    support::end(folder, cloud)
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn a_wiped_member_is_not_taken_for_the_old_one() -> Result<()> {
    let (folder, cloud) = support::start(Plan {
        restart_pause: None,
        ..plan(&[])
    })?;
    let wiped = cloud.followers()?.remove(0);
    let racks = write_some(&cloud, "kept", 10)?;
    cloud.place.stop(&wiped)?;
    let store = cloud.place.store(&wiped)?;
    // Its log is gone, its name and certificate are not.
    fs::remove_dir_all(store.join("raft"))?;
    let refused = run(&mut cloud.place.command(&wiped, &["run"])?)?;
    ensure!(
        !refused.status.success(),
        "{wiped} started without its log: {}",
        printed(&refused)
    );
    println!("{wiped} without its log says: {}", printed(&refused));
    // With everything gone it is no member at all, and says how to become one.
    fs::remove_dir_all(&store)?;
    let empty = run(&mut cloud.place.command(&wiped, &["run"])?)?;
    ensure!(
        !empty.status.success() && printed(&empty).contains("join"),
        "{wiped} without a store: {}",
        printed(&empty)
    );
    // The way back: the old member is removed, the machine joins as a new one.
    cloud.operator.json(&["controller", "remove", &wiped])?;
    let invite = ["invite", "create", "--role", "controller", "--name", &wiped];
    cloud
        .place
        .join(&wiped, &cloud.operator, &cloud.cluster, &invite)?;
    cloud.wait_voters(3)?;
    cloud.wait_caught_up(&wiped, CATCH_UP_TIMEOUT)?;
    all_there(&cloud, &wiped, &racks)?;
    support::end(folder, cloud)
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn the_sole_survivor_and_the_backup_go_on() -> Result<()> {
    let (folder, mut cloud) = support::start(plan(&[]))?;
    let backed_up = write_some(&cloud, "early", 10)?;
    let backup = folder.path().join("backup");
    let leader = cloud.leader()?;
    cloud
        .place
        .run(&leader, &["backup", "--out", &backup.to_string_lossy()])?;
    let late = write_some(&cloud, "late", 10)?;
    beside_the_running_cluster(&mut cloud, &backup, &backed_up, &late)?;

    let survivor = cloud.followers()?.remove(0);
    cloud.wait_caught_up(&survivor, CATCH_UP_TIMEOUT)?;
    let before = text(&cloud.place.status(&survivor)?, "/incarnation")?.to_owned();
    for name in cloud.place.controllers() {
        cloud.place.stop(&name)?;
    }
    // Two of three are lost for good.
    cloud
        .place
        .run(&survivor, &["recover", "--sole-survivor", "--yes"])?;
    cloud.place.start(&survivor)?;
    cloud.place.wait_ready(&survivor)?;
    all_there(&cloud, &survivor, &backed_up)?;
    all_there(&cloud, &survivor, &late)?;
    let after = text(&cloud.place.status(&survivor)?, "/incarnation")?.to_owned();
    ensure!(after != before, "the incarnation is still {before}");
    cloud.wait_liveness("h1", "online")?;
    write_by(&cloud, &survivor, "recovered")?;
    cloud.place.stop(&survivor)?;

    // Nothing is left but the backup and the seal key.
    let node = cloud.place.node(&leader)?;
    fs::remove_dir_all(cloud.place.store(&leader)?)?;
    cloud
        .place
        .run(&leader, &["restore", "--from", &backup.to_string_lossy()])?;
    cloud.place.start(&leader)?;
    cloud.place.wait_ready(&leader)?;
    all_there(&cloud, &leader, &backed_up)?;
    let lost = cloud
        .api
        .get(node.address(), &format!("/racks/{}", late[0]))?;
    ensure!(
        lost.http_status == 404,
        "what is younger than the backup is there: {lost:?}"
    );
    write_by(&cloud, &leader, "restored")?;
    let tenants = cloud.api.get(node.address(), "/tenants")?;
    ensure!(
        list(tenants.data()?)?.iter().any(|t| t["name"] == TENANT),
        "{}",
        tenants.body
    );
    support::end(folder, cloud)
}

/// A backup that is brought to life while the original runs is another life: neither disturbs the
/// other.
fn beside_the_running_cluster(
    cloud: &mut Cloud,
    backup: &Path,
    backed_up: &[String],
    late: &[String],
) -> Result<()> {
    cloud.place.add_controller("c4")?;
    let key = |name: &str| -> Result<PathBuf> {
        Ok(cloud.place.node(name)?.directory().join("etc/seal.key"))
    };
    // The copy keeps its mode: a key that others may read is refused.
    fs::copy(key("c1")?, key("c4")?)?;
    cloud
        .place
        .run("c4", &["restore", "--from", &backup.to_string_lossy()])?;
    cloud.place.start("c4")?;
    cloud.place.wait_ready("c4")?;
    all_there(cloud, "c4", backed_up)?;
    let newer = cloud
        .api
        .get(cloud.address("c4")?, &format!("/racks/{}", late[0]))?;
    ensure!(newer.http_status == 404, "{newer:?}");
    write_by(cloud, "c4", "only-in-the-restored")?;

    let leader = cloud.leader()?;
    write_by(cloud, &leader, "only-in-the-original")?;
    cloud.wait_liveness("h1", "online")?;
    cloud.wait_voters(3)?;
    for name in cloud.place.controllers() {
        cloud.wait_caught_up(&name, CATCH_UP_TIMEOUT)?;
        all_there(cloud, &name, late)?;
        let racks = cloud.api.get(cloud.address(&name)?, "/racks")?;
        ensure!(
            !racks.body.to_string().contains("only-in-the-restored"),
            "{name} took something from the other life"
        );
    }
    let (here, there) = (cloud.place.status("c1")?, cloud.place.status("c4")?);
    ensure!(
        here["cluster_id"] == there["cluster_id"] && here["incarnation"] != there["incarnation"],
        "{here} {there}"
    );
    ensure!(
        there["members"].as_array().map(Vec::len) == Some(1),
        "{there}"
    );
    cloud.place.stop("c4")
}

fn write_by(cloud: &Cloud, controller: &str, name: &str) -> Result<()> {
    let body = json!({"name": name, "spec": {"data_center": "attic"}});
    let address = cloud.address(controller)?;
    let answer = cloud
        .api
        .request(address, "POST", "/racks", &[], Some(&body))?;
    answer.data()?;
    Ok(())
}
