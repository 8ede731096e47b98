//! What the tests on a whole cluster share.

use std::fs;
use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;
use virtflow_testkit::cloud::{Cloud, Plan};

/// Where the guest image is kept between runs.
pub(crate) const IMAGE_FOLDER: &str = "/var/tmp/virtflow-guest-image";

/// A cluster after `plan` in a folder of its own, which must outlive it. After a failure the folder
/// stays, for its logs.
pub(crate) fn start(plan: Plan) -> Result<(TempDir, Cloud)> {
    let mut folder = tempfile::Builder::new()
        .prefix("vf-")
        .tempdir_in("/var/tmp")?;
    folder.disable_cleanup(true);
    let cloud = Cloud::start(folder.path(), Path::new(IMAGE_FOLDER), plan)?;
    Ok((folder, cloud))
}

/// The agent of a host is started again with nothing of what it kept but who it is.
pub(crate) fn restart_forgetful(cloud: &Cloud, host: &str) -> Result<()> {
    cloud.place.stop(host)?;
    let kept = cloud
        .place
        .node(host)?
        .directory()
        .join("var/lib/virtflow/agent");
    for entry in fs::read_dir(kept)? {
        let path = entry?.path();
        if path.is_file() {
            fs::remove_file(&path)?;
        }
    }
    cloud.place.start(host)
}

/// Ends a cluster whose test has passed, and removes its files.
pub(crate) fn end(mut folder: TempDir, cloud: Cloud) -> Result<()> {
    cloud.end()?;
    folder.disable_cleanup(false);
    folder.close()?;
    Ok(())
}
