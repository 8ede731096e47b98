//! From calls to a stream of changes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, OFlags, Stat};

use crate::disk::{Disk, FileId, Image, Kept};
use crate::intercept;

/// How many recordings run: without any, a call passes at the cost of looking here.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static RECORDINGS: Mutex<Recordings> = Mutex::new(Recordings(Vec::new()));
/// Calls that began before the recording was on pass without its lock; none takes as long as this.
const UNDER_WAY: Duration = Duration::from_millis(5);
/// So often the folder is read until it stays as it is.
const READINGS_MAX: usize = 1000;

thread_local! {
    /// While this thread holds the lock and reads the folder itself.
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// One thing that happened below the recorded folder. Paths are relative to it.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Made(FileId, PathBuf),
    MadeFolder(PathBuf),
    Written(FileId, u64, Arc<[u8]>),
    Cut(FileId, u64),
    /// With the length that the file has then.
    Flushed(FileId, u64),
    FlushedFolder(PathBuf),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
    Mark(&'static str, u64),
}

#[derive(Debug)]
struct Recording {
    root: PathBuf,
    events: Vec<Event>,
    /// Files by what the kernel knows them by, and by name.
    inodes: BTreeMap<(u64, u64), FileId>,
    names: BTreeMap<PathBuf, FileId>,
    files: usize,
    /// Something that cannot be told as events.
    wrong: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Recordings(Vec<Recording>);

fn recordings() -> MutexGuard<'static, Recordings> {
    RECORDINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn active() -> bool {
    RUNNING.load(Ordering::SeqCst) > 0 && !READING.get()
}

/// Looks at files on behalf of the recorder, whose lock is held: nobody else changes any meanwhile.
fn unnoted<T>(look: impl FnOnce() -> T) -> T {
    READING.set(true);
    let seen = look();
    READING.set(false);
    seen
}

/// What lies in the folder once the calls that were under way have returned; all later ones wait for
/// the lock, which the caller holds.
fn at_rest(root: &Path) -> Image {
    let mut last = None;
    for _ in 0..READINGS_MAX {
        // A file may have gone between being listed and being read.
        let seen = Image::try_read(root).ok();
        match seen {
            Some(seen) if last.as_ref() == Some(&seen) => return seen,
            seen => last = seen,
        }
        std::thread::sleep(UNDER_WAY);
    }
    panic!("{} does not come to rest", root.display());
}

/// Does something and notes it, with nothing else between.
pub(crate) fn noted<T>(act: impl FnOnce() -> T, note: impl FnOnce(&mut Recordings, &T)) -> T {
    let mut recordings = recordings();
    let done = act();
    note(&mut recordings, &done);
    done
}

pub(crate) fn is_file(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| kind_of(&stat) == FileType::RegularFile)
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Where the next write without a place goes.
pub(crate) fn place(file: BorrowedFd<'_>) -> u64 {
    let appends = rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    if appends {
        rustix::fs::fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
    } else {
        rustix::fs::tell(file).unwrap_or(0)
    }
}

fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Rebuilt after a crash and written through a memory map: no part of an image.
pub(crate) fn left_out(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-shm")
}

impl Recording {
    fn within<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.root)
            .ok()
            .filter(|path| !left_out(path))
    }

    fn file(&mut self, path: &Path, inode: (u64, u64)) -> FileId {
        let file = FileId(self.files);
        self.files += 1;
        self.inodes.insert(inode, file);
        self.names.insert(path.to_owned(), file);
        file
    }

    /// A file without a name: what is still written to it reaches nobody, and another may get its
    /// number from the kernel.
    fn forget(&mut self, file: FileId) {
        self.inodes.retain(|_, known| *known != file);
    }
}

impl Recordings {
    fn of_file(&mut self, file: BorrowedFd<'_>) -> Option<(&mut Recording, FileId)> {
        let inode = inode(&rustix::fs::fstat(file).ok()?);
        let recordings = self.0.iter_mut();
        let mut found = recordings.filter_map(|recording| {
            let file = *recording.inodes.get(&inode)?;
            Some((recording, file))
        });
        found.next()
    }

    pub(crate) fn opened(&mut self, path: &Path, flags: i32, file: BorrowedFd<'_>) {
        let Ok(stat) = rustix::fs::fstat(file) else {
            return;
        };
        if kind_of(&stat) != FileType::RegularFile {
            return;
        }
        let cut = flags.cast_unsigned() & OFlags::TRUNC.bits() != 0;
        for recording in &mut self.0 {
            let Some(path) = recording.within(path) else {
                continue;
            };
            if let Some(file) = recording.names.get(path) {
                let file = *file;
                if recording.inodes.get(&inode(&stat)) != Some(&file) {
                    recording.wrong = Some(format!("{} was replaced unseen", path.display()));
                }
                if cut {
                    recording.events.push(Event::Cut(file, 0));
                }
            } else {
                let path = path.to_owned();
                let file = recording.file(&path, inode(&stat));
                recording.events.push(Event::Made(file, path));
            }
        }
    }

    pub(crate) fn written(&mut self, file: BorrowedFd<'_>, at: u64, bytes: &[u8]) {
        if let Some((recording, file)) = self.of_file(file).filter(|_| !bytes.is_empty()) {
            recording
                .events
                .push(Event::Written(file, at, bytes.into()));
        }
    }

    pub(crate) fn cut(&mut self, file: BorrowedFd<'_>, length: u64) {
        if let Some((recording, file)) = self.of_file(file) {
            recording.events.push(Event::Cut(file, length));
        }
    }

    pub(crate) fn flushed(&mut self, file: BorrowedFd<'_>) {
        let length = rustix::fs::fstat(file).map_or(0, |stat| stat.st_size);
        if let Some((recording, file)) = self.of_file(file) {
            let length = u64::try_from(length).unwrap_or(0);
            recording.events.push(Event::Flushed(file, length));
            return;
        }
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let is_folder =
            rustix::fs::fstat(file).is_ok_and(|stat| kind_of(&stat) == FileType::Directory);
        if let Ok(path) = fs::read_link(name)
            && is_folder
        {
            for recording in &mut self.0 {
                if let Some(path) = recording.within(&path) {
                    let path = path.to_owned();
                    recording.events.push(Event::FlushedFolder(path));
                }
            }
        }
    }

    pub(crate) fn renamed(&mut self, from: &Path, to: &Path) {
        for recording in &mut self.0 {
            match (recording.within(from), recording.within(to)) {
                (None, None) => {}
                (Some(from), Some(to))
                    if from.parent() == to.parent() && recording.names.contains_key(from) =>
                {
                    let (from, to) = (from.to_owned(), to.to_owned());
                    if let Some(file) = recording.names.remove(&from)
                        && let Some(replaced) = recording.names.insert(to.clone(), file)
                    {
                        recording.forget(replaced);
                    }
                    recording.events.push(Event::Renamed(from, to));
                }
                _ => {
                    recording.wrong =
                        Some(format!("{} was moved to {}", from.display(), to.display()))
                }
            }
        }
    }

    pub(crate) fn removed(&mut self, path: &Path) {
        for recording in &mut self.0 {
            if let Some(path) = recording.within(path)
                && let Some(file) = recording.names.remove(path)
            {
                recording.forget(file);
                let path = path.to_owned();
                recording.events.push(Event::Removed(path));
            }
        }
    }

    pub(crate) fn made_folder(&mut self, path: &Path) {
        for recording in &mut self.0 {
            if let Some(path) = recording.within(path) {
                let path = path.to_owned();
                recording.events.push(Event::MadeFolder(path));
            }
        }
    }
}

/// Notes all that happens below one folder while it lives.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    before: Image,
}

impl Recorder {
    /// Begins. What lies in the folder now counts as flushed. Others may go on writing to it: they are
    /// held up while it is read, so that it is what it was at one moment.
    ///
    /// # Panics
    /// If the folder cannot be read, or the program was linked in a way that lets calls pass by.
    #[must_use]
    pub fn start(root: &Path) -> Self {
        let root = root.canonicalize().expect("the folder to record is there");
        let mut recordings = recordings();
        RUNNING.fetch_add(1, Ordering::SeqCst);
        let mut recording = Recording {
            root: root.clone(),
            events: Vec::new(),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            files: 0,
            wrong: None,
        };
        let before = unnoted(|| {
            let before = at_rest(&root);
            for path in before.files().keys() {
                let file = fs::File::open(root.join(path));
                let file = file.expect("a file that was just read is there");
                let stat = rustix::fs::fstat(&file).expect("an open file has its marks");
                recording.file(path, inode(&stat));
            }
            before
        });
        assert!(intercept::linked() > 0);
        recordings.0.push(recording);
        drop(recordings);
        let this = Self { root, before };
        this.probe();
        this
    }

    /// Looks whether a file that is made, written and removed is noted, and forgets it again.
    fn probe(&self) {
        let name = Path::new("probe");
        let probe = self.root.join(name);
        fs::write(&probe, "probe").expect("the folder can be written");
        fs::remove_file(&probe).expect("a file that was just made is there");
        let noted = self.with(|recording| {
            let made = recording.events.iter().find_map(|event| match event {
                Event::Made(file, path) if path == name => Some(*file),
                _ => None,
            });
            let of_probe = |event: &Event| match event {
                Event::Made(file, _) | Event::Written(file, ..) => Some(*file) == made,
                Event::Removed(path) => path == name,
                _ => false,
            };
            let events = std::mem::take(&mut recording.events);
            let (noted, others): (Vec<_>, _) = events.into_iter().partition(of_probe);
            recording.events = others;
            noted
        });
        assert!(
            matches!(
                noted.as_slice(),
                [Event::Made(..), Event::Written(..), Event::Removed(_)]
            ),
            "calls pass the recorder by: {noted:?}"
        );
    }

    fn with<T>(&self, act: impl FnOnce(&mut Recording) -> T) -> T {
        let mut recordings = recordings();
        let mut found = recordings.0.iter_mut();
        let own = found.find(|recording| recording.root == self.root);
        act(own.expect("a recording lasts as long as its recorder"))
    }

    /// Where it records.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes down that something is so from here on: what a promise says.
    pub fn mark(&self, what: &'static str, value: u64) {
        self.with(|recording| recording.events.push(Event::Mark(what, value)));
    }

    /// Ends, and looks whether what was recorded is what lies there.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn finish(self) -> Stream {
        let mut recordings = recordings();
        let own = recordings
            .0
            .iter()
            .position(|recording| recording.root == self.root);
        let recording = recordings
            .0
            .remove(own.expect("a recording lasts as long as its recorder"));
        let found = unnoted(|| Image::read(&self.root));
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        drop(recordings);
        assert_eq!(recording.wrong, None);
        let stream = Stream {
            before: self.before.clone(),
            // The probe's number stays unused.
            events: recording.events,
        };
        let mut disk = stream.disk();
        for (number, event) in stream.events.iter().enumerate() {
            disk.apply(event);
            if let Event::Flushed(file, length) = event {
                let played = disk.files[file].content(Kept::First(0)).len() as u64;
                assert_eq!(
                    played, *length,
                    "recorded otherwise than it is, event {number}: {event:?}"
                );
            }
        }
        let differs = disk.all().difference(&found);
        assert!(
            differs.is_empty(),
            "recorded otherwise than it is: {differs:?}"
        );
        stream
    }
}

/// Everything that happened, in order.
#[derive(Debug)]
pub struct Stream {
    before: Image,
    pub(crate) events: Vec<Event>,
}

impl Stream {
    pub(crate) fn disk(&self) -> Disk {
        Disk::new(&self.before)
    }

    /// Number of changes, marks not counted.
    #[must_use]
    pub fn changes(&self) -> usize {
        let marks = self
            .events
            .iter()
            .filter(|event| matches!(event, Event::Mark(..)));
        self.events.len() - marks.count()
    }
}
