//! Reading: file, then environment, then what no single key can say.

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::place::{key_at, line_at, line_of_key};
use crate::{ConfigError, Place, Reads, Scheme, full_key};

/// The largest configuration file.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The text of a file.
///
/// # Errors
/// If it can't be read, is larger than [`FILE_BYTES_MAX`], or no text.
pub fn text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |problem: String| ConfigError::Unreadable {
        path: path.to_owned(),
        problem,
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    let mut limited = file.take(FILE_BYTES_MAX + 1);
    let read = limited.read_to_end(&mut bytes);
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!(
            "it is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))
}

/// The configuration that `text` and the variables among `variables` that begin with the scheme's
/// prefix say, if `check` finds nothing wrong in it. `check` names the key at fault and what to do.
///
/// # Errors
/// If any of it is unknown, malformed or refused by `check`.
pub fn read<W: DeserializeOwned, C>(
    scheme: &Scheme,
    path: &Path,
    text: &str,
    variables: impl Iterator<Item = (String, String)>,
    check: impl FnOnce(W) -> Result<C, (&'static str, String)>,
) -> Result<C, ConfigError> {
    let source = Source {
        path,
        text,
        overrides: overrides(scheme, variables)?,
    };
    let written = source.written()?;
    check(written).map_err(|(key, problem)| source.wrong(key, problem))
}

/// One variable's key and value.
struct Override {
    variable: String,
    section: &'static str,
    key: &'static str,
    value: Value,
}

fn overrides(
    scheme: &Scheme,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<Override>, ConfigError> {
    let mut found = Vec::new();
    for (variable, text) in variables.filter(|(name, _)| name.starts_with(scheme.prefix)) {
        let known = scheme
            .keys
            .iter()
            .find(|(section, key)| scheme.variable_of(section, key) == variable);
        let value = match known {
            None => Err(format!("names no key; see {}", scheme.example)),
            Some((section, key)) => {
                value((scheme.reads)(section, key), text).map(|value| (*section, *key, value))
            }
        };
        match value {
            Ok((section, key, value)) => found.push(Override {
                variable,
                section,
                key,
                value,
            }),
            Err(problem) => {
                return Err(ConfigError::Wrong {
                    place: Place::Variable(variable),
                    problem,
                });
            }
        }
    }
    Ok(found)
}

fn value(reads: Reads, text: String) -> Result<Value, String> {
    match reads {
        Reads::Text => Ok(Value::String(text)),
        Reads::Number => match text.parse() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => Err(format!("`{text}` is not a whole number")),
        },
        Reads::Texts => {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            Ok(Value::Array(
                parts.map(|part| Value::String(part.to_owned())).collect(),
            ))
        }
    }
}

/// What is read, and where each key of it comes from.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    overrides: Vec<Override>,
}

impl Source<'_> {
    fn written<W: DeserializeOwned>(&self) -> Result<W, ConfigError> {
        if self.overrides.is_empty() {
            // Read off the text itself, so that errors know their line whatever it looks like.
            return toml::from_str(self.text).map_err(|error| self.in_text(&error));
        }
        let mut table: Table = toml::from_str(self.text).map_err(|error| self.in_text(&error))?;
        for change in &self.overrides {
            let target = if change.section.is_empty() {
                &mut table
            } else {
                let empty = || Value::Table(Table::new());
                match table.entry(change.section).or_insert_with(empty) {
                    Value::Table(section) => section,
                    _ => {
                        let problem = "is a section, and the file gives it another value";
                        return Err(self.in_file(change.section, problem.to_owned()));
                    }
                }
            };
            target.insert(change.key.to_owned(), change.value.clone());
        }
        // As text once more: only then do errors tell where, and so which key they are about.
        let merged = table.to_string();
        toml::from_str(&merged).map_err(|error: toml::de::Error| {
            let problem = one_line(error.message());
            let missing = problem.starts_with("missing field");
            let at = error.span().filter(|_| !missing).map(|span| span.start);
            let key = at.and_then(|at| key_at(&merged, at));
            self.wrong(&key.unwrap_or_default(), problem)
        })
    }

    /// Something about a key: laid at the door of the variable, if one gave it.
    fn wrong(&self, key: &str, problem: String) -> ConfigError {
        let variable = self
            .overrides
            .iter()
            .find(|change| full_key(change.section, change.key) == key);
        match variable {
            Some(change) => ConfigError::Wrong {
                place: Place::Variable(change.variable.clone()),
                problem,
            },
            None => self.in_file(key, problem),
        }
    }

    fn in_file(&self, key: &str, problem: String) -> ConfigError {
        ConfigError::Wrong {
            place: Place::File {
                path: self.path.to_owned(),
                line: line_of_key(self.text, key),
                key: key.to_owned(),
            },
            problem,
        }
    }

    fn in_text(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map(|span| span.start);
        ConfigError::Wrong {
            place: Place::File {
                path: self.path.to_owned(),
                line: at.map(|at| line_at(self.text, at)),
                key: at.and_then(|at| key_at(self.text, at)).unwrap_or_default(),
            },
            problem: one_line(error.message()),
        }
    }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        name: String,
        #[serde(default)]
        shelf: Shelf,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Shelf {
        books: u32,
        topics: Vec<String>,
    }

    const SCHEME: Scheme = Scheme {
        prefix: "LIBRARY_",
        example: "library.example.toml",
        keys: &[("", "name"), ("shelf", "books"), ("shelf", "topics")],
        reads: |_, key| match key {
            "books" => Reads::Number,
            "topics" => Reads::Texts,
            _ => Reads::Text,
        },
    };

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let check = |written: Written| match written.shelf.books {
            0..100 => Ok(format!(
                "{} {} {:?}",
                written.name, written.shelf.books, written.shelf.topics
            )),
            _ => Err(("shelf.books", "must be below 100".to_owned())),
        };
        read(&SCHEME, Path::new("l.toml"), text, variables, check)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn file_then_environment() {
        let text = "name = \"town\"\n[shelf]\nbooks = 3\n";
        assert_eq!(load(text, &[]).unwrap(), "town 3 []");
        let variables = [
            ("LIBRARY_SHELF_BOOKS", "4"),
            ("LIBRARY_SHELF_TOPICS", "a, b,"),
            ("OTHER_NAME", "is none of ours"),
        ];
        assert_eq!(load(text, &variables).unwrap(), "town 4 [\"a\", \"b\"]");
        // What the file must say may be said by the environment alone.
        let alone = [("LIBRARY_NAME", "village")];
        assert_eq!(load("", &alone).unwrap(), "village 0 []");
    }

    #[test]
    fn what_is_wrong_is_named_where_it_stands() {
        let books = [("LIBRARY_SHELF_BOOKS", "7")];
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            ("name = 1\n", &[], "l.toml:1: `name`: invalid type"),
            ("= 1", &[], "l.toml:1"),
            ("[shelf]\n", &books, "l.toml: missing field `name`"),
            (
                "name = \"a\"\n\n[shelf]\npages = 1\n",
                &books,
                "l.toml:4: `shelf.pages`: unknown field",
            ),
            (
                "name = \"a\"\nshelf = 1\n",
                &books,
                "l.toml:2: `shelf`: is a section",
            ),
            (
                "name = \"a\"\n[shelf]\nbooks = 100\n",
                &[],
                "l.toml:3: `shelf.books`: must be below 100",
            ),
            (
                "name = \"a\"\n[shelf]\nbooks = 100\n",
                &[("LIBRARY_NAME", "b")],
                "l.toml:3: `shelf.books`: must be below 100",
            ),
            (
                "name = \"a\"\n[shelf]\nbooks = 1\n",
                &[("LIBRARY_SHELF_BOOKS", "100")],
                "environment variable LIBRARY_SHELF_BOOKS: must be below 100",
            ),
            (
                "name = \"a\"\n",
                &[("LIBRARY_SHELF_BOOKS", "-1")],
                "environment variable LIBRARY_SHELF_BOOKS: invalid value",
            ),
            (
                "name = \"a\"\n",
                &[("LIBRARY_SHELF_BOOKS", "many")],
                "environment variable LIBRARY_SHELF_BOOKS: `many` is not a whole number",
            ),
            (
                "name = \"a\"\n",
                &[("LIBRARY_SHELF", "1")],
                "environment variable LIBRARY_SHELF: names no key; see library.example.toml",
            ),
        ];
        for (text, variables, expected) in cases {
            let error = load(text, variables).unwrap_err();
            assert!(error.starts_with(expected), "{error}\nexpected {expected}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_value_of_many_lines_does_not_move_the_blame() {
        let text = "name = \"a\"\n[shelf]\ntopics = \"\"\"\nx\n\"\"\"\n";
        let error = load(text, &[("LIBRARY_NAME", "one\ntwo")]).unwrap_err();
        assert!(error.starts_with("l.toml:3: `shelf.topics`"), "{error}");
    }

    #[test]
    fn files_that_are_no_files_of_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.toml");
        let problem = || text(&path).unwrap_err().to_string();
        assert!(problem().contains("No such file"), "{}", problem());
        std::fs::create_dir(&path).unwrap();
        assert!(problem().contains("directory"), "{}", problem());
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(problem().contains("not UTF-8"), "{}", problem());
        std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
        assert!(problem().contains("larger than"), "{}", problem());
    }
}
