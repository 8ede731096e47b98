//! Files as a disk holds them: what is flushed, and what is on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::record::{Event, left_out};

/// A file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub(crate) usize);

/// The content of a folder and of those within it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Arc<[u8]>>,
}

impl Image {
    /// What lies in a folder.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        Self::try_read(root).expect("a folder that a test made can be read")
    }

    pub(crate) fn try_read(root: &Path) -> io::Result<Self> {
        let mut image = Self::default();
        image.read_below(root, Path::new(""))?;
        Ok(image)
    }

    fn read_below(&mut self, root: &Path, within: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(within))? {
            let entry = entry?;
            let path = within.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.read_below(root, &path)?;
                self.folders.insert(path);
            } else if !left_out(&path) {
                self.files
                    .insert(path.clone(), fs::read(root.join(path))?.into());
            }
        }
        Ok(())
    }

    /// Puts it into a folder, in place of what that holds.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        fs::create_dir_all(root)?;
        for folder in &self.folders {
            fs::create_dir_all(root.join(folder))?;
        }
        for (path, bytes) in &self.files {
            fs::write(root.join(path), bytes)?;
        }
        Ok(())
    }

    /// The files, by their paths within the folder.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<PathBuf, Arc<[u8]>> {
        &self.files
    }

    /// The part below one folder.
    #[must_use]
    pub fn below(&self, folder: &Path) -> Self {
        let within = |path: &PathBuf| path.strip_prefix(folder).ok().map(Path::to_owned);
        Self {
            folders: self
                .folders
                .iter()
                .filter_map(within)
                .filter(|path| !path.as_os_str().is_empty())
                .collect(),
            files: self
                .files
                .iter()
                .filter_map(|(path, bytes)| Some((within(path)?, bytes.clone())))
                .collect(),
        }
    }

    pub(crate) fn difference(&self, other: &Self) -> Vec<String> {
        let mut differs: Vec<String> = self
            .folders
            .symmetric_difference(&other.folders)
            .map(|folder| format!("the folder {}", folder.display()))
            .collect();
        let paths: BTreeSet<_> = self.files.keys().chain(other.files.keys()).collect();
        for path in paths {
            let (here, there) = (self.files.get(path), other.files.get(path));
            if here != there {
                let size = |bytes: Option<&Arc<[u8]>>| bytes.map(|bytes| bytes.len());
                differs.push(format!(
                    "{}: {:?} bytes against {:?}",
                    path.display(),
                    size(here),
                    size(there)
                ));
            }
        }
        differs
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write(u64, Arc<[u8]>),
    Cut(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File(FileId),
    Folder,
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(OsString, Entry),
    Rename(OsString, OsString),
    Remove(OsString),
}

#[derive(Debug, Default)]
pub(crate) struct File {
    flushed: Vec<u8>,
    pub(crate) pending: Vec<Change>,
    /// Grows with each change: what was worked out for another version is stale.
    pub(crate) version: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Folder {
    flushed: BTreeMap<OsString, Entry>,
    pending: Vec<NameChange>,
}

/// Which of a file's unflushed changes are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kept {
    /// So many from the beginning.
    First(usize),
    /// As above, and of the next write its first bytes.
    Begun(usize, usize),
    /// As above, and of the next write its last bytes, from one on.
    Ended(usize, usize),
    /// As above, and of the next write only how far it reached.
    Zeros(usize),
    /// All but this one.
    Without(usize),
}

/// What is left of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Of files not named, all or nothing.
    pub(crate) all_files: bool,
    pub(crate) files: BTreeMap<FileId, Kept>,
    /// Of folders not named, all or nothing.
    pub(crate) all_names: bool,
    pub(crate) folders: BTreeMap<PathBuf, usize>,
}

impl File {
    pub(crate) fn content(&self, kept: Kept) -> Vec<u8> {
        let mut bytes = self.flushed.clone();
        let (first, skipped) = match kept {
            Kept::First(n) | Kept::Begun(n, _) | Kept::Ended(n, _) | Kept::Zeros(n) => {
                (n, usize::MAX)
            }
            Kept::Without(n) => (self.pending.len(), n),
        };
        for (n, change) in self.pending.iter().take(first).enumerate() {
            if n != skipped {
                apply(&mut bytes, change, 0, usize::MAX);
            }
        }
        if let Some(change @ Change::Write(at, data)) = self.pending.get(first) {
            match kept {
                Kept::First(_) | Kept::Without(_) => {}
                Kept::Begun(_, until) => apply(&mut bytes, change, 0, until),
                Kept::Ended(_, from) => apply(&mut bytes, change, from, usize::MAX),
                Kept::Zeros(_) => {
                    let end = size(*at) + data.len();
                    if end > bytes.len() {
                        bytes.resize(end, 0);
                    }
                }
            }
        }
        bytes
    }
}

fn size(offset: u64) -> usize {
    usize::try_from(offset).expect("files of tests are small")
}

fn apply(bytes: &mut Vec<u8>, change: &Change, from: usize, until: usize) {
    match change {
        Change::Cut(length) => bytes.resize(size(*length), 0),
        Change::Write(at, data) => {
            let data = &data[from.min(data.len())..until.min(data.len())];
            let begin = size(*at) + from;
            if begin + data.len() > bytes.len() {
                bytes.resize(begin + data.len(), 0);
            }
            bytes[begin..begin + data.len()].copy_from_slice(data);
        }
    }
}

impl Folder {
    fn content(&self, kept: usize) -> BTreeMap<OsString, Entry> {
        let mut names = self.flushed.clone();
        for change in self.pending.iter().take(kept) {
            match change {
                NameChange::Add(name, entry) => {
                    names.insert(name.clone(), entry.clone());
                }
                NameChange::Rename(from, to) => {
                    if let Some(entry) = names.remove(from) {
                        names.insert(to.clone(), entry);
                    }
                }
                NameChange::Remove(name) => {
                    names.remove(name);
                }
            }
        }
        names
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }
}

/// All files and folders at one moment.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<FileId, File>,
    pub(crate) folders: BTreeMap<PathBuf, Folder>,
}

fn split(path: &Path) -> (PathBuf, OsString) {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().expect("what is recorded has a name");
    (folder.to_owned(), name.to_owned())
}

impl Disk {
    pub(crate) fn new(before: &Image) -> Self {
        let mut disk = Self {
            files: BTreeMap::new(),
            folders: BTreeMap::from([(PathBuf::new(), Folder::default())]),
        };
        for path in &before.folders {
            disk.folders.entry(path.clone()).or_default();
            let (folder, name) = split(path);
            let folder = disk.folders.entry(folder).or_default();
            folder.flushed.insert(name, Entry::Folder);
        }
        for (number, (path, bytes)) in before.files.iter().enumerate() {
            let file = File {
                flushed: bytes.to_vec(),
                ..File::default()
            };
            disk.files.insert(FileId(number), file);
            let (folder, name) = split(path);
            let folder = disk.folders.entry(folder).or_default();
            folder.flushed.insert(name, Entry::File(FileId(number)));
        }
        disk
    }

    fn name(&mut self, folder: PathBuf, change: NameChange) {
        self.folders.entry(folder).or_default().pending.push(change);
    }

    fn change(&mut self, file: FileId, change: Change) {
        let file = self.files.entry(file).or_default();
        file.version += 1;
        file.pending.push(change);
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Made(file, path) => {
                self.files.entry(*file).or_default();
                let (folder, name) = split(path);
                self.name(folder, NameChange::Add(name, Entry::File(*file)));
            }
            Event::MadeFolder(path) => {
                self.folders.entry(path.clone()).or_default();
                let (folder, name) = split(path);
                self.name(folder, NameChange::Add(name, Entry::Folder));
            }
            Event::Written(file, at, bytes) => {
                self.change(*file, Change::Write(*at, bytes.clone()))
            }
            Event::Cut(file, length) => self.change(*file, Change::Cut(*length)),
            Event::Flushed(file, _) => {
                let file = self.files.entry(*file).or_default();
                file.flushed = file.content(Kept::First(usize::MAX));
                file.version += 1;
                file.pending.clear();
            }
            Event::FlushedFolder(path) => {
                let folder = self.folders.entry(path.clone()).or_default();
                folder.flushed = folder.content(usize::MAX);
                folder.pending.clear();
            }
            Event::Renamed(from, to) => {
                let (folder, from) = split(from);
                let (_, to) = split(to);
                self.name(folder, NameChange::Rename(from, to));
            }
            Event::Removed(path) => {
                let (folder, name) = split(path);
                self.name(folder, NameChange::Remove(name));
            }
            Event::Mark(..) => {}
        }
    }

    /// Everything, flushed or not.
    pub(crate) fn all(&self) -> Image {
        self.image(&Choice {
            all_files: true,
            all_names: true,
            ..Choice::default()
        })
    }

    pub(crate) fn kept(&self, choice: &Choice, file: FileId) -> Kept {
        let whole = if choice.all_files { usize::MAX } else { 0 };
        choice
            .files
            .get(&file)
            .copied()
            .unwrap_or(Kept::First(whole))
    }

    /// The names that are left, with the files they stand for.
    pub(crate) fn names(&self, choice: &Choice) -> (BTreeSet<PathBuf>, BTreeMap<PathBuf, FileId>) {
        let (mut folders, mut files) = (BTreeSet::new(), BTreeMap::new());
        let mut open = vec![PathBuf::new()];
        while let Some(path) = open.pop() {
            let Some(folder) = self.folders.get(&path) else {
                continue;
            };
            let whole = if choice.all_names { usize::MAX } else { 0 };
            let kept = choice.folders.get(&path).copied().unwrap_or(whole);
            for (name, entry) in folder.content(kept) {
                let path = path.join(name);
                match entry {
                    Entry::File(file) => {
                        files.insert(path, file);
                    }
                    Entry::Folder => {
                        folders.insert(path.clone());
                        open.push(path);
                    }
                }
            }
        }
        (folders, files)
    }

    pub(crate) fn image(&self, choice: &Choice) -> Image {
        let (folders, names) = self.names(choice);
        let content = |(path, file): (PathBuf, FileId)| {
            let bytes = self.files[&file].content(self.kept(choice, file));
            (path, bytes.into())
        };
        Image {
            folders,
            files: names.into_iter().map(content).collect(),
        }
    }
}
