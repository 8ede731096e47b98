//! `edit`: an object's spec in an editor, and what was changed there sent when it is saved. What a person wrote is never
//! lost: after a refusal it is opened again with the reason on top, and in the end it is told where it lies.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ArgMatches;
use serde_json::{Map, Value, json};
use virtflow_client::{Call, Method};
use virtflow_types::{ErrorCode, ObjectId};

use crate::apply::diff;
use crate::apply::document::Document;
use crate::apply::read;
use crate::failure::{Failure, exit, exit_code};
use crate::generic::{fetch, write};
use crate::interrupt;
use crate::noun::Noun;
use crate::output;
use crate::run::{Cluster, Run};
use crate::safe;

/// How often an editor is opened in one command.
const ROUNDS_MAX: usize = 10;
/// Largest file that is read back, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The editor where none is named.
const EDITOR_DEFAULT: &str = "vi";
/// Marks lines of ours.
const REMARK: &str = "#| ";

/// Carries out `virtflow KIND edit NAME`.
pub(crate) async fn edit(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let object = fetch(cluster, noun, matches).await?;
    let mut editing = Editing {
        file: Draft::new(noun, &object)?,
        base: spec_of(&object),
        object,
    };
    let done = editing.rounds(run, cluster, noun, matches).await;
    match done {
        Ok(()) => {
            editing.file.discard();
            Ok(())
        }
        Err(failure) => Err(editing.file.kept(failure)),
    }
}

struct Editing {
    file: Draft,
    /// The spec that the person began with.
    base: Map<String, Value>,
    /// The object as it was read last.
    object: Value,
}

/// How one round ended.
enum Round {
    Done,
    /// To be opened again, with this on top.
    Again(Failure),
    /// Likewise; saving the same text again is an answer, too.
    Confirm(Failure),
}

impl Editing {
    async fn rounds(
        &mut self,
        run: &Run,
        cluster: &Cluster,
        noun: &Noun,
        matches: &ArgMatches,
    ) -> Result<(), Failure> {
        let mut refused: Option<(String, bool, Failure)> = None;
        for _ in 0..ROUNDS_MAX {
            let is_saved = self.file.open()?;
            let text = self.file.read()?;
            // Left as it was opened: the person gives up.
            if let Some((before, may_be_same, failure)) = refused.take()
                && before == text
                && !(may_be_same && is_saved)
            {
                return Err(failure);
            }
            let (failure, may_be_same) =
                match self.round(run, cluster, noun, matches, &text).await? {
                    Round::Done => return Ok(()),
                    Round::Again(failure) => (failure, false),
                    Round::Confirm(failure) => (failure, true),
                };
            let text = self.file.explain(&text, &failure)?;
            refused = Some((text, may_be_same, failure));
        }
        let last = refused
            .map(|(_, _, failure)| failure.message)
            .unwrap_or_default();
        Err(Failure::new(
            exit::FAILURE,
            "given_up",
            format!("refused {ROUNDS_MAX} times, the last time: {last}"),
        ))
    }

    async fn round(
        &mut self,
        run: &Run,
        cluster: &Cluster,
        noun: &Noun,
        matches: &ArgMatches,
        text: &str,
    ) -> Result<Round, Failure> {
        let called = self.file.called.clone();
        let wanted = match self.wanted(text) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => {
                run.output.remark("the file is empty: nothing was done");
                return Ok(Round::Done);
            }
            Err(failure) => return Ok(Round::Again(failure)),
        };
        let changes = diff::changes(&self.base, &wanted);
        if changes.is_empty() {
            run.output.remark(&format!("{called} unchanged"));
            return Ok(Round::Done);
        }
        let lines: Vec<String> = changes.iter().map(diff::line).collect();
        run.output.remark(&lines.join("\n"));
        let id = self.object["id"].as_str().unwrap_or_default();
        let call = Call::new(Method::Patch, &[noun.collection(), id])?
            .if_match(self.object["generation"].as_u64())
            .body(json!({"spec": patch(noun, &self.base, &wanted)}));
        match cluster.client.send(&write(call, matches)).await {
            Ok(answer) => {
                run.output
                    .data(&answer.data, |_| format!("{called} changed"))?;
                Ok(Round::Done)
            }
            Err(error) if error.code() == ErrorCode::PreconditionFailed => {
                let again = Call::new(Method::Get, &[noun.collection(), id])?;
                let now = cluster.client.send(&again).await?.data;
                let failure = overtaken(&called, &self.object, &now);
                self.object = now;
                Ok(Round::Confirm(failure))
            }
            Err(error) => {
                let failure = Failure::from(error);
                // What is wrong with the text can be mended in it; all else is for the person to decide.
                let is_mendable = [
                    ErrorCode::Invalid,
                    ErrorCode::Conflict,
                    ErrorCode::QuotaExceeded,
                    ErrorCode::NotFound,
                    ErrorCode::InUse,
                ]
                .iter()
                .any(|code| code.as_str() == failure.code);
                match is_mendable {
                    true => Ok(Round::Again(failure)),
                    false => Err(failure),
                }
            }
        }
    }

    /// The spec that a text asks for; nothing if it has nothing but remarks.
    fn wanted(&self, text: &str) -> Result<Option<Map<String, Value>>, Failure> {
        let source = self.file.path.display().to_string();
        let mut documents = read::of_text(&source, text)?;
        let Some(document) = documents.pop() else {
            return Ok(None);
        };
        if !documents.is_empty() {
            return Err(document
                .at
                .refuse("one document is due, the one that was opened"));
        }
        let Document {
            at,
            kind,
            name,
            spec,
            ..
        } = document;
        if self.object["kind"] != kind.name()
            || name.as_deref().unwrap_or_default() != self.object["name"]
        {
            return Err(at.refuse("kind and name do not change: they say which object this is"));
        }
        Ok(Some(spec))
    }
}

/// What has to be sent. Where a name was put in the place of an id, the name says it all.
fn patch(
    noun: &Noun,
    base: &Map<String, Value>,
    wanted: &Map<String, Value>,
) -> Map<String, Value> {
    let mut patch = diff::patch(base, wanted);
    let rules = noun.kind.rules();
    let fields = rules.references.iter().map(|reference| reference.field);
    for field in fields.chain(rules.anything.map(|any| any.field)) {
        if patch.get(field).is_some_and(|value| !value.is_null()) {
            patch.remove(&format!("{field}_id"));
        }
    }
    patch
}

fn spec_of(object: &Value) -> Map<String, Value> {
    object["spec"].as_object().cloned().unwrap_or_default()
}

/// What others did meanwhile, field by field.
fn overtaken(called: &str, before: &Value, now: &Value) -> Failure {
    let changes = diff::changes(&spec_of(before), &spec_of(now));
    let lines: Vec<String> = changes.iter().map(diff::line).collect();
    let who = now["names"]["updated_by"].as_str().unwrap_or("somebody");
    Failure::new(
        exit_code(ErrorCode::PreconditionFailed),
        ErrorCode::PreconditionFailed.as_str(),
        format!("{who} changed {called} meanwhile:\n{}", lines.join("\n")),
    )
    .advise("save again to have your changes made on top of that; what you did not touch stays as it is now")
}

/// The file that is edited.
struct Draft {
    path: PathBuf,
    called: String,
    /// As it was first written.
    original: String,
}

impl Draft {
    fn new(noun: &Noun, object: &Value) -> Result<Self, Failure> {
        let name = object["name"].as_str().filter(|name| !name.is_empty());
        let name = name.or(object["id"].as_str()).unwrap_or("object");
        let called = safe::line(&format!("{} {name}", noun.word));
        let shown: Map<String, Value> = ["kind", "name", "tenant_id", "names", "spec"]
            .into_iter()
            .filter(|field| !object[*field].is_null() && object[*field] != "")
            .map(|field| (field.to_owned(), object[field].clone()))
            .collect();
        let yaml = output::yaml(&shown.into());
        let original = format!(
            "{REMARK}{called}. What `spec` says is made so when you save and leave.\n\
             {REMARK}An empty file, or one without changes, does nothing.\n{yaml}"
        );
        let file = format!("virtflow-edit-{}-{}.yaml", noun.word, ObjectId::random());
        let path = env::temp_dir().join(file);
        let mut opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| unwritten(&path, error))?;
        opened
            .write_all(original.as_bytes())
            .map_err(|error| unwritten(&path, error))?;
        interrupt::keeps(Some((path.clone(), original.clone())));
        Ok(Self {
            path,
            called,
            original,
        })
    }

    /// When it was written last.
    fn written_at(&self) -> Option<std::time::SystemTime> {
        std::fs::metadata(&self.path)
            .and_then(|it| it.modified())
            .ok()
    }

    /// Opens the editor and waits until it ends; true if it wrote the file.
    fn open(&self) -> Result<bool, Failure> {
        let before = self.written_at();
        let named = ["VISUAL", "EDITOR"].into_iter().find_map(|name| {
            let value = env::var(name).ok()?;
            (!value.trim().is_empty()).then_some(value)
        });
        let editor = named.unwrap_or_else(|| EDITOR_DEFAULT.to_owned());
        // It may be a command with options, as for all programs that open one.
        let editing = interrupt::Editing::begin();
        let status = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("{editor} \"$1\""))
            .arg("sh")
            .arg(&self.path)
            .status()
            .map_err(|error| {
                Failure::local(format!("cannot start the editor `{editor}`: {error}"))
            })?;
        drop(editing);
        match status.success() {
            true => Ok(self.written_at() != before),
            false => Err(Failure::local(format!(
                "the editor `{editor}` ended with {status}: nothing was done"
            ))
            .advise("name another one by VISUAL or EDITOR")),
        }
    }

    fn read(&self) -> Result<String, Failure> {
        let path = self.path.to_str().unwrap_or_default();
        crate::secret::read_document(path, FILE_BYTES_MAX)
    }

    /// Writes why a text was refused on top of it, in the place of what stood there before.
    fn explain(&self, text: &str, failure: &Failure) -> Result<String, Failure> {
        let explained = explained(text, failure);
        // Beside it first: an editor's text is not cut off by a full disk.
        let beside = self.path.with_extension("yaml.new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut file| file.write_all(explained.as_bytes()))
            .and_then(|()| std::fs::rename(&beside, &self.path));
        written.map_err(|error| unwritten(&self.path, error))?;
        Ok(explained)
    }

    fn discard(&self) {
        // It lies in the folder for what may go.
        let _ = std::fs::remove_file(&self.path);
        interrupt::keeps(None);
    }

    /// The failure, with the place of the text, if there is one worth keeping.
    fn kept(&self, mut failure: Failure) -> Failure {
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.original) {
            self.discard();
            return failure;
        }
        let kept = format!("your text is kept in {}", self.path.display());
        failure.advice = Some(match failure.advice {
            Some(advice) => format!("{advice}\n  {kept}"),
            None => kept,
        });
        failure
    }
}

fn explained(text: &str, failure: &Failure) -> String {
    let mut remarks = String::new();
    for line in failure.to_text().lines() {
        remarks.push_str(&format!("{REMARK}{}\n", safe::line(line)));
    }
    let own = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with(REMARK.trim_end()));
    format!("{remarks}{}", own.collect::<String>())
}

fn unwritten(path: &Path, error: std::io::Error) -> Failure {
    Failure::local(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_on_top_once_and_the_text_stays() {
        let text = "#| rack r1.\n# mine\nkind: rack\nspec:\n  as_number: x\n";
        let first = explained(text, &Failure::usage("no number"));
        assert_eq!(
            first,
            "#| error: no number\n# mine\nkind: rack\nspec:\n  as_number: x\n"
        );
        let second = explained(&first, &Failure::usage("still none").advise("write 7"));
        assert_eq!(
            second,
            "#| error: still none\n#|   write 7\n# mine\nkind: rack\nspec:\n  as_number: x\n"
        );
    }

    #[test]
    fn who_was_faster_is_told_with_what_they_did() {
        let before = json!({"spec": {"a": 1}});
        let now = json!({"spec": {"a": 2}, "names": {"updated_by": "bob"}});
        let failure = overtaken("rack r1", &before, &now);
        assert_eq!(failure.exit, exit::CONFLICT);
        assert_eq!(
            failure.message,
            "bob changed rack r1 meanwhile:\n    ~ a: 1 -> 2"
        );
    }
}
