//! Running programs in plain view: what is run is said, what it prints is shown.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use virtflow_testkit::command::describe;

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}

/// Cargo, to be run in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    command
}

/// `program`, with root's rights: as it is for root, by sudo for anyone else.
pub(crate) fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        virtflow_testkit::command::system(program)
    } else {
        let mut command = Command::new("sudo");
        command.arg(program);
        command
    }
}

/// Runs a command that prints for itself.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    println!("    done in {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// Runs a command, shows what it prints, and returns that as well.
pub(crate) fn tee(command: &mut Command) -> Result<String> {
    let line = announce(command);
    let mut shell = Command::new("sh");
    // One pipe for both streams, so that what belongs together stays together.
    shell
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(directory) = command.get_current_dir() {
        shell.current_dir(directory);
    }
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(key, value);
        }
    }
    let mut child = shell
        .spawn()
        .with_context(|| format!("starting `{line}`"))?;
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(text)
}

fn announce(command: &Command) -> String {
    let line = describe(command);
    println!("\n>>> {line}");
    // What the command prints must not come before its announcement.
    let _ = std::io::stdout().flush();
    line
}
