//! Fuzzing: decoders are given what no encoder ever wrote.
//!
//! A [`Target`] is one decoder with a few good inputs. [`Target::run`] gives it, in this order, the inputs
//! that once broke something (`tests/fuzz/<target>/`), the good ones, extremes of its format (lists of a
//! million nothings, nesting without an end, lengths that lie), and then good inputs that were mutated,
//! over and over. The decoder may refuse whatever it likes. It must not panic, and what it holds in memory
//! at any moment is bounded by a multiple of what it was given; whatever else must hold (what was read and
//! written reads as the same) the target asserts itself.
//!
//! All chance comes from one seed, so a run repeats. In the tests the seed is fixed and inputs are counted,
//! not timed. `cargo xtask fuzz` runs the same targets for as long as one likes, built so that they tell
//! which of their branches were taken: there an input is kept for further mutation if it took a new one.
//! In the tests, where nothing is known of branches, it is kept if its outcome is of a new kind.

mod chance;
mod coverage;
mod extremes;
mod listed;
pub mod memory;
mod mutate;
mod proto;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use coverage::Coverage;
use mutate::Mutator;

pub use chance::Chance;
pub use listed::{Listed, TARGETS};

/// The seed where none is given.
pub const SEED_DEFAULT: u64 = 1;
/// Variables that a longer run is steered by.
pub mod variable {
    /// The seed.
    pub const SEED: &str = "VIRTFLOW_FUZZ_SEED";
    /// How many mutated inputs are tried.
    pub const ITERATIONS: &str = "VIRTFLOW_FUZZ_ITERATIONS";
    /// How long mutated inputs are tried, in seconds.
    pub const SECONDS: &str = "VIRTFLOW_FUZZ_SECONDS";
    /// A file: it is tried, and nothing else.
    pub const INPUT: &str = "VIRTFLOW_FUZZ_INPUT";
}

/// Inputs kept for mutation in a run that is counted.
const CORPUS_MAX: usize = 512;
/// Inputs kept for mutation in a run that is timed.
const CORPUS_LONG_MAX: usize = 20_000;
/// Of these, how many are merely the last that were taken.
const WANDERING_MAX: usize = 64;
/// How many bytes are tried in cutting down an input that fails.
const SHRINKING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a decoder made of an input: taken, or refused with a reason.
pub type Verdict = Result<(), String>;

/// The shape of the inputs: mutations keep to it some of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Protocol buffers.
    Proto,
    /// Text: TOML, XML, JSON, flags.
    Text,
    /// Anything else.
    Bytes,
}

/// One decoder and how it is tried.
#[derive(Debug)]
pub struct Target {
    name: &'static str,
    format: Format,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    iterations: u64,
    mutant_bytes_max: usize,
    large_bytes: usize,
    offsets_max: usize,
    memory_times: usize,
    memory_spare_bytes: usize,
}

/// An input as text; what is no UTF-8 is replaced, so that few inputs go to waste.
pub fn text(input: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(input)
}

/// The workspace's root.
fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

impl Target {
    /// A target named in [`TARGETS`].
    #[must_use]
    pub fn new(name: &'static str, format: Format) -> Self {
        Self {
            name,
            format,
            seeds: Vec::new(),
            words: Vec::new(),
            iterations: 5000,
            mutant_bytes_max: 8 * 1024,
            large_bytes: 256 * 1024,
            offsets_max: 400,
            memory_times: 16,
            memory_spare_bytes: 64 * 1024,
        }
    }

    /// An input that the decoder takes.
    #[must_use]
    pub fn seed(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.seeds.push(input.into());
        self
    }

    /// Words of the format, for mutations to insert.
    #[must_use]
    pub fn words(mut self, words: &[&str]) -> Self {
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        self.words.extend(words);
        self
    }

    /// How many mutated inputs are tried in the tests.
    #[must_use]
    pub fn iterations(mut self, iterations: u64) -> Self {
        self.iterations = iterations;
        self
    }

    /// The largest mutated input, and the size of the extremes: the largest that is taken in earnest.
    #[must_use]
    pub fn sizes(mut self, mutant_bytes_max: usize, large_bytes: usize) -> Self {
        self.mutant_bytes_max = mutant_bytes_max;
        self.large_bytes = large_bytes;
        self
    }

    /// At how many places of a good input it is cut off and numbers in it lie, for [`Format::Bytes`].
    #[must_use]
    pub fn offsets(mut self, offsets_max: usize) -> Self {
        self.offsets_max = offsets_max;
        self
    }

    /// What may be held in memory at any moment: `times` the input and `spare_bytes`. What the target
    /// does to check the outcome counts too.
    #[must_use]
    pub fn memory(mut self, times: usize, spare_bytes: usize) -> Self {
        self.memory_times = times;
        self.memory_spare_bytes = spare_bytes;
        self
    }

    /// Tries the decoder.
    ///
    /// # Panics
    /// If an input makes it panic or hold too much memory; the message says how to repeat that.
    pub fn run(&self, decode: impl Fn(&[u8]) -> Verdict) {
        assert!(
            TARGETS.iter().any(|listed| listed.name == self.name),
            "the fuzz target `{}` is not in the list",
            self.name
        );
        self.unlisted(decode);
    }

    fn unlisted(&self, decode: impl Fn(&[u8]) -> Verdict) {
        assert!(
            memory::is_counted(),
            "nothing counts memory here: make `Counting` the global allocator of this test"
        );
        let number = |name| {
            std::env::var(name)
                .ok()
                .map(|text| text.parse().expect("a number"))
        };
        let seed = number(variable::SEED).unwrap_or(SEED_DEFAULT);
        let iterations = number(variable::ITERATIONS).unwrap_or(self.iterations);
        let seconds = number(variable::SECONDS);
        let mut run = Run {
            target: self,
            decode,
            seed,
            tried: 0,
            taken: 0,
            slowest: (Duration::ZERO, 0),
            most_times: 0,
            running: seconds.map(|_| folder("running").join(self.name)),
        };
        if let Some(path) = std::env::var_os(variable::INPUT) {
            let input = fs::read(&path).expect("the input can be read");
            let verdict = run.check(&input);
            eprintln!("fuzz {}: {verdict:?}", self.name);
            return;
        }
        match seconds {
            Some(seconds) => eprintln!("fuzz {}: {seconds} s with seed {seed}", self.name),
            None => eprintln!(
                "fuzz {0}: {iterations} inputs with seed {seed}; to repeat: \
                 cargo xtask fuzz {0} --seed {seed} --iterations {iterations}",
                self.name
            ),
        }
        for input in files_of(&workspace().join("tests/fuzz").join(self.name)) {
            // Whether it is taken or refused is for the decoder to say.
            let _ = run.check(&input);
        }
        for input in &self.seeds {
            let verdict = run.check(input);
            assert_eq!(verdict, Ok(()), "{}: {input:?} is no good seed", self.name);
        }
        extremes::each(self, &mut |input| {
            let _ = run.check(input);
        });
        run.mutants(iterations, seconds.map(Duration::from_secs));
        run.report();
    }
}

/// A folder below `target/fuzz`.
fn folder(name: &str) -> PathBuf {
    let path = workspace().join("target/fuzz").join(name);
    fs::create_dir_all(&path).expect("a folder can be made in target");
    path
}

/// The files of a folder, by name; none if there is no such folder.
fn files_of(path: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let paths: BTreeSet<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths
        .iter()
        .map(|path| fs::read(path).expect("an input can be read"))
        .collect()
}

struct Run<'a, D> {
    target: &'a Target,
    decode: D,
    seed: u64,
    tried: u64,
    taken: u64,
    slowest: (Duration, usize),
    most_times: usize,
    /// Where the input under way is kept: what ends the whole process leaves no other trace.
    running: Option<PathBuf>,
}

impl<D: Fn(&[u8]) -> Verdict> Run<'_, D> {
    /// Tries one input; the verdict, or why it failed.
    fn attempt(&self, input: &[u8]) -> (Result<Verdict, String>, usize) {
        let (result, peak) =
            memory::peak_of(|| catch_unwind(AssertUnwindSafe(|| (self.decode)(input))));
        let allowed = input
            .len()
            .saturating_mul(self.target.memory_times)
            .saturating_add(self.target.memory_spare_bytes);
        let outcome = match result {
            Err(panic) => Err(message_of(&*panic)),
            Ok(_) if peak > allowed => Err(format!(
                "it held {peak} bytes for an input of {}, at most {allowed} are allowed",
                input.len()
            )),
            Ok(verdict) => Ok(verdict),
        };
        (outcome, peak)
    }

    fn check(&mut self, input: &[u8]) -> Verdict {
        if let Some(path) = &self.running {
            fs::write(path, input).expect("a file can be written in target");
        }
        let start = Instant::now();
        let (outcome, peak) = self.attempt(input);
        self.slowest = self.slowest.max((start.elapsed(), input.len()));
        if input.len() >= 4096 {
            self.most_times = self.most_times.max(peak / input.len());
        }
        self.tried += 1;
        match outcome {
            Ok(verdict) => {
                self.taken += u64::from(verdict.is_ok());
                verdict
            }
            Err(problem) => self.fail(input, &problem),
        }
    }

    /// Cuts a failing input down as long as it fails, keeps it, and says how to repeat that.
    fn fail(&self, input: &[u8], problem: &str) -> ! {
        let name = self.target.name;
        let mut small = input.to_vec();
        let quiet = Quiet::begin();
        let mut tried = 0;
        let mut size = small.len().div_ceil(2);
        while size > 0 && tried < SHRINKING_BYTES_MAX {
            let mut at = 0;
            while at < small.len() && tried < SHRINKING_BYTES_MAX {
                let mut shorter = small.clone();
                shorter.drain(at..(at + size).min(small.len()));
                // One that is empty costs something too.
                tried += shorter.len() + 1024;
                if self.attempt(&shorter).0.is_err() {
                    small = shorter;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        drop(quiet);
        let path = folder("failures").join(format!("{name}-{:016x}", hash_of(&small)));
        fs::write(&path, &small).expect("a file can be written in target");
        panic!(
            "fuzz {name}: input {} with seed {}, {} bytes, fails; cut down to {} bytes: {problem}\n\
             to repeat: cargo xtask fuzz {name} --input {file}\n\
             when it is mended: mv {file} tests/fuzz/{name}/",
            self.tried,
            self.seed,
            input.len(),
            small.len(),
            file = path.display(),
        );
    }

    fn mutants(&mut self, iterations: u64, time: Option<Duration>) {
        let target = self.target;
        let mut name = DefaultHasher::new();
        target.name.hash(&mut name);
        let mut mutator = Mutator::new(
            Chance::new(self.seed ^ name.finish()),
            target.format,
            target.words.clone(),
            target.mutant_bytes_max,
        );
        let mut coverage = Coverage::find();
        let mut kinds = BTreeSet::new();
        let mut corpus: Vec<Vec<u8>> = target.seeds.clone();
        corpus.push(Vec::new());
        let kept = time.map(|_| folder("corpus").join(target.name));
        if let Some(kept) = &kept {
            fs::create_dir_all(kept).expect("a folder can be made in target");
            corpus.extend(files_of(kept));
        }
        corpus.extend(files_of(&workspace().join("tests/fuzz").join(target.name)));
        for input in &corpus {
            let verdict = self.check(input);
            coverage.is_new();
            kinds.insert(kind_of(&verdict));
        }
        let start = Instant::now();
        let mut said = Instant::now();
        let mut wandering = Vec::new();
        for n in 0_u64.. {
            match time {
                Some(time) if start.elapsed() >= time => break,
                None if n == iterations => break,
                _ => {}
            }
            let input = mutator.next(&corpus);
            let verdict = self.check(&input);
            let is_new = if coverage.is_there() {
                coverage.is_new()
            } else {
                kinds.insert(kind_of(&verdict))
            };
            let room = match time {
                Some(_) => CORPUS_LONG_MAX,
                None => CORPUS_MAX,
            };
            if time.is_none() && verdict.is_ok() {
                // Inputs that were taken lead on, to what several changes together bring about.
                if wandering.len() < WANDERING_MAX {
                    wandering.push(corpus.len());
                    corpus.push(input);
                } else {
                    let oldest = wandering[usize::try_from(n).unwrap_or(0) % WANDERING_MAX];
                    corpus[oldest] = input;
                }
            } else if is_new && corpus.len() < room {
                if let Some(kept) = &kept {
                    let path = kept.join(format!("{:016x}", hash_of(&input)));
                    fs::write(path, &input).expect("a file can be written in target");
                }
                corpus.push(input);
            }
            if time.is_some() && said.elapsed() > Duration::from_secs(5) {
                said = Instant::now();
                eprintln!(
                    "fuzz {}: {} inputs, {} kept, {}",
                    target.name,
                    self.tried,
                    corpus.len(),
                    coverage.said()
                );
            }
        }
        eprintln!(
            "fuzz {}: {} inputs kept, {}",
            target.name,
            corpus.len(),
            coverage.said()
        );
    }

    fn report(&self) {
        eprintln!(
            "fuzz {}: {} inputs, {} taken, {} refused; slowest {} ms for {} bytes; at most {} times an \
             input in memory",
            self.target.name,
            self.tried,
            self.taken,
            self.tried - self.taken,
            self.slowest.0.as_millis(),
            self.slowest.1,
            self.most_times,
        );
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, panics of this thread say nothing: an input that is cut down fails many times over.
struct Quiet;

impl Quiet {
    fn begin() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let loud = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !IS_QUIET.get() {
                    loud(panic);
                }
            }));
        });
        IS_QUIET.set(true);
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        IS_QUIET.set(false);
    }
}

fn hash_of(input: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    hasher.finish()
}

/// Refusals that differ in their figures alone are of one kind.
fn kind_of(verdict: &Verdict) -> u64 {
    let mut hasher = DefaultHasher::new();
    match verdict {
        Ok(()) => 0.hash(&mut hasher),
        Err(reason) => {
            let words = reason.chars().filter(|c| !c.is_ascii_digit());
            words.take(64).for_each(|c| c.hash(&mut hasher));
        }
    }
    hasher.finish()
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

#[cfg(test)]
mod tests;
