//! Every decoder that is listed is tried, and every one that is tried is listed and documented.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use virtflow_testkit::fuzz::TARGETS;

/// What the sources say of a target: its name, its package and the path of its test.
type Found = (String, String, String);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn packages() -> Vec<PathBuf> {
    let mut found = vec![root().join("agent"), root().join("controller")];
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        found.push(entry.unwrap().path());
    }
    // The kit's own tests try the engine, not a decoder.
    found.retain(|path| !path.ends_with("testkit"));
    found
}

fn fuzz_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fuzz_files(&path, found);
        } else if path.ends_with("fuzz.rs") {
            found.push(path);
        }
    }
}

/// The module that a file of the library is; nothing for an integration test.
fn module_of(package: &Path, file: &Path) -> String {
    let Ok(inside) = file.strip_prefix(package.join("src")) else {
        return String::new();
    };
    let path = inside.with_extension("");
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
    parts.join("::") + "::"
}

fn targets_in(package: &Path) -> Vec<Found> {
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = "));
    let name = name.unwrap().trim_matches('"').to_owned();
    let mut files = Vec::new();
    fuzz_files(&package.join("src"), &mut files);
    fuzz_files(&package.join("tests"), &mut files);
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let module = module_of(package, &file);
        let mut test = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("fn ") {
                test = rest.split('(').next().unwrap();
            }
            if let Some((_, rest)) = line.split_once("Target::new(\"") {
                let target = rest.split('"').next().unwrap().to_owned();
                found.push((target, name.clone(), format!("{module}{test}")));
            }
        }
    }
    found
}

#[test]
fn every_decoder_is_tried_listed_and_documented() {
    let tried: BTreeSet<Found> = packages().iter().flat_map(|p| targets_in(p)).collect();
    let listed: BTreeSet<Found> = TARGETS
        .iter()
        .map(|l| (l.name.to_owned(), l.package.to_owned(), l.test.to_owned()))
        .collect();
    assert_eq!(tried, listed);
    let names: BTreeSet<&str> = TARGETS.iter().map(|listed| listed.name).collect();
    assert_eq!(names.len(), TARGETS.len(), "a name stands twice");

    let docs = fs::read_to_string(root().join("docs/fuzzing.md")).unwrap();
    let rows: BTreeSet<String> = docs
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .collect();
    let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
    assert_eq!(rows, names, "docs/fuzzing.md");
}

#[test]
fn every_kept_input_belongs_to_a_target() {
    let folder = root().join("tests/fuzz");
    let mut kept = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(
            TARGETS.iter().any(|l| l.name == name),
            "{name} is no target"
        );
        kept += fs::read_dir(entry.path()).unwrap().count();
    }
    assert!(kept > 0);
}
