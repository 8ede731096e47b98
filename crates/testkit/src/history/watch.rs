//! Watch streams: every committed change once, in order, or the word that one must look anew.
//!
//! Checked: each event is the next change of the log under the watcher's prefix; after an interruption
//! the stream goes on behind the resume point, and that point leaves nothing out; a resync shows the
//! state as it was at its index and never goes back; where the stream says how far it is, nothing up to
//! there is missing.
//!
//! Not checked: when an event came. A watcher that is only slow is right; let the run end with a
//! [`Event::Progress`] to show that it came to the end.

use std::fmt;

use super::log::Log;
use super::operation::{Image, told};
use super::replay::{Place, Placed, Replay, gaps};

/// What one watcher was told, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    /// Who watched.
    pub watcher: String,
    /// The keys watched begin so; empty for all.
    pub prefix: String,
    /// What came.
    pub events: Vec<Event>,
}

/// One thing that a watcher did or was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The watcher asked, first or again, for all changes above this index.
    Resumed {
        /// The index.
        after: u64,
    },
    /// A key changed.
    Changed {
        /// Where.
        index: u64,
        /// The key.
        key: String,
        /// What it is now; `None`: deleted.
        version: Option<String>,
    },
    /// What the watcher knows is void. This is the state at an index, and changes go on from there.
    Resync {
        /// The index.
        index: u64,
        /// All that exists under the prefix.
        state: Image,
    },
    /// Everything up to this index has been told.
    Progress {
        /// The index.
        index: u64,
    },
}

/// What is wrong with a stream, first of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose.
    pub watcher: String,
    /// The place in its stream.
    pub event: usize,
    /// What.
    pub kind: FaultKind,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// A change was left out.
    Gap {
        /// Where it stands in the log.
        index: u64,
        /// Its key.
        key: String,
    },
    /// A change came again without a resume before it.
    Duplicate {
        /// Where it stands in the log.
        index: u64,
        /// Its key.
        key: String,
    },
    /// A change came before one that stands before it in the log and came later.
    OutOfOrder {
        /// Where the later one stands.
        index: u64,
        /// Its key.
        key: String,
        /// Where the one that was due stands.
        due: u64,
    },
    /// The log holds no such change.
    Phantom {
        /// Where it should stand.
        index: u64,
        /// The key.
        key: String,
        /// What it should be.
        version: Option<String>,
    },
    /// A resync shows something else than the log at its index.
    WrongState {
        /// The index.
        index: u64,
        /// A key that differs.
        key: String,
        /// What the watcher was told.
        told: Option<String>,
        /// What the log says.
        model: Option<String>,
    },
    /// A resync, or progress, goes back behind what had been told.
    WentBack {
        /// To here.
        index: u64,
        /// From here.
        from: u64,
    },
    /// An index above the log's end, or below its beginning.
    OutsideLog {
        /// The index.
        index: u64,
    },
    /// Events came before the watcher had asked for any.
    NotAsked,
    /// The log itself has a gap and is no witness.
    LogGap,
}

/// The first fault of one stream.
///
/// # Errors
/// Says what the fault is; later ones may only follow from it.
pub fn check(stream: &Stream, log: &Log) -> Result<(), Fault> {
    let fault = |(event, kind)| Fault {
        watcher: stream.watcher.clone(),
        event,
        kind,
    };
    if !gaps(log).is_empty() {
        return Err(fault((0, FaultKind::LogGap)));
    }
    let (replay, _) = Replay::new(log);
    let changes = replay.changes(Place::end_of(log.after), Place::end_of(replay.end));
    let mut reader = Reader {
        stream,
        replay: &replay,
        due: changes
            .iter()
            .filter(|change| change.key.starts_with(&stream.prefix))
            .collect(),
        position: None,
    };
    for (number, event) in stream.events.iter().enumerate() {
        reader
            .take(number, event)
            .map_err(|kind| fault((number, kind)))?;
    }
    Ok(())
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// The next change in `due`.
    next: usize,
    /// The highest index that is known to be complete or has been told of.
    index: u64,
}

struct Reader<'a> {
    stream: &'a Stream,
    replay: &'a Replay<'a>,
    due: Vec<&'a Placed<'a>>,
    /// `None` until the watcher has asked.
    position: Option<Position>,
}

impl Reader<'_> {
    fn take(&mut self, number: usize, event: &Event) -> Result<(), FaultKind> {
        let known = self.replay.after..=self.replay.end;
        let (Event::Resumed { after: index }
        | Event::Changed { index, .. }
        | Event::Resync { index, .. }
        | Event::Progress { index }) = event;
        if !known.contains(index) {
            return Err(FaultKind::OutsideLog { index: *index });
        }
        let (next, index) = match event {
            Event::Resumed { after } => (self.resumed(*after)?, *after),
            Event::Changed {
                index,
                key,
                version,
            } => (
                self.changed(number, *index, key, version.as_deref())?,
                *index,
            ),
            Event::Resync { index, state } => (self.resync(*index, state)?, *index),
            Event::Progress { index } => (self.progress(*index)?, *index),
        };
        self.position = Some(Position { next, index });
        Ok(())
    }

    /// To ask again for what one knows is allowed, to leave something out is not.
    fn resumed(&self, after: u64) -> Result<usize, FaultKind> {
        let next = self.first_above(after);
        match self.position {
            Some(position) if position.next < next => Err(self.gap(position.next)),
            _ => Ok(next),
        }
    }

    fn changed(
        &self,
        number: usize,
        index: u64,
        key: &str,
        version: Option<&str>,
    ) -> Result<usize, FaultKind> {
        let Position { next, .. } = self.position.ok_or(FaultKind::NotAsked)?;
        let is_this = |change: &&Placed<'_>| {
            (change.place.index, change.key, change.value) == (index, key, version)
        };
        // One entry may give a key the same version twice: the one that is due comes first.
        let ahead = self.due[next..].iter().position(is_this);
        let Some(ahead) = ahead else {
            let key = key.to_owned();
            return Err(match self.due[..next].iter().any(is_this) {
                true => FaultKind::Duplicate { index, key },
                false => FaultKind::Phantom {
                    index,
                    key,
                    version: version.map(str::to_owned),
                },
            });
        };
        if ahead == 0 {
            return Ok(next + 1);
        }
        let due = self.due[next];
        Err(match self.comes_later(number, due) {
            true => FaultKind::OutOfOrder {
                index,
                key: key.to_owned(),
                due: due.place.index,
            },
            false => self.gap(next),
        })
    }

    /// Whether a change comes later in the stream, before the watcher starts anew.
    fn comes_later(&self, number: usize, due: &Placed<'_>) -> bool {
        let rest = &self.stream.events[number + 1..];
        let is_start =
            |event: &&Event| matches!(event, Event::Resumed { .. } | Event::Resync { .. });
        let mut rest = rest.iter().take_while(|event| !is_start(event));
        rest.any(|event| match event {
            Event::Changed {
                index,
                key,
                version,
            } => (due.place.index, due.key, due.value) == (*index, key, version.as_deref()),
            _ => false,
        })
    }

    fn resync(&self, index: u64, state: &Image) -> Result<usize, FaultKind> {
        self.forward(index)?;
        let model = self.replay.image(&self.stream.prefix, index);
        let shown = state.keys().map(String::as_str);
        for key in self.replay.keys_and(&self.stream.prefix, shown) {
            let (shown, is) = (state.get(key).map(String::as_str), model.get(key).copied());
            if shown != is {
                return Err(FaultKind::WrongState {
                    index,
                    key: key.to_owned(),
                    told: shown.map(str::to_owned),
                    model: is.map(str::to_owned),
                });
            }
        }
        Ok(self.first_above(index))
    }

    fn progress(&self, index: u64) -> Result<usize, FaultKind> {
        let Position { next, .. } = self.position.ok_or(FaultKind::NotAsked)?;
        self.forward(index)?;
        match next < self.first_above(index) {
            true => Err(self.gap(next)),
            false => Ok(next),
        }
    }

    fn forward(&self, index: u64) -> Result<(), FaultKind> {
        match self.position {
            Some(position) if index < position.index => Err(FaultKind::WentBack {
                index,
                from: position.index,
            }),
            _ => Ok(()),
        }
    }

    fn first_above(&self, index: u64) -> usize {
        self.due
            .partition_point(|change| change.place.index <= index)
    }

    fn gap(&self, missing: usize) -> FaultKind {
        let change = self.due[missing];
        FaultKind::Gap {
            index: change.place.index,
            key: change.key.to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, event {}: ", self.watcher, self.event)?;
        match &self.kind {
            FaultKind::Gap { index, key } => {
                write!(f, "the change of {key} at index {index} was left out")
            }
            FaultKind::Duplicate { index, key } => {
                write!(f, "the change of {key} at index {index} came again")
            }
            FaultKind::OutOfOrder { index, key, due } => write!(
                f,
                "the change of {key} at index {index} came before that at index {due}"
            ),
            FaultKind::Phantom {
                index,
                key,
                version,
            } => write!(
                f,
                "{key} did not become {} at index {index}",
                told(version.as_deref())
            ),
            FaultKind::WrongState {
                index,
                key,
                told: shown,
                model,
            } => write!(
                f,
                "a resync at index {index} shows {key} as {}, it was {}",
                told(shown.as_deref()),
                told(model.as_deref())
            ),
            FaultKind::WentBack { index, from } => {
                write!(f, "it went back to index {index} from {from}")
            }
            FaultKind::OutsideLog { index } => write!(f, "the log has no index {index}"),
            FaultKind::NotAsked => f.write_str("it came before anything was asked for"),
            FaultKind::LogGap => f.write_str("the log has a gap and is no witness"),
        }
    }
}

impl std::error::Error for Fault {}
