//! What the command line of `apply` may say, read and checked before any cluster is asked.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::document::Document;
use super::prune::Prune;
use super::read;
use crate::failure::Failure;
use crate::generic::text;
use crate::grammar::{switch, trying, waiting, writing};

/// Longest key of an apply: what is put behind it for each document has room.
const KEY_BYTES_MAX: usize = 100;

/// The command's own part of the grammar.
pub(crate) fn grammar() -> Command {
    let command = Command::new("apply")
        .about("Make the cluster what documents say: create, change, leave alone")
        .after_long_help(HELP)
        .arg(
            Arg::new("file")
                .short('f')
                .long("file")
                .value_name("FILE|DIR|-")
                .required(true)
                .action(ArgAction::Append)
                .help("YAML or JSON, a folder of such files, or standard input; may be repeated"),
        )
        .arg(switch(
            "prune",
            "Delete what bears the labels of --selector and stands in no document",
        ))
        .arg(
            Arg::new("selector")
                .short('l')
                .long("selector")
                .value_name("KEY=VALUE")
                .action(ArgAction::Append)
                .requires("prune")
                .help("What --prune may delete: only what bears this label; may be repeated"),
        )
        .arg(switch("yes", "Delete without asking"));
    trying(writing(waiting(command)))
}

const HELP: &str = "\
A document has `kind`, `name`, `tenant` where the kind belongs to one, and `spec`, as `get -o yaml` shows them;
`name`, `tenant`, `parent` and `labels` may stand under `metadata`. What the server fills in is ignored.
References are written by name (`rack: r1`) or by id (`rack_id: ...`), and may be to other documents.

What `spec` leaves out stays as it is; what it says is said whole: `labels: {a: b}` means these labels and no
others. `null` takes a field away. Objects without names are known by what only one of them may have, by their
`id`, or by being just so.

--prune looks at the kinds that the documents have, within the tenants that documents of that kind have.";

/// What `apply` was asked for, read and checked; no cluster has been asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) documents: Vec<Document>,
    pub(super) prune: Option<Prune>,
}

impl Asked {
    /// From the command line.
    pub(crate) fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let prune = Prune::of(matches)?;
        let key = text(matches, "idempotency-key").unwrap_or_default();
        if key.len() > KEY_BYTES_MAX {
            return Err(Failure::usage(format!(
                "--idempotency-key: at most {KEY_BYTES_MAX} characters, for each document's own follows from it"
            )));
        }
        let named = matches.get_many::<String>("file").into_iter().flatten();
        let named: Vec<&str> = named.map(String::as_str).collect();
        Ok(Self {
            documents: read::all(&named)?,
            prune,
        })
    }
}
