//! The recipe for adding a kind is followed: a copy of the sources gets the file and the line that
//! `docs/adding-a-kind.md` shows, and has to pass all that the model asks of a kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Copies what Cargo reads of the workspace; not what it made.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let name = entry.file_name().into_string().unwrap();
        if source.is_dir() {
            if name != "target" && !name.starts_with('.') {
                copy(&source, &target);
            }
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}

/// The code that stands in the recipe: the file, and the line.
fn recipe() -> (String, String) {
    let text = fs::read_to_string(root().join("docs/adding-a-kind.md")).unwrap();
    let blocks: Vec<&str> = text
        .split("```rust\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    let [file, line] = blocks[..] else {
        panic!(
            "a file and a line are expected, not {} pieces",
            blocks.len()
        );
    };
    (file.to_owned(), line.to_owned())
}

#[test]
fn a_kind_is_one_file_and_one_line() {
    let (file, line) = recipe();
    let place = root().join("target/recipe");
    let sources = place.join("sources");
    let _ = fs::remove_dir_all(&sources);
    for top in [
        "agent",
        "controller",
        "crates",
        "packaging",
        "proto",
        "tests",
    ] {
        copy(&root().join(top), &sources.join(top));
    }
    for name in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root().join(name), sources.join(name)).unwrap();
    }

    let module = line.trim().split("::").next().unwrap();
    let kinds = sources.join("crates/model/src/kinds");
    fs::write(kinds.join(format!("{module}.rs")), file).unwrap();
    let list = sources.join("crates/model/src/kinds.rs");
    let before = fs::read_to_string(&list).unwrap();
    let (head, rest) = before.split_once("\nkinds! {\n").unwrap();
    let (listed, tail) = rest.split_once("\n}\n").unwrap();
    let after = format!("{head}\nkinds! {{\n{listed}\n{line}}}\n{tail}");
    fs::write(&list, after).unwrap();

    let done = Command::new(env!("CARGO"))
        .args([
            "test",
            "--offline",
            "--locked",
            "--package",
            "virtflow-model",
        ])
        .args(["--lib", "--quiet"])
        .current_dir(&sources)
        .env("CARGO_TARGET_DIR", place.join("target"))
        // Nobody debugs it, and it is built once.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .env("CARGO_INCREMENTAL", "0")
        .output()
        .unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        done.status.success(),
        "{}{}",
        told(&done.stdout),
        told(&done.stderr)
    );
    let said = told(&done.stdout);
    let is_tested = said.contains("test result: ok.") && !said.contains("ok. 0 passed");
    assert!(is_tested, "{said}");
}
