//! `docs/MUTANTS.md`: what became of each mutant when it was last tried.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Fate;
use super::patch::Mutant;
use crate::stages::workspace;

const PREAMBLE: &str = "\
# Mutants

Known bugs, each a patch in `tests/mutants`, and what finds them. Written by `cargo xtask mutants --write`, which puts
one after the other into a copy of the sources, builds it, and runs the tests that the patch's head names. A bug is
caught if these fail, and pass without it. One that survives makes the command fail: a promise is then not tested.
`--rest` tries only those that this table does not show as caught. Tests that look at a part of
their cases in `ci` look at all of them where the bug is.

A new one: change the code, `git diff > tests/mutants/NAME.patch`, put the change back, and write above the patch

    # What is wrong, in one sentence.
    # caught by: sim --seed 1 --runs 20 --seconds 20
    # says: words that the first complaint must contain (may be left out)

or `# caught by: nextest -p PACKAGE TEST`. The seeds are run until one breaks. The last column is the seconds that
building and running took.

| mutant | what is wrong | tier | result | by | s |
| --- | --- | --- | --- | --- | --- |
";

const CAUGHT: &str = "| caught |";

/// The rows, by the mutant's name.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: BTreeMap<String, String>,
}

impl Table {
    fn path() -> PathBuf {
        workspace().join("docs/MUTANTS.md")
    }

    /// What was written last; empty if nothing was.
    pub(super) fn read() -> Self {
        std::fs::read_to_string(Self::path())
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let rows = text.lines().filter_map(|line| {
            let name = line.strip_prefix("| `")?.split('`').next()?;
            Some((name.to_owned(), line.to_owned()))
        });
        Self {
            rows: rows.collect(),
        }
    }

    pub(super) fn is_caught(&self, name: &str) -> bool {
        self.rows.get(name).is_some_and(|row| row.contains(CAUGHT))
    }

    pub(super) fn put(&mut self, mutant: &Mutant, fate: &Fate, took_s: u64) -> &str {
        let (result, by) = match fate {
            Fate::Caught { by, said } => ("caught", format!("{by}: {}", short(said))),
            Fate::Survived => ("SURVIVED", String::new()),
            Fate::Invalid(why) => ("INVALID", short(why)),
        };
        let row = format!(
            "| `{}` | {} | {} | {result} | {} | {took_s} |",
            mutant.name,
            mutant.wrong,
            mutant.tier,
            by.replace('|', "\\|"),
        );
        self.rows
            .entry(mutant.name.clone())
            .insert_entry(row)
            .into_mut()
    }

    /// Writes it, without the mutants that are no more.
    pub(super) fn write(&mut self, all: &[String]) -> Result<()> {
        self.rows.retain(|name, _| all.contains(name));
        let rows: String = self.rows.values().map(|row| format!("{row}\n")).collect();
        let path = Self::path();
        std::fs::write(&path, format!("{PREAMBLE}{rows}"))
            .with_context(|| path.display().to_string())
    }
}

fn short(text: &str) -> String {
    const CHARS_MAX: usize = 140;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let table = Table::parse(
            "# Mutants\n\n| mutant | what |\n| --- | --- |\n\
             | `a` | it is wrong | test of x | caught | a_test: it failed | 7 |\n\
             | `b` | so is this | test of x | SURVIVED |  | 9 |\n",
        );
        assert!(table.is_caught("a"));
        assert!(!table.is_caught("b"));
        assert!(!table.is_caught("mutant"));
    }
}
