//! `cargo xtask mutants`: the tests are tested, with bugs that they must find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::sim;
use crate::stages::{cargo, workspace};

/// Puts known bugs into a copy of the sources, one at a time, and looks whether the tests notice.
///
/// Each bug is a patch in tests/mutants. Its head says what is wrong and which tests are to find it. A bug counts as
/// caught if the copy builds, those tests fail, and the same tests pass on the copy without the bug. What it does to
/// this machine: copies the sources to target/mutants and builds there; the working tree is not touched.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these; absent: all there are.
    names: Vec<String>,
    /// Writes the table to docs/MUTANTS.md.
    #[arg(long)]
    write: bool,
}

/// What is to find a bug.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tier {
    /// Seeds of the simulation, one after the other until one breaks.
    Sim { seed: u64, runs: u64, seconds: u64 },
    /// One test of these packages.
    Test { packages: Vec<String>, name: String },
}

#[derive(Debug)]
struct Mutant {
    name: String,
    path: PathBuf,
    wrong: String,
    tier: Tier,
    /// Without it in the output the tests failed for another reason.
    says: Option<String>,
}

/// What became of a mutant.
#[derive(Debug)]
enum Fate {
    /// By which tests, and what they said.
    Caught {
        by: By,
        said: String,
    },
    Survived,
    /// It does not apply, does not build, or the tests would not run.
    Invalid(String),
}

/// A run that can be made again without the bug.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum By {
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

fn all() -> Result<Vec<Mutant>> {
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

/// The copy that bugs are put into. Its own target folder stays between runs.
struct Copy {
    root: PathBuf,
}

impl Copy {
    /// Makes it equal to the working tree. Files that are equal already are left alone, so that
    /// builds go on where they were.
    fn make() -> Result<Self> {
        let root = workspace().join("target/mutants/tree");
        std::fs::create_dir_all(&root)?;
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others"])
            .args(["--exclude-standard", "--deduplicate"])
            .current_dir(workspace())
            .output()
            .context("listing the sources")?;
        if !listed.status.success() {
            bail!("git cannot list the sources");
        }
        let mut wanted = BTreeSet::new();
        for name in String::from_utf8(listed.stdout)?
            .split('\0')
            .filter(|name| !name.is_empty())
        {
            // Deleted and not yet committed.
            let Ok(content) = std::fs::read(workspace().join(name)) else {
                continue;
            };
            wanted.insert(root.join(name));
            let to = root.join(name);
            if std::fs::read(&to).is_ok_and(|known| known == content) {
                continue;
            }
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&to, content)?;
        }
        let target = root.join("target");
        remove_others(&root, &target, &wanted)?;
        Ok(Self { root })
    }

    fn apply(&self, patch: &Path) -> Result<()> {
        let output = Command::new("git")
            .args(["apply", "--recount", "-C1"])
            .arg(patch)
            .current_dir(&self.root)
            // Within a repository git would take the names for its own.
            .env("GIT_CEILING_DIRECTORIES", self.root.join(".."))
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("it does not apply: {}", first_line(&why));
        }
        Ok(())
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo(arguments);
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("CARGO_INCREMENTAL", "1");
        command
    }

    fn build_sim(&self) -> Result<PathBuf> {
        let target = self.root.join("target/sim");
        let mut command = self.cargo(&sim::BUILD);
        command
            .env("RUSTFLAGS", sim::FLAGS)
            .env("CARGO_TARGET_DIR", &target);
        built(&mut command)?;
        Ok(target.join("sim/virtflow-sim"))
    }

    fn test_command(&self, packages: &[String], more: &[&str]) -> Command {
        let mut command = match has_nextest() {
            true => self.cargo(&["nextest", "run", "--locked"]),
            false => self.cargo(&["test", "--locked"]),
        };
        for package in packages {
            command.args(["--package", package]);
        }
        command.args(more);
        command
    }
}

fn has_nextest() -> bool {
    cargo(&["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}

fn remove_others(folder: &Path, but: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path == but {
            continue;
        }
        if path.is_dir() {
            remove_others(&path, but, wanted)?;
        } else if !wanted.contains(&path) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn built(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let error = text.lines().find(|line| line.starts_with("error"));
        bail!("it does not build: {}", error.unwrap_or("see cargo"));
    }
    Ok(())
}

/// What a run of the tests came to: the first thing it complained of, if it did.
type Complaint = Option<String>;

/// Runs one seed.
fn seed(program: &Path, seed: u64, seconds: u64) -> Result<Complaint> {
    let output = Command::new(program)
        .args(["--seed", &seed.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let broken = text
        .lines()
        .skip_while(|line| !line.contains(": BROKEN"))
        .nth(1);
    let said = match broken {
        Some(line) => line.trim().to_owned(),
        None => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let why = errors.lines().find(|line| !line.trim().is_empty());
            why.unwrap_or("it ended without a word").trim().to_owned()
        }
    };
    Ok(Some(said))
}

/// Runs seeds, several at a time, until one breaks: the lowest of those.
fn seeds(program: &Path, first: u64, runs: u64, seconds: u64) -> Result<Option<(u64, String)>> {
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut at = first;
    while at < first + runs {
        let until = (at + jobs).min(first + runs);
        let results: Vec<Result<Complaint>> = std::thread::scope(|scope| {
            let running: Vec<_> = (at..until)
                .map(|number| scope.spawn(move || seed(program, number, seconds)))
                .collect();
            let joined = running.into_iter().map(|run| run.join());
            joined
                .map(|end| end.unwrap_or_else(|_| bail!("a thread panicked")))
                .collect()
        });
        for (number, result) in (at..until).zip(results) {
            if let Some(said) = result? {
                return Ok(Some((number, said)));
            }
        }
        at = until;
    }
    Ok(None)
}

/// Runs one test; what it said if it failed. An error if there is no such test.
fn test(copy: &Copy, packages: &[String], name: &str) -> Result<Complaint> {
    built(&mut copy.test_command(packages, &["--no-run"]))?;
    let output = copy
        .test_command(packages, &[name])
        .stdin(Stdio::null())
        .output()?;
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let about = |line: &&str| line.contains(name);
    if output.status.success() {
        let ran = text.lines().filter(about);
        if !ran
            .into_iter()
            .any(|l| l.contains("PASS") || l.ends_with("ok"))
        {
            bail!("there is no test {name} in {}", packages.join(", "));
        }
        return Ok(None);
    }
    let failed = ["FAIL", "SIGABRT", "TIMEOUT"];
    if !text
        .lines()
        .filter(about)
        .any(|line| failed.iter().any(|word| line.contains(word)))
    {
        bail!(
            "the tests ended with {}, {name} did not fail",
            output.status
        );
    }
    let panicked = text
        .lines()
        .skip_while(|line| !line.contains("panicked at"))
        .nth(1);
    Ok(Some(panicked.unwrap_or("it failed").trim().to_owned()))
}

fn try_out(copy: &Copy, mutant: &Mutant) -> Result<Fate> {
    copy.apply(&mutant.path)?;
    let caught = match &mutant.tier {
        Tier::Sim {
            seed,
            runs,
            seconds,
        } => {
            let program = copy.build_sim()?;
            seeds(&program, *seed, *runs, *seconds)?.map(|(seed, said)| {
                let seconds = *seconds;
                (By::Seed { seed, seconds }, said)
            })
        }
        Tier::Test { packages, name } => test(copy, packages, name)?.map(|said| {
            let (packages, name) = (packages.clone(), name.clone());
            (By::Test { packages, name }, said)
        }),
    };
    Ok(match caught {
        None => Fate::Survived,
        Some((by, said)) => match &mutant.says {
            Some(expected) if !said.contains(expected) => {
                Fate::Invalid(format!("{by} failed for another reason: {said}"))
            }
            _ => Fate::Caught { by, said },
        },
    })
}

/// Which of these fail without any bug: then they tell nothing.
fn fail_anyway(copy: &Copy, by: &BTreeSet<By>) -> Result<BTreeMap<By, String>> {
    let mut failing = BTreeMap::new();
    let mut program = None;
    for by in by {
        let said = match by {
            By::Seed { seed, seconds } => {
                if program.is_none() {
                    program = Some(copy.build_sim()?);
                }
                match &program {
                    Some(program) => self::seed(program, *seed, *seconds)?,
                    None => None,
                }
            }
            By::Test { packages, name } => test(copy, packages, name)?,
        };
        if let Some(said) = said {
            failing.insert(by.clone(), said);
        }
    }
    Ok(failing)
}

struct Row {
    mutant: Mutant,
    fate: Fate,
    took_s: u64,
}

/// The table, in Markdown.
fn table(rows: &[Row]) -> String {
    let mut text = String::from("| mutant | what is wrong | tier | result | by | s |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for row in rows {
        let (result, by) = match &row.fate {
            Fate::Caught { by, said } => ("caught", format!("{by}: {}", short(said))),
            Fate::Survived => ("SURVIVED", String::new()),
            Fate::Invalid(why) => ("INVALID", short(why)),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {result} | {} | {} |",
            row.mutant.name,
            row.mutant.wrong,
            row.mutant.tier,
            by.replace('|', "\\|"),
            row.took_s
        );
    }
    text
}

fn short(text: &str) -> String {
    const CHARS_MAX: usize = 140;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

const PREAMBLE: &str = "\
# Mutants

Known bugs, each a patch in `tests/mutants`, and what finds them. Written by `cargo xtask mutants --write`, which puts
one after the other into a copy of the sources, builds it, and runs the tests that the patch's head names. A bug is
caught if these fail, and pass without it. One that survives makes the command fail: a promise is then not tested.

A new one: change the code, `git diff > tests/mutants/NAME.patch`, put the change back, and write above the patch

    # What is wrong, in one sentence.
    # caught by: sim --seed 1 --runs 20 --seconds 20
    # says: words that the first complaint must contain (may be left out)

or `# caught by: nextest -p PACKAGE TEST`. The seeds are run until one breaks.

";

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut mutants = all()?;
    if let Some(unknown) = options
        .names
        .iter()
        .find(|name| mutants.iter().all(|mutant| mutant.name != **name))
    {
        bail!("there is no mutant {unknown}");
    }
    if !options.names.is_empty() {
        mutants.retain(|mutant| options.names.contains(&mutant.name));
    }
    if mutants.is_empty() {
        bail!("there are no mutants");
    }
    let mut rows = Vec::new();
    for mutant in mutants {
        let began = Instant::now();
        let copy = Copy::make()?;
        let fate =
            try_out(&copy, &mutant).unwrap_or_else(|error| Fate::Invalid(format!("{error:#}")));
        let row = Row {
            mutant,
            fate,
            took_s: began.elapsed().as_secs(),
        };
        print!(
            "{}",
            table(std::slice::from_ref(&row))
                .lines()
                .nth(2)
                .unwrap_or_default()
        );
        println!();
        rows.push(row);
    }
    println!("the same without a bug");
    let used = rows.iter().filter_map(|row| match &row.fate {
        Fate::Caught { by, .. } => Some(by.clone()),
        _ => None,
    });
    let failing = fail_anyway(&Copy::make()?, &used.collect())?;
    for row in &mut rows {
        if let Fate::Caught { by, .. } = &row.fate
            && let Some(said) = failing.get(by)
        {
            row.fate = Fate::Invalid(format!("{by} fails without it too: {said}"));
        }
    }
    println!("\n{}", table(&rows));
    if options.write {
        let path = workspace().join("docs/MUTANTS.md");
        std::fs::write(&path, format!("{PREAMBLE}{}", table(&rows)))
            .with_context(|| path.display().to_string())?;
    }
    let bad: Vec<&str> = rows
        .iter()
        .filter(|row| !matches!(row.fate, Fate::Caught { .. }))
        .map(|row| row.mutant.name.as_str())
        .collect();
    if !bad.is_empty() {
        bail!("not caught: {}", bad.join(", "));
    }
    println!("all {} were caught", rows.len());
    Ok(())
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
