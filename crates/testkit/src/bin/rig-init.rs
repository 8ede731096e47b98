//! Process 1 of a node of the rig; see `virtflow_testkit::rig`.

use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let layout = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: virtflow-rig-init LAYOUT.json (the rig starts this program)")?;
    virtflow_testkit::rig::init::run(&layout)
}
