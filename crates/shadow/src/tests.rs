//! The shadow against the state, through crashes, installs and damage.

mod backup;
mod crash;
mod cuts;
mod equal;
mod fuzz;
mod flips;
mod install;
mod machine;
mod open;
mod power;
mod read;
mod size;

/// Where a test that looks at a part of all cases begins: elsewhere each second, or as it is told.
fn rotation() -> usize {
    match std::env::var("VIRTFLOW_ROTATION") {
        Ok(from) => from.parse().unwrap(),
        Err(_) => usize::try_from(virtflow_types::Timestamp::now().ms() / 1000).unwrap(),
    }
}
