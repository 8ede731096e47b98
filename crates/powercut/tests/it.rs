//! What is recorded, and which states follow from it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use virtflow_powercut::{Image, Recorder, Stream, sample};

/// Everything that may be left, each as `name=content name=content`.
fn left(stream: &Stream) -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    stream.visit(&stream.states(), |_, image| {
        left.insert(text(&image));
    });
    left
}

fn text(image: &Image) -> String {
    let files = image.files().iter();
    let files = files.map(|(path, bytes)| format!("{}={}", path.display(), bytes.escape_ascii()));
    files.collect::<Vec<_>>().join(" ")
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn every_way_to_change_a_file_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("old"), "0123456789").unwrap();
    let recorder = Recorder::start(dir.path());
    let path = |name: &str| recorder.root().join(name);
    let mut file = File::create(path("a")).unwrap();
    file.write_all(b"one").unwrap();
    let slices = &[IoSlice::new(b"two"), IoSlice::new(b"three")];
    assert_eq!(file.write_vectored(slices).unwrap(), 8);
    file.write_all_at(b"XY", 1).unwrap();
    file.set_len(9).unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    file.write_all(b"Z").unwrap();
    let mut appending = OpenOptions::new().append(true).open(path("old")).unwrap();
    appending.write_all(b"ten").unwrap();
    appending.sync_data().unwrap();
    fs::create_dir(path("within")).unwrap();
    fs::write(path("within/b"), "b").unwrap();
    fs::rename(path("within/b"), path("within/c")).unwrap();
    fs::write(path("gone"), "gone").unwrap();
    fs::remove_file(path("gone")).unwrap();
    // Into a file that has no name any more.
    let mut nameless = File::create(path("nameless")).unwrap();
    fs::remove_file(path("nameless")).unwrap();
    nameless.write_all(b"nobody").unwrap();
    let root = recorder.root().to_owned();
    let stream = recorder.finish();
    assert!(stream.changes() > 15);
    let told = "\n12 within/b renamed to within/c\n";
    assert!(stream.story().contains(told), "{}", stream.story());
    assert_eq!(
        text(&Image::read(&root)),
        "a=oXYtZothr old=0123456789ten within/c=b"
    );
}

#[test]
#[should_panic(expected = "recorded otherwise than it is")]
fn a_change_that_was_not_seen_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path());
    // Another process: nothing of it passes by here.
    let path = recorder.root().join("a");
    let done = std::process::Command::new("touch").arg(path).status();
    assert!(done.unwrap().success());
    let _ = recorder.finish();
}

#[test]
#[should_panic(expected = "recorded otherwise than it is, event")]
fn bytes_that_passed_by_are_noticed_at_the_flush() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "bytes").unwrap();
    let recorder = Recorder::start(dir.path());
    // Within the kernel, with none of the calls that are looked at.
    let (a, b) = (recorder.root().join("a"), recorder.root().join("b"));
    fs::copy(a, &b).unwrap();
    File::open(&b).unwrap().sync_all().unwrap();
    fs::remove_file(b).unwrap();
    let _ = recorder.finish();
}

#[test]
fn a_recording_begins_at_one_moment_of_a_folder_in_use() {
    const FILES: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<File> = (0..FILES)
        .map(|n| File::create(dir.path().join(format!("{n:03}"))).unwrap())
        .collect();
    // Round by round through all files: of two, the first is never behind, nor ahead by more than one.
    let ended = AtomicBool::new(false);
    let write = || {
        // Also ends if what it is written for fails.
        for round in 0..100_000_u64 {
            for file in &files {
                file.write_all_at(&round.to_le_bytes(), 0).unwrap();
            }
            if ended.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    let stream = std::thread::scope(|scope| {
        scope.spawn(write);
        let is_written = || files.iter().all(|file| file.metadata().unwrap().len() == 8);
        while !is_written() {
            std::thread::yield_now();
        }
        let recorder = Recorder::start(dir.path());
        recorder.mark("begun", 1);
        ended.store(true, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(50));
        recorder.finish()
    });
    let begun = stream.states_near(|told| told == "begun 1", 0);
    let first: Vec<_> = begun
        .iter()
        .filter(|state| state.is_flushed_only())
        .collect();
    assert_eq!(first.len(), 1);
    stream.visit(first, |_, image| {
        let rounds = image.files().values().map(|bytes| {
            let bytes: [u8; 8] = bytes.as_ref().try_into().unwrap();
            u64::from_le_bytes(bytes)
        });
        let rounds: Vec<u64> = rounds.collect();
        assert!(rounds.is_sorted_by(|a, b| a >= b), "{rounds:?}");
        assert!(rounds[0] - rounds[FILES - 1] <= 1, "{rounds:?}");
    });
}

#[test]
fn what_was_flushed_stays_and_the_rest_comes_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path());
    let mut file = File::create(recorder.root().join("a")).unwrap();
    file.write_all(b"AB").unwrap();
    file.sync_all().unwrap();
    File::open(recorder.root()).unwrap().sync_all().unwrap();
    file.write_all(b"CD").unwrap();
    file.write_all(b"EF").unwrap();
    let expected = [
        // Made, written, flushed; its name not yet.
        "",
        "a=",
        "a=A",
        "a=\\x00B",
        "a=\\x00\\x00",
        "a=AB",
        // Behind the flush.
        "a=ABC",
        "a=AB\\x00D",
        "a=AB\\x00\\x00",
        "a=ABCD",
        "a=ABCDE",
        "a=ABCD\\x00F",
        "a=ABCD\\x00\\x00",
        "a=ABCDEF",
        // The later write without the one before.
        "a=AB\\x00\\x00EF",
    ];
    assert_eq!(left(&recorder.finish()), set(&expected));
}

#[test]
fn a_rename_is_whole_and_files_are_kept_without_regard_to_each_other() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("name"), "old").unwrap();
    fs::write(dir.path().join("other"), "1").unwrap();
    let recorder = Recorder::start(dir.path());
    let (new, name) = (recorder.root().join("new"), recorder.root().join("name"));
    fs::write(&new, "N").unwrap();
    fs::rename(&new, &name).unwrap();
    fs::write(recorder.root().join("other"), "").unwrap();
    let found = left(&recorder.finish());
    // The new content was not flushed before it was given the name: that is seen.
    let must = [
        "name=old other=1",
        "name= other=1",
        "name=N other=1",
        "name= other=",
        "name=N other=",
    ];
    assert!(found.is_superset(&set(&must)), "{found:?}");
    let names = [
        "name=old",
        "name=old new=",
        "name=old new=N",
        "name=old new=\\x00",
        "name=",
        "name=N",
    ];
    let may = names
        .iter()
        .flat_map(|names| ["1", ""].map(|other| format!("{names} other={other}")));
    assert!(found.is_subset(&may.collect()), "{found:?}");
}

#[test]
fn a_write_is_torn_at_the_edges_of_sectors() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), [b'a'; 2000]).unwrap();
    let recorder = Recorder::start(dir.path());
    let file = OpenOptions::new()
        .write(true)
        .open(recorder.root().join("a"));
    file.unwrap().write_all_at(&[b'b'; 1000], 300).unwrap();
    let stream = recorder.finish();
    let mut begun = BTreeSet::new();
    stream.visit(&stream.states(), |_, image| {
        let bytes = &image.files()[Path::new("a")];
        assert!(bytes.len() == 2000);
        begun.insert(
            bytes[300..]
                .iter()
                .take_while(|byte| **byte == b'b')
                .count(),
        );
    });
    assert_eq!(begun, BTreeSet::from([0, 1, 212, 500, 724, 999, 1000]));
}

#[test]
fn marks_stand_where_they_were_made_and_a_sample_is_spread() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path());
    let file = File::create(recorder.root().join("a")).unwrap();
    for n in 0..10 {
        file.write_all_at(b"x", n).unwrap();
        file.sync_all().unwrap();
        recorder.mark("promised", n + 1);
    }
    File::open(recorder.root()).unwrap().sync_all().unwrap();
    let stream = recorder.finish();
    let states = stream.states();
    let mut promised = BTreeSet::new();
    stream.visit(&states, |state, image| {
        let bytes = image
            .files()
            .get(Path::new("a"))
            .map_or(0, |bytes| bytes.len() as u64);
        // The name is flushed at the end alone; until then the file may be missing whole.
        assert!(
            bytes == 0 || bytes >= state.mark("promised").unwrap_or(0),
            "{state}"
        );
        promised.insert(state.mark("promised"));
    });
    assert_eq!(promised.len(), 11);
    let some = sample(&states, 7);
    assert!(
        (5..=7).contains(&some.len()),
        "{} of {}",
        some.len(),
        states.len()
    );
    stream.visit(&some, |_, _| {});
}
