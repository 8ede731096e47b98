//! Reading documents: YAML with several of them, JSON one after the other, files, folders, standard input. Nothing is
//! given on unless all of it can be read and has the form of its kind.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use virtflow_model::Kind;

use super::document::{Document, Place};
use super::shape::{Fitting, Shape};
use crate::failure::Failure;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Most files of one command.
const FILES_MAX: usize = 500;
/// Most documents of one command.
pub(crate) const DOCUMENTS_MAX: usize = 2000;
/// Endings of the files of a folder that are read.
const ENDINGS: &[&str] = &["yaml", "yml", "json"];

/// All documents of what was named, in its order.
pub(crate) fn all(named: &[&str]) -> Result<Vec<Document>, Failure> {
    if named.iter().filter(|path| **path == "-").count() > 1 {
        return Err(Failure::usage("standard input is named twice"));
    }
    let mut documents = Vec::new();
    for path in files(named)? {
        let text = crate::secret::read_document(&path, FILE_BYTES_MAX)?;
        let source = match path.as_str() {
            "-" => "standard input",
            path => path,
        };
        documents.extend(of_text(source, &text)?);
        if documents.len() > DOCUMENTS_MAX {
            return Err(
                Failure::usage(format!("more than {DOCUMENTS_MAX} documents"))
                    .advise("apply them in several commands"),
            );
        }
    }
    match documents.is_empty() {
        true => Err(Failure::usage(
            "there is no document in what was named with -f",
        )),
        false => Ok(documents),
    }
}

/// Files as they are named; those of a folder by their names, without what lies in folders below it.
fn files(named: &[&str]) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    for path in named {
        if *path == "-" || !Path::new(path).is_dir() {
            files.push((*path).to_owned());
            continue;
        }
        let unread = |error: std::io::Error| Failure::local(format!("cannot read {path}: {error}"));
        let mut within = Vec::new();
        for entry in fs::read_dir(path).map_err(unread)? {
            let entry = entry.map_err(unread)?.path();
            let ending = entry.extension().and_then(|ending| ending.to_str());
            let is_hidden = entry
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden || !ending.is_some_and(|it| ENDINGS.contains(&it)) || entry.is_dir() {
                continue;
            }
            let text = entry.to_str().ok_or_else(|| {
                Failure::local(format!("the name of {} is no UTF-8", entry.display()))
            })?;
            within.push(text.to_owned());
            if within.len() > FILES_MAX {
                break;
            }
        }
        if within.is_empty() {
            return Err(Failure::usage(format!(
                "the folder {path} has no file that ends in .yaml, .yml or .json"
            )));
        }
        within.sort_unstable();
        files.append(&mut within);
    }
    match files.len() > FILES_MAX {
        true => Err(Failure::usage(format!("more than {FILES_MAX} files"))),
        false => Ok(files),
    }
}

/// The documents of one text.
pub(crate) fn of_text(source: &str, text: &str) -> Result<Vec<Document>, Failure> {
    let is_json = source.ends_with(".json");
    if is_json || text.trim_start().starts_with(['{', '[']) {
        match of_json(source, text) {
            // Braces may begin YAML, too.
            Err(_) if !is_json && serde_json::from_str::<IgnoredAny>(text).is_err() => {}
            done => return done,
        }
    }
    let mut documents = Vec::new();
    for (before, (line, piece)) in pieces(text).into_iter().enumerate() {
        let number = before + 1;
        let at = |line: usize| Place {
            source: source.to_owned(),
            document: number,
            item: None,
            line,
        };
        let begins = line
            + piece
                .lines()
                .take_while(|line| !says_something(line))
                .count();
        let reader = || serde_yaml_ng::Deserializer::from_str(piece);
        let refuse = |error: serde_yaml_ng::Error| {
            let text = error.to_string();
            let Some(place) = error.location() else {
                return at(begins).refuse(text);
            };
            let ending = format!(" at line {} column {}", place.line(), place.column());
            at(line + place.line() - 1).refuse(text.replacen(&ending, "", 1))
        };
        let kinds = Kinds::deserialize(reader()).map_err(refuse)?;
        let shapes = kinds.shapes(&at(begins))?;
        let value = Whole(&shapes).deserialize(reader()).map_err(refuse)?;
        documents.extend(made(&at(begins), &kinds, value)?);
    }
    Ok(documents)
}

/// JSON values, one after the other.
fn of_json(source: &str, text: &str) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    let mut rest = text;
    let mut number = 0;
    while !rest.trim_start().is_empty() {
        number += 1;
        rest = rest.trim_start();
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let at = |line: usize| Place {
            source: source.to_owned(),
            document: number,
            item: None,
            line,
        };
        let refuse = |error: serde_json::Error| {
            let ending = format!(" at line {} column {}", error.line(), error.column());
            let line = line + error.line().max(1) - 1;
            at(line).refuse(error.to_string().replacen(&ending, "", 1))
        };
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Kinds>();
        let kinds = match values.next() {
            Some(kinds) => kinds.map_err(refuse)?,
            None => break,
        };
        let end = values.byte_offset();
        let shapes = kinds.shapes(&at(line))?;
        let mut reader = serde_json::Deserializer::from_str(rest);
        let value = Whole(&shapes).deserialize(&mut reader).map_err(refuse)?;
        documents.extend(made(&at(line), &kinds, value)?);
        rest = &rest[end..];
    }
    Ok(documents)
}

/// The documents of a YAML text with the lines they begin in. Only between documents may a line begin with `---`.
fn pieces(text: &str) -> Vec<(usize, &str)> {
    let mut begins = vec![(1, 0)];
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marks = line.strip_prefix("---");
        if marks.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            begins.push((number + 1, at));
        }
        at += line.len();
    }
    let ends = begins
        .iter()
        .skip(1)
        .map(|(_, end)| *end)
        .chain([text.len()]);
    begins
        .iter()
        .zip(ends)
        .map(|((line, begin), end)| (*line, &text[*begin..end]))
        .filter(|(_, piece)| piece.lines().any(says_something))
        .collect()
}

/// False for a line that is empty, a remark, an instruction to the reader, or the mark between documents.
fn says_something(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim();
    !(line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "...")
}

/// The kinds that a document names: of itself, or of each of its items.
#[derive(Debug)]
enum Kinds {
    One(Option<String>),
    Items(Vec<Option<String>>),
}

#[derive(Debug, Deserialize)]
struct Kinded {
    #[serde(default)]
    kind: Option<String>,
}

impl<'de> Deserialize<'de> for Kinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Kinds;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with `kind` and `spec`, or a list of such")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Kinds, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                Kinded::deserialize(map).map(|it| Kinds::One(it.kind))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kinds, A::Error> {
                let mut kinds = Vec::new();
                while let Some(item) = items.next_element::<Kinded>()? {
                    kinds.push(item.kind);
                    if kinds.len() > DOCUMENTS_MAX {
                        return Err(A::Error::custom(format!("more than {DOCUMENTS_MAX} items")));
                    }
                }
                Ok(Kinds::Items(kinds))
            }
        }
        deserializer.deserialize_any(Look)
    }
}

impl Kinds {
    /// The form of the document, or of each of its items.
    fn shapes(&self, at: &Place) -> Result<Shapes, Failure> {
        Ok(match self {
            Self::One(kind) => Shapes::One(Shape::of_document(kind_of(at, kind.as_deref())?)),
            Self::Items(kinds) => {
                let mut shapes = Vec::new();
                for (number, kind) in kinds.iter().enumerate() {
                    let at = item(at, number);
                    shapes.push(Shape::of_document(kind_of(&at, kind.as_deref())?));
                }
                Shapes::Items(shapes)
            }
        })
    }
}

fn item(at: &Place, number: usize) -> Place {
    Place {
        item: Some(number + 1),
        ..at.clone()
    }
}

fn kind_of(at: &Place, kind: Option<&str>) -> Result<Kind, Failure> {
    let word = kind.ok_or_else(|| {
        at.refuse("`kind` is missing")
            .advise("`virtflow --help` lists the kinds")
    })?;
    Kind::parse(&word.replace('-', "_")).ok_or_else(|| {
        let shown: String = word.chars().take(80).collect();
        at.refuse(format!("there is no kind `{shown}`"))
            .advise("`virtflow --help` lists the kinds")
    })
}

/// The forms that go with [`Kinds`].
#[derive(Debug)]
enum Shapes {
    One(Shape),
    Items(Vec<Shape>),
}

/// Reads a whole document.
struct Whole<'s>(&'s Shapes);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Value>, D::Error> {
        match self.0 {
            Shapes::One(shape) => {
                let left = Cell::new(0);
                let value = Fitting::new(shape, &left).deserialize(deserializer)?;
                Ok(vec![value])
            }
            Shapes::Items(shapes) => deserializer.deserialize_seq(Items(shapes)),
        }
    }
}

struct Items<'s>(&'s [Shape]);

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Value>, A::Error> {
        let mut values = Vec::new();
        for shape in self.0 {
            let left = Cell::new(0);
            if let Some(value) = items.next_element_seed(Fitting::new(shape, &left))? {
                values.push(value);
            }
        }
        // The end of the list has to be seen.
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(values)
    }
}

fn made(at: &Place, kinds: &Kinds, values: Vec<Value>) -> Result<Vec<Document>, Failure> {
    let (words, is_list) = match kinds {
        Kinds::One(kind) => (std::slice::from_ref(kind), false),
        Kinds::Items(kinds) => (kinds.as_slice(), true),
    };
    let all = words.iter().zip(values).enumerate();
    all.map(|(number, (word, value))| {
        let at = match is_list {
            true => item(at, number),
            false => at.clone(),
        };
        let kind = kind_of(&at, word.as_deref())?;
        Document::of(at, kind, value)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str, text: &str) -> Result<Vec<String>, String> {
        let documents = of_text(source, text).map_err(|failure| failure.message)?;
        Ok(documents
            .iter()
            .map(|it| format!("{} @{}", it.call(), it.at.line))
            .collect())
    }

    #[test]
    fn documents_of_yaml() {
        let text = "# racks\n---\n# one\nkind: rack\nname: r1\n--- # two\nspec: {}\nkind: rack\nname: r2\n---\n\n---\nkind: doc\nname: d\nspec:\n  title: t\n  body: |\n    text\n     --- no mark\n";
        assert_eq!(
            read("f", text),
            Ok(vec![
                "rack r1 @4".into(),
                "rack r2 @7".into(),
                "doc d @13".into()
            ])
        );
        assert_eq!(read("f", "\n# nothing\n"), Ok(vec![]));
    }

    #[test]
    fn lists_and_json_are_documents_too() {
        let text = "- kind: rack\n  name: r1\n- kind: racks\n  name: r2\n";
        assert_eq!(
            read("f", text),
            Ok(vec!["rack r1 @1".into(), "rack r2 @1".into()])
        );
        let json =
            "{\"kind\": \"rack\", \"name\": \"r1\"}\n{\"kind\": \"rack\",\n\"name\": \"r2\"}\n";
        assert_eq!(
            read("f", json),
            Ok(vec!["rack r1 @1".into(), "rack r2 @2".into()])
        );
        let list = "[{\"kind\": \"rack\", \"name\": \"r1\"}]";
        assert_eq!(read("f.json", list), Ok(vec!["rack r1 @1".into()]));
        assert_eq!(
            read("f", "{kind: rack, name: r1}"),
            Ok(vec!["rack r1 @1".into()])
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_file_document_and_line() {
        let good = "kind: rack\nname: r1\n---\n";
        for (source, text, expected) in [
            (
                "f.yaml",
                "kind: rack\nname: [r1\n",
                "f.yaml, document 1, line ",
            ),
            (
                "f.yaml",
                "name: r1\n",
                "f.yaml, document 1, line 1: `kind` is missing",
            ),
            (
                "f.yaml",
                "kind: wagon\n",
                "f.yaml, document 1, line 1: there is no kind `wagon`",
            ),
            ("f.yaml", "7\n", "f.yaml, document 1, line 1: "),
            (
                "f.yaml",
                "kind: rack\nname: r\nspec:\n  colour: red\n",
                "f.yaml, document 2, line 7: spec: there is no field `colour`",
            ),
            (
                "f.json",
                "{\"kind\": \"rack\",\n \"colour\": 1}",
                "f.json, document 1, line 2: there is no field `colour`",
            ),
            (
                "f.json",
                "{\"kind\": \"rack\"",
                "f.json, document 1, line 1: EOF",
            ),
            (
                "f.yaml",
                "- kind: rack\n  name: r\n- kind: wagon\n",
                "f.yaml, document 1, item 2, line 1: there is no kind",
            ),
        ] {
            let text = match expected.contains("document 2") {
                true => format!("{good}{text}"),
                false => text.to_owned(),
            };
            let error = read(source, &text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn folders_are_read_by_name_and_without_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let root = folder.path().to_str().unwrap();
        assert!(all(&[root]).unwrap_err().message.contains("has no file"));
        for (name, rack) in [
            ("b.yaml", "b"),
            ("a.yml", "a"),
            (".hidden.yaml", "h"),
            ("notes.txt", "n"),
        ] {
            fs::write(path(name), format!("kind: rack\nname: {rack}\n")).unwrap();
        }
        let read = all(&[root]).unwrap();
        let names: Vec<&str> = read.iter().map(|it| it.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(all(&["-", "-"]).unwrap_err().message.contains("twice"));
        assert!(
            all(&["/nonexistent.yaml"])
                .unwrap_err()
                .message
                .contains("/nonexistent.yaml")
        );
    }
}
