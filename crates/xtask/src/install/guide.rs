//! The commands of the guides, read out of their pages, so that what is tried is what an operator reads.

use std::fs;

use anyhow::{Context, Result, ensure};
use virtflow_testkit::machine::Machine;

use crate::stages::workspace;

use super::upgrade::NEWER;

/// Nobody is there to answer apt's questions.
const APT: &str = "apt() { DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes \"$@\"; }";

/// The `N` commands under a heading of a page, in their order. Another number of them fails: then the guide was changed, and
/// what is done here has to follow.
pub(super) fn commands<const N: usize>(page: &str, heading: &str) -> Result<[String; N]> {
    let text = page_text(page)?;
    let found: Vec<String> = blocks(&text, heading, "sh")
        .with_context(|| format!("{page} has no heading `{heading}`"))?
        .lines()
        .map(|line| without_comment(line).to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    found.try_into().map_err(|found: Vec<String>| {
        anyhow::anyhow!(
            "{page} has {} commands under `{heading}`, tried are {N}: {found:#?}",
            found.len()
        )
    })
}

/// The configuration under a heading of a page.
pub(super) fn configuration(page: &str, heading: &str) -> Result<String> {
    let text = page_text(page)?;
    blocks(&text, heading, "toml").with_context(|| format!("{page} has no heading `{heading}`"))
}

/// A command with what the guide has for an example in place of what holds here.
pub(super) fn fill(command: &str, values: &[(&str, &str)]) -> Result<String> {
    values
        .iter()
        .try_fold(command.to_owned(), |command, (example, value)| {
            ensure!(
                command.contains(example),
                "no `{example}` in the guide's `{command}`"
            );
            Ok(command.replace(example, value))
        })
}

/// Does what the guide says on a machine, in the folder with the packages; what that printed on both streams.
pub(super) fn follow(machine: &Machine, command: &str) -> Result<String> {
    follow_in(machine, NEWER, command)
}

/// The same in another folder.
pub(super) fn follow_in(machine: &Machine, folder: &str, command: &str) -> Result<String> {
    machine.shell(&format!("cd {folder}; {APT}; {{ {command}; }} 2>&1"))
}

/// The same of a command that asks whoever sits at the terminal to confirm it.
pub(super) fn confirm(machine: &Machine, command: &str) -> Result<String> {
    machine.shell(&format!(
        "echo yes | script --quiet --return --command '{command}' /dev/null"
    ))
}

fn page_text(page: &str) -> Result<String> {
    let path = workspace().join("docs").join(page);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// What is in the blocks of a language between a heading and the next one, if there is such a heading.
fn blocks(text: &str, heading: &str, language: &str) -> Option<String> {
    let mut lines = text
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != heading);
    lines.next()?;
    let fence = format!("```{language}");
    let mut found = String::new();
    let mut is_inside = false;
    let mut is_other = false;
    for line in lines {
        let bare = line.trim();
        if bare.starts_with("```") {
            if is_inside || is_other {
                (is_inside, is_other) = (false, false);
            } else if bare == fence {
                is_inside = true;
            } else {
                is_other = true;
            }
        } else if is_inside {
            found.push_str(line);
            found.push('\n');
        } else if !is_other && line.starts_with('#') {
            break;
        }
    }
    Some(found)
}

/// A command without what is said of it behind it.
fn without_comment(line: &str) -> &str {
    line.split_once(" # ")
        .map_or(line, |(command, _)| command)
        .trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Page

## One

```sh
first --flag    # what it does

```

   ```toml
   name = \"c1\"
   ```

```
$ virtflow doctor
# no heading
```

```sh
second
```

## Two

```sh
third
```
";

    #[test]
    fn only_the_blocks_under_the_heading_are_taken() {
        assert_eq!(
            blocks(PAGE, "One", "sh").unwrap(),
            "first --flag    # what it does\n\nsecond\n"
        );
        assert_eq!(blocks(PAGE, "One", "toml").unwrap(), "   name = \"c1\"\n");
        assert_eq!(blocks(PAGE, "Two", "sh").unwrap(), "third\n");
        assert_eq!(blocks(PAGE, "Three", "sh"), None);
    }

    #[test]
    fn what_stands_behind_a_command_is_no_part_of_it() {
        assert_eq!(without_comment("run --it    # now"), "run --it");
        assert_eq!(without_comment("run 'a#b'"), "run 'a#b'");
    }

    #[test]
    fn an_example_that_the_guide_does_not_have_is_an_error() {
        assert_eq!(fill("remove c2", &[("c2", "c9")]).unwrap(), "remove c9");
        fill("remove c2", &[("c3", "c9")]).unwrap_err();
    }
}
