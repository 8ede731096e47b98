//! Names of what is there, for a shell that completes a command line.
//!
//! A shell asks at every press of a key: so little is asked for, not for long, and what fails is silent.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::Command;
use clap::builder::NonEmptyStringValueParser;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use virtflow_client::{Call, Method};
use virtflow_model::{By, Kind};

use crate::failure::Failure;
use crate::noun::Noun;
use crate::output::{Format, Output};
use crate::run::Run;
use crate::{grammar, nouns, safe};

/// The controllers are waited for so long, and no longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Objects that are looked at.
const ROWS_MAX: usize = 500;

/// The variable by which a shell says that it wants completions, and which shell it is.
const VARIABLE: &str = "VIRTFLOW_COMPLETE";

/// Answers a shell that asks for completions. False if none does.
pub(crate) fn complete(arguments: &[OsString]) -> clap::error::Result<bool> {
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(grammar::command)
        .var(VARIABLE)
        .try_complete(arguments.iter().cloned(), folder.as_deref())
}

/// What a shell reads so that it asks.
pub(crate) fn registration(shell: &str) -> Result<String, Failure> {
    let unknown = || Failure::usage(format!("{shell} is not asked for names"));
    let shells = Shells::builtins();
    let completer = shells.completer(shell).ok_or_else(unknown)?;
    let mut text = Vec::new();
    completer
        .write_registration(VARIABLE, "virtflow", "virtflow", "virtflow", &mut text)
        .map_err(|error| Failure::local(format!("cannot write the completions: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Lets what names objects be completed: the target of each command but a creation, `--tenant`, and whatever refers to
/// something.
pub(crate) fn completing(noun: &'static Noun, command: Command) -> Command {
    command.mut_subcommands(|command| {
        let is_creation = command.get_name() == "create";
        command.mut_args(|arg| {
            let id = arg.get_id().as_str();
            let kind = match id {
                "target" if is_creation => None,
                "target" => Some(noun.kind),
                "tenant" => Some(Kind::Tenant),
                id => referred(noun, id),
            };
            match kind {
                // An unset variable of a script names nothing.
                Some(kind) => arg
                    .value_parser(NonEmptyStringValueParser::new())
                    .add(of_kind(kind)),
                None => arg,
            }
        })
    })
}

/// What an option of a noun's names, if it names an object: one of the spec's fields, or what narrows a list.
fn referred(noun: &Noun, id: &str) -> Option<Kind> {
    let flag = noun.flags.iter().find(|flag| flag.long == id);
    let mut references = noun.kind.rules().references.iter();
    if let Some(flag) = flag
        && let Some(reference) = references.find(|reference| reference.field == flag.path)
    {
        return Some(reference.kind);
    }
    let mut options = noun.list_options().into_iter();
    let name = options.find(|option| option.id == id)?.name;
    let mut filters = noun.kind.filters().iter();
    match filters.find(|filter| filter.name == name)?.by {
        By::Object(kind) => Some(kind),
        _ => None,
    }
}

fn of_kind(kind: Kind) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let begun = current.to_string_lossy();
        let line: Vec<OsString> = std::env::args_os().collect();
        let names = there(kind, &line).unwrap_or_default().into_iter();
        names
            .filter(|name| name.starts_with(begun.as_ref()))
            // What a terminal would obey is not put on a line.
            .filter(|name| safe::line(name) == *name)
            .map(CompletionCandidate::new)
            .collect()
    })
}

/// The names of the objects of a kind, or the ids of those without, as far as a cluster tells them in time.
fn there(kind: Kind, line: &[OsString]) -> Option<Vec<String>> {
    let output = Output {
        format: Format::Json,
    };
    let cluster = Run::new(output, said(line, "--context")).cluster().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let noun = nouns::of_kind(kind);
    let field = if noun.facts().is_named { "name" } else { "id" };
    let is_of_tenant = kind != Kind::Tenant && noun.is_listed_by("tenant");
    let tenant = said(line, "--tenant").filter(|_| is_of_tenant);
    let call = Call::new(Method::Get, &[noun.collection()])
        .ok()?
        .query("fields", field)
        .query_if("tenant", tenant);
    let listed = runtime.block_on(async {
        let listed = cluster.client.list(&call, ROWS_MAX);
        tokio::time::timeout(PATIENCE, listed).await
    });
    runtime.shutdown_background();
    let rows = listed.ok()?.ok()?.rows;
    let names = rows.iter().filter_map(|row| row[field].as_str());
    Some(names.map(str::to_owned).collect())
}

/// The value of an option on the line that is being completed, which comes behind `--`.
fn said(line: &[OsString], option: &str) -> Option<String> {
    let words = line.iter().skip_while(|word| *word != "--").skip(1);
    let mut words = words.map(|word| word.to_string_lossy());
    let with_value = format!("{option}=");
    while let Some(word) = words.next() {
        if word == option {
            return words.next().map(|value| value.into_owned());
        }
        if let Some(value) = word.strip_prefix(&with_value) {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_line_says_is_heard() {
        let line: Vec<OsString> = [
            "virtflow",
            "--tenant",
            "no",
            "--",
            "virtflow",
            "vm",
            "get",
            "--tenant",
            "acme",
            "--context=work",
            "w",
        ]
        .map(OsString::from)
        .to_vec();
        assert_eq!(said(&line, "--tenant").as_deref(), Some("acme"));
        assert_eq!(said(&line, "--context").as_deref(), Some("work"));
        assert_eq!(said(&line, "--output"), None);
    }

    #[test]
    fn what_refers_to_something_is_known() {
        let vm = nouns::of_kind(Kind::VirtualMachine);
        assert_eq!(
            referred(vm, "spec"),
            Some(Kind::VirtualMachineSpecification)
        );
        assert_eq!(referred(vm, "by-host"), Some(Kind::Baremetal));
        assert_eq!(referred(vm, "cpu"), None);
    }
}
