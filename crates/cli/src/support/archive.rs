//! The file: a folder of texts, packed, with a manifest of what is in it and what is not.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use virtflow_types::Timestamp;

use super::scrub;
use crate::failure::Failure;
use crate::interrupt;

/// The form of the manifest.
const FORMAT: u32 = 1;
/// The largest text of one file; of what is longer the end is kept.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A bundle that is being written. It is removed again unless it is finished.
pub(super) struct Archive {
    path: PathBuf,
    folder: String,
    made_at: Timestamp,
    tar: tar::Builder<GzEncoder<File>>,
    /// What may still be added.
    bytes_left: u64,
    bytes_max: u64,
    names: BTreeSet<String>,
    files: Vec<Value>,
    missing: Vec<Value>,
    is_whole: bool,
}

impl Archive {
    /// Begins one at `path`, which must not be there, readable for its owner only.
    pub(super) fn create(
        path: &Path,
        folder: &str,
        now: Timestamp,
        bytes_max: u64,
    ) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| {
                Failure::local(format!("cannot make {}: {error}", path.display()))
                    .advise("name another file with --out")
            })?;
        interrupt::writes(Some(path));
        Ok(Self {
            path: path.to_owned(),
            folder: folder.to_owned(),
            made_at: now,
            tar: tar::Builder::new(GzEncoder::new(file, Compression::default())),
            bytes_left: bytes_max,
            bytes_max,
            names: BTreeSet::new(),
            files: Vec::new(),
            missing: Vec::new(),
            is_whole: false,
        })
    }

    /// Whether a file of that name is in it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Notes what could not be had.
    pub(super) fn missing(&mut self, name: &str, why: impl Into<String>) {
        let why = scrub::text(&why.into());
        self.missing.push(json!({"file": name, "why": why}));
    }

    /// Adds what was told, or notes why it was not.
    pub(super) fn add_json(
        &mut self,
        name: &str,
        told: Result<Value, Failure>,
    ) -> Result<(), Failure> {
        match told {
            Ok(mut value) => {
                scrub::json(&mut value);
                self.add_text(name, &format!("{value:#}\n"))
            }
            Err(failure) => {
                self.missing(name, failure.message);
                Ok(())
            }
        }
    }

    /// Adds a text without the secrets in it.
    pub(super) fn add_text(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let text = scrub::text(text);
        let kept = end_of(&text, FILE_BYTES_MAX);
        let bytes = kept.len() as u64;
        if bytes > self.bytes_left {
            let why = format!(
                "it has {bytes} bytes, and all files together may have {}: raise --max-size",
                self.bytes_max
            );
            self.missing(name, why);
            return Ok(());
        }
        self.bytes_left -= bytes;
        self.names.insert(name.to_owned());
        let mut entry = json!({"file": name, "bytes": bytes});
        if kept.len() < text.len() {
            entry["cut_from_bytes"] = text.len().into();
        }
        self.files.push(entry);
        self.append(name, kept)
    }

    fn append(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.made_at.ms() / 1000);
        let name = format!("{}/{name}", self.folder);
        let appended = self.tar.append_data(&mut header, name, text.as_bytes());
        appended.map_err(|error| self.unwritten(&error))
    }

    fn unwritten(&self, error: &io::Error) -> Failure {
        Failure::local(format!("cannot write {}: {error}", self.path.display()))
    }

    /// Writes the manifest and what is still to be written. Gives the manifest.
    pub(super) fn finish(mut self, version: &str) -> Result<Value, Failure> {
        let manifest = json!({
            "format": FORMAT,
            "made_at": self.made_at,
            "made_by": format!("virtflow {version}"),
            "bytes_max": self.bytes_max,
            "files": self.files,
            "missing": self.missing,
        });
        self.append("manifest.json", &format!("{manifest:#}\n"))?;
        let flush = |tar: &mut tar::Builder<GzEncoder<File>>| -> io::Result<()> {
            tar.finish()?;
            tar.get_mut().try_finish()?;
            tar.get_mut().get_mut().flush()
        };
        flush(&mut self.tar).map_err(|error| self.unwritten(&error))?;
        self.is_whole = true;
        interrupt::writes(None);
        Ok(manifest)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A name that is no path.
pub(super) fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text: String = name
        .chars()
        .take(64)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    match text.trim_start_matches('.') {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    }
}

/// At most so many bytes from the end, from the beginning of a line if one begins there.
fn end_of(text: &str, bytes_max: usize) -> &str {
    let Some(mut from) = text.len().checked_sub(bytes_max) else {
        return text;
    };
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = &text[from..];
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(bytes_max: u64) -> (tempfile::TempDir, PathBuf, Archive) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.tar.gz");
        let archive = Archive::create(&path, "b", Timestamp::EPOCH, bytes_max).unwrap();
        (folder, path, archive)
    }

    #[test]
    fn what_is_beyond_the_limit_is_named_and_not_packed() {
        let (_folder, _, mut archive) = archive(10);
        archive.add_text("a", "12345678").unwrap();
        archive.add_text("b", "123").unwrap();
        archive.add_text("c", "12").unwrap();
        let manifest = archive.finish("1").unwrap();
        let files = manifest["files"].as_array().unwrap().iter();
        let names: Vec<_> = files.map(|file| file["file"].clone()).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(manifest["missing"][0]["file"], "b");
        let why = manifest["missing"][0]["why"].as_str().unwrap();
        assert!(
            why.starts_with("it has 3 bytes, and all files together may have 10"),
            "{why}"
        );
    }

    #[test]
    fn what_is_not_finished_is_not_left_and_what_is_there_is_not_touched() {
        let (_folder, path, archive) = archive(10);
        assert!(Archive::create(&path, "b", Timestamp::EPOCH, 10).is_err());
        assert!(path.exists());
        drop(archive);
        assert!(!path.exists());
    }

    #[test]
    fn of_what_is_long_the_last_lines_are_kept() {
        assert_eq!(end_of("one\ntwo\nthree\n", 100), "one\ntwo\nthree\n");
        assert_eq!(end_of("one\ntwo\nthree\n", 8), "three\n");
        assert_eq!(end_of("é", 1), "");
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        assert_eq!(file_name("c1.example"), "c1.example");
        assert_eq!(file_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(file_name(""), "unnamed");
    }
}
