//! Running other programs, with errors that say what was run and what it answered.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output an error repeats.
const ERROR_OUTPUT_LIMIT_BYTES: usize = 4096;

/// A command for `program` that is also found in the administrator's folders, which a plain user's
/// search path leaves out on Debian.
pub fn system(program: impl AsRef<OsStr>) -> Command {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    let mut command = Command::new(program);
    command.env("PATH", path);
    command
}

/// Runs `command` to its end and returns its standard output as text.
///
/// # Errors
/// When it cannot be started or ends with anything but success; the error carries the command
/// line and the end of what it printed.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = run(command)?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            describe(command),
            output.status,
            printed(&output)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end, with no standard input, and returns what it printed and its status,
/// whatever that was.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting `{}`", describe(command)))
}

/// Runs `program` with `arguments`; see [`output_of`].
///
/// # Errors
/// As [`output_of`].
pub fn call<I, S>(program: &str, arguments: I) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    output_of(system(program).args(arguments))
}

/// The command line as a person would type it (without quoting).
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// What a program printed, standard error first, cut to its end.
pub fn printed(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !stdout.trim().is_empty() {
        text.push('\n');
        text.push_str(stdout.trim());
    }
    let mut start = text.len().saturating_sub(ERROR_OUTPUT_LIMIT_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = call("sh", ["-c", "echo no such guest >&2; exit 3"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh -c echo no such guest >&2; exit 3` ended with exit status: 3: no such guest"
        );
    }

    #[test]
    fn long_output_is_cut_at_its_start() {
        let error = call(
            "sh",
            ["-c", "yes é | head -c 30000 >&2; echo last >&2; exit 1"],
        );
        let text = error.unwrap_err().to_string();
        assert!(text.len() < ERROR_OUTPUT_LIMIT_BYTES + 200);
        assert!(text.ends_with("last"));
    }
}
