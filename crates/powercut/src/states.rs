//! Where a stream is cut, and what may be left.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use crate::disk::{Change, Choice, Disk, FileId, Image, Kept};
use crate::record::{Event, Stream};

/// Disks write so many bytes whole or not at all.
const SECTOR_BYTES: u64 = 512;
/// So many states of each cut are put together by chance.
const MIXED: u64 = 2;

/// One state that a power cut may leave.
#[derive(Debug, Clone)]
pub struct State {
    /// After so many events of the stream.
    at: usize,
    choice: Choice,
    how: Arc<str>,
    marks: Arc<BTreeMap<&'static str, u64>>,
}

impl State {
    /// The last mark of that name before the cut.
    #[must_use]
    pub fn mark(&self, what: &str) -> Option<u64> {
        self.marks.get(what).copied()
    }

    /// Whether nothing is left but what was flushed.
    #[must_use]
    pub fn is_flushed_only(&self) -> bool {
        self.choice == Choice::default()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut after event {}, {}", self.at, self.how)
    }
}

/// About `most` of the states, evenly spread, others at each run; how many there are to choose from and
/// where it begins is printed. All of them with `VIRTFLOW_EXHAUSTIVE=1`.
#[must_use]
pub fn sample(states: &[State], most: usize) -> Vec<State> {
    let (step, from) = crate::every(states.len().div_ceil(most.max(1)));
    println!(
        "of {} states every {step}., beginning at {from}",
        states.len()
    );
    states.iter().skip(from).step_by(step).cloned().collect()
}

/// Hashes of files' contents: most stay as they were from one state to the next.
#[derive(Debug, Default)]
struct Hashes(BTreeMap<FileId, (u64, BTreeMap<Kept, u64>)>);

impl Hashes {
    fn of(&mut self, disk: &Disk, file: FileId, kept: Kept) -> u64 {
        let content = &disk.files[&file];
        let known = self.0.entry(file).or_default();
        if known.0 != content.version {
            *known = (content.version, BTreeMap::new());
        }
        *known.1.entry(kept).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            content.content(kept).hash(&mut hasher);
            hasher.finish()
        })
    }

    fn of_image(&mut self, disk: &Disk, choice: &Choice) -> u64 {
        let (folders, files) = disk.names(choice);
        let mut hasher = DefaultHasher::new();
        folders.hash(&mut hasher);
        for (path, file) in files {
            path.hash(&mut hasher);
            self.of(disk, file, disk.kept(choice, file))
                .hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Places at which a write of so many bytes is torn: its first and last byte, and the sectors' edges.
fn tears(at: u64, length: usize) -> BTreeSet<usize> {
    let mut tears = BTreeSet::from([1, length / 2, length.saturating_sub(1)]);
    let to_edge = SECTOR_BYTES - at % SECTOR_BYTES;
    let edges = (0..).map(|n| to_edge + n * SECTOR_BYTES);
    tears.extend(
        edges
            .filter_map(|edge| usize::try_from(edge).ok())
            .take_while(|edge| *edge < length),
    );
    tears.retain(|tear| *tear > 0 && *tear < length);
    tears
}

/// Some of everything: of each file and folder as much as the dice say. The same at each run.
fn mixed(disk: &Disk, seed: u64) -> Choice {
    let mut dice = DefaultHasher::new();
    seed.hash(&mut dice);
    let mut roll = |most: usize| {
        most.hash(&mut dice);
        usize::try_from(dice.finish() % (most as u64 + 1)).unwrap_or(0)
    };
    let mut choice = Choice::default();
    for (id, file) in &disk.files {
        let kept = Kept::First(roll(file.pending.len()));
        choice.files.insert(*id, kept);
    }
    for (path, folder) in &disk.folders {
        choice.folders.insert(path.clone(), roll(folder.pending()));
    }
    choice
}

fn choices(disk: &Disk, event: &Event, number: usize) -> Vec<(Choice, String)> {
    let mut choices = Vec::new();
    let mut add = |choice: Choice, how: String| choices.push((choice, how));
    let whole = |all_files, all_names| Choice {
        all_files,
        all_names,
        ..Choice::default()
    };
    let (nothing, all) = (whole(false, false), whole(true, true));
    add(nothing.clone(), "only what was flushed".into());
    add(all.clone(), "all that was written".into());
    add(whole(true, false), "all bytes, flushed names".into());
    add(whole(false, true), "all names, flushed bytes".into());

    // The last write, torn, with and without the rest.
    if let Event::Written(file, at, bytes) = event {
        let before = disk.files[file].pending.len() - 1;
        let mut torn = vec![(Kept::Zeros(before), "length".to_owned())];
        for tear in tears(*at, bytes.len()) {
            torn.push((Kept::Begun(before, tear), format!("first {tear} bytes")));
            torn.push((Kept::Ended(before, tear), format!("bytes from {tear} on")));
        }
        for (kept, how) in torn {
            for (rest, with) in [
                (&all, "all else"),
                (&whole(false, true), "nothing else unflushed"),
            ] {
                let mut choice = rest.clone();
                choice.files.insert(*file, kept);
                add(choice, format!("the {how} of the last write, {with}"));
            }
        }
    }

    for n in 0..MIXED {
        let seed = number as u64 * MIXED + n;
        add(mixed(disk, seed), format!("some of everything ({seed})"));
    }

    let unflushed: Vec<_> = disk
        .files
        .iter()
        .filter(|(_, file)| !file.pending.is_empty())
        .collect();
    for (id, file) in &unflushed {
        let pending = file.pending.len();
        // Without regard to the other files.
        for (rest, kept, how) in [
            (whole(false, true), pending, "only this file's writes"),
            (all.clone(), 0, "all but this file's writes"),
        ] {
            let mut choice = rest;
            choice.files.insert(**id, Kept::First(kept));
            add(choice, format!("{how} (file {})", id.0));
        }
        // Out of order.
        let writes = |n: &usize| matches!(file.pending[*n], Change::Write(..));
        let lost: BTreeSet<usize> = [0, pending / 2, pending.saturating_sub(2)]
            .into_iter()
            .filter(writes)
            .collect();
        for n in lost.into_iter().filter(|n| n + 1 < pending) {
            let mut choice = all.clone();
            choice.files.insert(**id, Kept::Without(n));
            add(
                choice,
                format!("all but unflushed write {n} of file {}", id.0),
            );
        }
    }
    for (path, folder) in &disk.folders {
        for kept in 0..folder.pending() {
            for all_files in [false, true] {
                let mut choice = whole(all_files, true);
                choice.folders.insert(path.clone(), kept);
                let bytes = if all_files { "all" } else { "flushed" };
                add(
                    choice,
                    format!(
                        "{kept} changes of names in `{}`, {bytes} bytes",
                        path.display()
                    ),
                );
            }
        }
    }
    choices
}

fn told(event: &Event) -> String {
    match event {
        Event::Made(file, path) => format!("file {} made as {}", file.0, path.display()),
        Event::MadeFolder(path) => format!("folder {} made", path.display()),
        Event::Written(file, at, bytes) => {
            format!("file {} written, {} bytes at {at}", file.0, bytes.len())
        }
        Event::Cut(file, length) => format!("file {} cut to {length}", file.0),
        Event::Flushed(file, _) => format!("file {} flushed", file.0),
        Event::FlushedFolder(path) => format!("folder `{}` flushed", path.display()),
        Event::Renamed(from, to) => format!("{} renamed to {}", from.display(), to.display()),
        Event::Removed(path) => format!("{} removed", path.display()),
        Event::Mark(what, value) => format!("{what} {value}"),
    }
}

impl Stream {
    /// What happened, a line for each event: for the one who looks for the reason of a failure.
    #[must_use]
    pub fn story(&self) -> String {
        let lines = self.events.iter().enumerate();
        let lines = lines.map(|(number, event)| format!("{} {}\n", number + 1, told(event)));
        lines.collect()
    }

    /// All states that differ, in the order of the cuts.
    ///
    /// A state that can be left at several moments is told of once for each set of marks: what was
    /// promised may differ.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        self.states_after(|_| true)
    }

    /// As [`Self::states`], but cut only after events that `which` picks by what the story tells of
    /// them, and after so many before and behind each.
    #[must_use]
    pub fn states_near(&self, which: impl Fn(&str) -> bool, around: usize) -> Vec<State> {
        let mut near = BTreeSet::new();
        for (number, event) in self.events.iter().enumerate() {
            if which(&told(event)) {
                near.extend(number.saturating_sub(around)..=number + around);
            }
        }
        self.states_after(|number| near.contains(&number))
    }

    fn states_after(&self, looked_at: impl Fn(usize) -> bool) -> Vec<State> {
        let mut disk = self.disk();
        let mut hashes = Hashes::default();
        let mut marks: Arc<BTreeMap<&'static str, u64>> = Arc::default();
        let mut seen = BTreeSet::new();
        let mut states = Vec::new();
        for (number, event) in self.events.iter().enumerate() {
            if let Event::Mark(what, value) = event {
                Arc::make_mut(&mut marks).insert(*what, *value);
            }
            disk.apply(event);
            if !looked_at(number) {
                continue;
            }
            for (choice, how) in choices(&disk, event, number) {
                if seen.insert((hashes.of_image(&disk, &choice), marks.clone())) {
                    states.push(State {
                        at: number + 1,
                        choice,
                        how: format!("{}: {how}", told(event)).into(),
                        marks: marks.clone(),
                    });
                }
            }
        }
        states
    }

    /// Makes the image of each state, which must be in the order in which [`Self::states`] gave them.
    pub fn visit<'a>(
        &self,
        states: impl IntoIterator<Item = &'a State>,
        mut visit: impl FnMut(&State, Image),
    ) {
        let mut disk = self.disk();
        let mut at = 0;
        for state in states {
            while at < state.at {
                disk.apply(&self.events[at]);
                at += 1;
            }
            assert_eq!(at, state.at, "states in the order of the stream");
            visit(state, disk.image(&state.choice));
        }
    }

    /// As [`Self::visit`], on a few threads at once, each with its number.
    pub fn visit_on(
        &self,
        threads: usize,
        states: &[State],
        visit: impl Fn(usize, &State, Image) + Sync,
    ) {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let visit = &visit;
                scope.spawn(move || {
                    let own = states.iter().skip(thread).step_by(threads);
                    self.visit(own, |state, image| visit(thread, state, image));
                });
            }
        });
    }
}
