//! `cargo xtask mutants`: the tests are tested, with bugs that they must find.

mod copy;
mod patch;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use copy::{Complaint, Copy};
use patch::{By, Mutant, Tier};
use table::Table;

/// Puts known bugs into a copy of the sources, one at a time, and looks whether the tests notice.
///
/// Each bug is a patch in tests/mutants. Its head says what is wrong and which tests are to find it. A bug counts as
/// caught if the copy builds, those tests fail, and the same tests pass on the copy without the bug. What it does to
/// this machine: copies the sources to target/mutants and builds there; the working tree is not touched.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these; absent: all there are.
    names: Vec<String>,
    /// Writes what becomes of each to docs/MUTANTS.md, as soon as it is known.
    #[arg(long)]
    write: bool,
    /// Only those that docs/MUTANTS.md does not show as caught.
    #[arg(long)]
    rest: bool,
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
    /// It does not apply, does not build, the tests would not run, or fail without it too.
    Invalid(String),
}

/// What the tests say of the sources without a bug: what fails then tells nothing.
#[derive(Default)]
struct Sound {
    simulator: Option<PathBuf>,
    known: BTreeMap<By, Complaint>,
}

impl Sound {
    /// What `by` complains of without any bug.
    fn complaint(&mut self, by: &By) -> Result<&Complaint> {
        if !self.known.contains_key(by) {
            let complaint = match by {
                By::Seed { seed, seconds } => copy::seed(self.simulator()?, *seed, *seconds)?,
                By::Test { packages, name } => copy::test(&Copy::make()?, packages, name, false)?,
            };
            self.known.insert(by.clone(), complaint);
        }
        self.known.get(by).context("it was just put there")
    }

    /// The simulator without a bug, kept beside the copy's own.
    fn simulator(&mut self) -> Result<&PathBuf> {
        if self.simulator.is_none() {
            let built = Copy::make()?.build_sim()?;
            let kept = built.with_file_name("virtflow-sim-sound");
            std::fs::copy(&built, &kept).with_context(|| kept.display().to_string())?;
            self.simulator = Some(kept);
        }
        self.simulator.as_ref().context("it was just built")
    }
}

fn try_out(mutant: &Mutant, sound: &mut Sound) -> Result<Fate> {
    if let Tier::Sim { .. } = mutant.tier {
        // Before the bug is in the copy.
        sound.simulator()?;
    }
    let copy = Copy::make()?;
    copy.apply(&mutant.path)?;
    let caught = match &mutant.tier {
        Tier::Sim {
            seed,
            runs,
            seconds,
        } => {
            let program = copy.build_sim()?;
            copy::seeds(&program, *seed, *runs, *seconds)?.map(|(seed, said)| {
                let seconds = *seconds;
                (By::Seed { seed, seconds }, said)
            })
        }
        Tier::Test { packages, name } => copy::test(&copy, packages, name, true)?.map(|said| {
            let (packages, name) = (packages.clone(), name.clone());
            (By::Test { packages, name }, said)
        }),
    };
    let Some((by, said)) = caught else {
        return Ok(Fate::Survived);
    };
    if let Some(expected) = &mutant.says
        && !said.contains(expected)
    {
        return Ok(Fate::Invalid(format!(
            "{by} failed for another reason: {said}"
        )));
    }
    Ok(match sound.complaint(&by)? {
        Some(complaint) => Fate::Invalid(format!("{by} fails without it too: {complaint}")),
        None => Fate::Caught { by, said },
    })
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut mutants = patch::all()?;
    let all: Vec<String> = mutants.iter().map(|mutant| mutant.name.clone()).collect();
    if let Some(unknown) = options.names.iter().find(|name| !all.contains(name)) {
        bail!("there is no mutant {unknown} in tests/mutants");
    }
    let mut table = Table::read();
    if !options.names.is_empty() {
        mutants.retain(|mutant| options.names.contains(&mutant.name));
    }
    if options.rest {
        mutants.retain(|mutant| !table.is_caught(&mutant.name));
    }
    // Tests build sooner than the simulation.
    mutants.sort_by_key(|mutant| matches!(mutant.tier, Tier::Sim { .. }));
    let mut sound = Sound::default();
    let mut bad = Vec::new();
    for mutant in &mutants {
        let began = Instant::now();
        let fate =
            try_out(mutant, &mut sound).unwrap_or_else(|error| Fate::Invalid(format!("{error:#}")));
        println!("{}", table.put(mutant, &fate, began.elapsed().as_secs()));
        if options.write {
            table.write(&all)?;
        }
        if !matches!(fate, Fate::Caught { .. }) {
            bad.push(mutant.name.as_str());
        }
    }
    if !bad.is_empty() {
        bail!("not caught: {}", bad.join(", "));
    }
    println!("all {} were caught", mutants.len());
    Ok(())
}
