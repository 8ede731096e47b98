//! A known bug: its patch, and what is to find it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::stages::workspace;

/// What is to find a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tier {
    /// Seeds of the simulation, one after the other until one breaks.
    Sim { seed: u64, runs: u64, seconds: u64 },
    /// One test of these packages.
    Test { packages: Vec<String>, name: String },
}

#[derive(Debug)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) wrong: String,
    pub(super) tier: Tier,
    /// Without it in the output the tests failed for another reason.
    pub(super) says: Option<String>,
}

/// A run that can be made again without the bug.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    Seed { seed: u64, seconds: u64 },
    Test { packages: Vec<String>, name: String },
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seed { seed, .. } => write!(f, "seed {seed}"),
            Self::Test { name, .. } => write!(f, "{name}"),
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sim {
                seed,
                runs,
                seconds,
            } => write!(f, "sim, seeds {seed}–{}, {seconds} s", seed + runs - 1),
            Self::Test { packages, .. } => write!(f, "test of {}", packages.join(", ")),
        }
    }
}

fn parse_tier(text: &str) -> Result<Tier> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["sim", options @ ..] => {
            let (mut seed, mut runs, mut seconds) = (1, 1, 30);
            for pair in options.chunks(2) {
                let [option, value] = pair else {
                    bail!("`{text}`: an option without a value");
                };
                let value = value.parse().with_context(|| format!("`{text}`"))?;
                match *option {
                    "--seed" => seed = value,
                    "--runs" => runs = value,
                    "--seconds" => seconds = value,
                    other => bail!("`{text}`: what is {other}?"),
                }
            }
            Ok(Tier::Sim {
                seed,
                runs,
                seconds,
            })
        }
        ["nextest", middle @ .., name] => {
            let mut packages = Vec::new();
            for pair in middle.chunks(2) {
                match pair {
                    ["-p", package] => packages.push((*package).to_owned()),
                    _ => bail!("`{text}`: expected nextest -p PACKAGE … TEST"),
                }
            }
            Ok(Tier::Test {
                packages,
                name: (*name).to_owned(),
            })
        }
        [package, name] => Ok(Tier::Test {
            packages: vec![(*package).to_owned()],
            name: (*name).to_owned(),
        }),
        _ => bail!("`{text}` names neither seeds nor a test"),
    }
}

fn parse(path: &Path) -> Result<Mutant> {
    let text = std::fs::read_to_string(path)?;
    let head = || text.lines().map_while(|line| line.strip_prefix('#'));
    let said = |word: &str| {
        head().find_map(|line| line.trim().strip_prefix(word).map(|s| s.trim().to_owned()))
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let within = || format!("the head of {name}.patch");
    let wrong = head().next().map(|line| line.trim().to_owned());
    let tier = said("caught by:").context("it does not say what catches it");
    Ok(Mutant {
        name: name.to_string(),
        path: path.to_owned(),
        wrong: wrong.filter(|w| !w.is_empty()).with_context(within)?,
        tier: tier
            .and_then(|tier| parse_tier(&tier))
            .with_context(within)?,
        says: said("says:"),
    })
}

pub(super) fn all() -> Result<Vec<Mutant>> {
    let folder = workspace().join("tests/mutants");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| parse(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood() {
        let sim = Tier::Sim {
            seed: 7,
            runs: 20,
            seconds: 25,
        };
        assert_eq!(
            parse_tier("sim --seed 7 --runs 20 --seconds 25").unwrap(),
            sim
        );
        let test = |packages: &[&str], name: &str| Tier::Test {
            packages: packages.iter().map(|p| (*p).to_owned()).collect(),
            name: name.to_owned(),
        };
        assert_eq!(
            parse_tier("nextest -p a -p b it_holds").unwrap(),
            test(&["a", "b"], "it_holds")
        );
        assert_eq!(parse_tier("a it_holds").unwrap(), test(&["a"], "it_holds"));
        assert!(parse_tier("sim --seed").is_err());
        assert!(parse_tier("sim --sed 1").is_err());
        assert!(parse_tier("luck").is_err());
    }

    #[test]
    fn every_patch_has_a_head() {
        let mutants = all().unwrap();
        assert!(mutants.len() >= 14, "{}", mutants.len());
    }
}
