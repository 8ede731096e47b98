//! Certificates that live for seconds: they are renewed under way, and a site that was dark until
//! all of them had expired starts again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use virtflow_testkit::cloud::{AGENT, CONTROLLER, Cloud, Hypervisor, Plan};

use crate::support;

/// Lives of all certificates.
const LIFETIME: Duration = Duration::from_secs(12);

fn plan() -> Plan {
    let seconds = LIFETIME.as_secs().to_string();
    Plan {
        hosts: 1,
        hypervisor: Hypervisor::Simulated,
        environment: ["AGENT", "CONTROLLER"]
            .map(|whose| {
                (
                    format!("VIRTFLOW_CONTROLLER_CERTIFICATES_{whose}_LIFETIME_S"),
                    seconds.clone(),
                )
            })
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        ..Plan::default()
    }
}

fn works(cloud: &Cloud, vm: &str) -> Result<()> {
    cloud.wait_liveness("h1", "online")?;
    let id = cloud.create_vm(vm)?;
    let leader = cloud.leader()?;
    cloud.wait_phase(cloud.address(&leader)?, &id, "running")?;
    for name in cloud.place.controllers() {
        cloud.wait_caught_up(&name, Duration::from_secs(20))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root; run by `cargo xtask ci`"]
fn certificates_are_renewed_and_a_dark_site_comes_back() -> Result<()> {
    let (folder, cloud) = support::start(plan())?;
    works(&cloud, "before")?;
    // Twice a life: whoever was not renewed is shut out by then.
    let start = Instant::now();
    while start.elapsed() < LIFETIME * 2 {
        std::thread::sleep(Duration::from_secs(1));
        cloud.wait_liveness("h1", "online")?;
    }
    works(&cloud, "renewed")?;
    for name in cloud.place.controllers() {
        let service = cloud.place.node(&name)?.service(CONTROLLER)?;
        ensure!(service.starts == 1, "{name} went down: {service:?}");
    }
    ensure!(cloud.place.node("h1")?.service(AGENT)?.starts == 1);

    for name in cloud.place.hosts().iter().chain(&cloud.place.controllers()) {
        cloud.place.stop(name)?;
    }
    std::thread::sleep(LIFETIME + Duration::from_secs(3));
    for name in cloud.place.controllers() {
        cloud.place.start(&name)?;
    }
    for name in cloud.place.controllers() {
        cloud.place.wait_ready(&name)?;
    }
    cloud.place.start("h1")?;
    works(&cloud, "after")?;
    support::end(folder, cloud)
}
