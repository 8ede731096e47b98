//! What every source file is held to beyond what the compiler and clippy say.

use std::fs;
use std::path::{Path, PathBuf};

/// A file that grows past this is asked which two things it is.
const FILE_LIMIT_LINES: usize = 800;

/// A file longer than this opens with what it is for.
const SILENT_LIMIT_LINES: usize = 120;

/// Macros that mean "not done", split so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("To be ", "written"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["agent", "controller", "crates", "proto", "tests"] {
        collect(&root().join(top), &mut found);
    }
    assert!(found.len() > 20, "found only {} source files", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "proto") {
            found.push(path);
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let mut found = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            if UNFINISHED.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_file_outgrows_its_reader() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines > FILE_LIMIT_LINES).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "over {FILE_LIMIT_LINES} lines: {long:#?}");
}

#[test]
fn every_crate_and_every_larger_file_says_what_it_is_for() {
    let silent: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
            let is_test = path.ends_with("tests.rs");
            (is_root || (!is_test && text.lines().count() > SILENT_LIMIT_LINES))
                && !text.lines().any(|line| line.starts_with("//!"))
        })
        .collect();
    assert!(silent.is_empty(), "without a module comment: {silent:#?}");
}
