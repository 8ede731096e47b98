//! Runs seeds of the simulation. Built by `cargo xtask sim` with the settings that it needs.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

#[cfg(not(virtflow_sim))]
fn main() {
    println!("this needs a build of its own: run `cargo xtask sim`");
    std::process::exit(2);
}

#[cfg(virtflow_sim)]
fn main() -> anyhow::Result<std::process::ExitCode> {
    virtflow_testkit::sim_main::main()
}
