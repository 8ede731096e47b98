//! Several objects of one kind in one command: made from documents, deleted by their names, or by what they are.
//!
//! Each is done on its own, unless all or none is asked for. What was refused is told with the rest, and the command
//! ends as the first of those would have.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};
use virtflow_client::{Call, ClientError, Method};
use virtflow_model::Kind;
use virtflow_types::{ErrorCode, ObjectId};

use crate::apply::document::{Document, Whose};
use crate::apply::read;
use crate::confirm::{can_ask, confirm};
use crate::failure::{Failure, exit, exit_code};
use crate::generic::{is_set, narrowed, text};
use crate::grammar::{narrowing, switch};
use crate::interrupt::{self, Again};
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::wait::{self, Patience};
use crate::{safe, special, table};

/// Objects of one request.
const ITEMS_MAX: usize = 100;
/// Objects of one command.
const OBJECTS_MAX: usize = read::DOCUMENTS_MAX;
/// Longest key of a command that takes several requests: what is put behind it for each has room.
const KEY_BYTES_MAX: usize = 100;
/// What a creation from documents says beside them; the rest is in the documents.
const BESIDE: &[&str] = &[
    "tenant",
    "dry-run",
    "wait",
    "no-wait",
    "timeout",
    "idempotency-key",
];

/// False for what is shown once, or done outside the state too: such go one by one.
fn is_offered(kind: Kind) -> bool {
    kind != Kind::Controller && !special::gives_secret(kind)
}

/// Lets a creation take documents in place of a name and flags.
pub(crate) fn creating(kind: Kind, command: Command) -> Command {
    if !is_offered(kind) {
        return command;
    }
    let others: Vec<String> = command
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .filter(|id| !BESIDE.contains(&id.as_str()))
        .collect();
    let file = Arg::new("file")
        .short('f')
        .long("file")
        .value_name("FILE|DIR|-")
        .action(ArgAction::Append)
        .conflicts_with_all(&others)
        .help("Several, from documents as `get -o yaml` prints them; may be repeated");
    let has_name = command.get_arguments().any(|arg| arg.get_id() == "target");
    let command = if has_name {
        command.mut_arg("target", |target| {
            target.required(false).required_unless_present("file")
        })
    } else {
        command
    };
    // What is required does not count where something else is in conflict with it: hence both.
    let all_or_none = all_or_none().requires("file").conflicts_with_all(others);
    command.arg(file).arg(all_or_none)
}

/// Lets a deletion take several names, or what narrows a list.
pub(crate) fn deleting(noun: &Noun, command: Command) -> Command {
    if !is_offered(noun.kind) {
        return command;
    }
    let narrowing = narrowing(noun);
    let filters: Vec<String> = narrowing
        .iter()
        .map(|arg| arg.get_id().to_string())
        .collect();
    let command = command
        .about("Remove one or several")
        .mut_arg("target", |target| {
            target
                .num_args(1..)
                .help("Its name or id; may be repeated")
                .action(ArgAction::Append)
                .required(false)
                .required_unless_present_any(&filters)
        })
        .arg(all_or_none())
        .arg(
            switch("yes", "Delete what the filters find, without being asked")
                .conflicts_with("target"),
        );
    narrowing.into_iter().fold(command, |command, arg| {
        command.arg(arg.conflicts_with_all(["target", "if-match"]))
    })
}

fn all_or_none() -> Arg {
    switch("all-or-none", "Do all of them in one step, or none")
}

/// Carries out what is about several objects; `None` if it is about one.
pub(crate) async fn run(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    verb: &str,
    matches: &ArgMatches,
) -> Option<Result<(), Failure>> {
    let values = |name: &str| -> Vec<&str> {
        let given = matches.try_get_many::<String>(name).ok().flatten();
        given.into_iter().flatten().map(String::as_str).collect()
    };
    if verb == "delete" && is_offered(noun.kind) && values("target").is_empty() {
        return Some(delete_found(run, cluster, noun, matches).await);
    }
    let many = match verb {
        "create" if !values("file").is_empty() => creation(noun, matches, &values("file")),
        "delete" if values("target").len() > 1 => deletion(noun, matches, &values("target")),
        _ => return None,
    };
    Some(match many {
        Ok(many) => many.carry_out(run, cluster, noun, matches).await,
        Err(failure) => Err(failure),
    })
}

/// What is to be done to several objects.
struct Many {
    method: Method,
    /// The field of the body that has them.
    field: &'static str,
    did: &'static str,
    /// Each as the API is told of it, and as people call it.
    items: Vec<(Value, String)>,
    /// Parameters of the request.
    query: Vec<(&'static str, String)>,
}

fn creation(noun: &Noun, matches: &ArgMatches, named: &[&str]) -> Result<Many, Failure> {
    let tenant = text(matches, "tenant");
    let documents = read::all(named)?;
    let items = documents.into_iter().map(|document| {
        if document.kind != noun.kind {
            let problem = format!(
                "is {}, not {}",
                document.kind.with_article(),
                noun.kind.with_article()
            );
            let advice = "`virtflow apply -f` makes documents of several kinds";
            return Err(document.at.refuse(problem).advise(advice));
        }
        Ok((body_of(&document, tenant), document.call()))
    });
    Ok(Many {
        method: Method::Post,
        field: "items",
        did: "created",
        items: items.collect::<Result<_, _>>()?,
        query: Vec::new(),
    })
}

/// What makes the object of a document. A tenant of the command line is that of those that name none.
fn body_of(document: &Document, tenant: Option<&str>) -> Value {
    let mut body = Map::new();
    if let Some(name) = &document.name {
        body.insert("name".into(), name.as_str().into());
    }
    let tenant = match &document.whose {
        Whose::Tenants(tenant) => Some(tenant.as_str()),
        Whose::Unsaid => tenant,
        Whose::Clouds => None,
    };
    if let Some(tenant) = tenant {
        body.insert("tenant".into(), tenant.into());
    }
    let rules = document.kind.rules();
    let of_spec = rules.parent().map(|parent| parent.field);
    let is_in_spec = of_spec.is_some_and(|field| {
        document.spec.contains_key(field) || document.spec.contains_key(&format!("{field}_id"))
    });
    if let Some(parent) = document.parent.as_deref().filter(|_| !is_in_spec) {
        body.insert("parent".into(), parent.into());
    }
    body.insert("spec".into(), document.spec.clone().into());
    body.into()
}

fn deletion(noun: &Noun, matches: &ArgMatches, named: &[&str]) -> Result<Many, Failure> {
    if matches.contains_id("if-match") && matches.get_one::<u64>("if-match").is_some() {
        return Err(Failure::usage(
            "--if-match is about one object, and these are several",
        ));
    }
    let mut query = Vec::new();
    if let Some(tenant) = text(matches, "tenant") {
        query.push(("tenant", tenant.to_owned()));
    }
    if is_set(matches, "force") {
        query.push(("force", "true".to_owned()));
    }
    let items = named.iter();
    let items = items.map(|name| (Value::from(*name), format!("{} {name}", noun.kind.name())));
    Ok(Many {
        method: Method::Delete,
        field: "ids",
        did: "deleted",
        items: items.collect(),
        query,
    })
}

/// Deletes what filters find, once somebody has seen what that is. It is those very objects that go, whatever the
/// filters would find a moment later.
async fn delete_found(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let is_sure = is_set(matches, "yes") || is_set(matches, "dry-run");
    if !is_sure && !can_ask() {
        return Err(
            Failure::usage("deleting by filters asks first, and nobody can be asked here")
                .advise("look at what would go with --dry-run, then give --yes"),
        );
    }
    let call = narrowed(noun, matches)?;
    let listed = cluster.client.list(&call, OBJECTS_MAX).await?;
    if listed.more {
        return Err(
            Failure::usage(format!("the filters find more than {OBJECTS_MAX} objects"))
                .advise("narrow them"),
        );
    }
    let count = listed.rows.len();
    if count == 0 {
        run.output
            .remark("the filters find nothing: nothing was done");
        return Ok(());
    }
    let table = table::of_objects(noun, &listed.rows, run.now, false);
    run.output.remark(&table);
    if !is_sure {
        confirm(&format!(
            "delete {}?",
            match count {
                1 => "it".to_owned(),
                count => format!("all {count}"),
            }
        ))?;
    }
    let items = listed.rows.iter().map(|row| {
        let id = row["id"].as_str().unwrap_or_default();
        let name = row["name"].as_str().filter(|name| !name.is_empty());
        (
            Value::from(id),
            format!("{} {}", noun.kind.name(), name.unwrap_or(id)),
        )
    });
    let many = Many {
        items: items.collect(),
        ..deletion(noun, matches, &[])?
    };
    many.carry_out(run, cluster, noun, matches).await
}

impl Many {
    async fn carry_out(
        &self,
        run: &Run,
        cluster: &Cluster,
        noun: &Noun,
        matches: &ArgMatches,
    ) -> Result<(), Failure> {
        let is_atomic = is_set(matches, "all-or-none");
        self.check(is_atomic)?;
        let key = self.key(matches)?;
        interrupt::repeats(Again::WithKey(key.clone()));
        let is_trial = is_set(matches, "dry-run");
        let mut outcomes = Outcomes::default();
        for (number, part) in self.items.chunks(ITEMS_MAX).enumerate() {
            let bodies: Vec<&Value> = part.iter().map(|(body, _)| body).collect();
            let query = self.query.iter();
            let call = query.fold(
                Call::new(self.method, &["bulk", noun.collection()])?,
                |call, (name, value)| call.query(name, value.as_str()),
            );
            let call = call
                .query_if("atomic", is_atomic.then_some("true"))
                .query_if("dry_run", is_trial.then_some("true"))
                .body(json!({ self.field: bodies }))
                .idempotency_key(match self.items.len() > ITEMS_MAX {
                    true => format!("{key}.{number}"),
                    false => key.clone(),
                });
            match cluster.client.send(&call).await {
                Ok(answer) => outcomes.add(&answer.data, part),
                Err(error) => {
                    outcomes.tell(run, self.did, is_trial)?;
                    return Err(refused(error, part));
                }
            }
        }
        outcomes.tell(run, self.did, is_trial)?;
        outcomes.settle(run, cluster, matches, is_trial).await?;
        outcomes.end(self.did)
    }

    fn check(&self, is_atomic: bool) -> Result<(), Failure> {
        let most = if is_atomic { ITEMS_MAX } else { OBJECTS_MAX };
        if self.items.len() <= most {
            return Ok(());
        }
        let given = self.items.len();
        Err(match is_atomic {
            true => Failure::usage(format!(
                "--all-or-none takes {most} objects at most, not {given}"
            ))
            .advise("leave it out: each is done on its own then"),
            false => Failure::usage(format!("more than {most} objects: {given}"))
                .advise("name them in several commands"),
        })
    }

    fn key(&self, matches: &ArgMatches) -> Result<String, Failure> {
        let Some(key) = text(matches, "idempotency-key") else {
            return Ok(ObjectId::generate().to_string());
        };
        if self.items.len() > ITEMS_MAX && key.len() > KEY_BYTES_MAX {
            return Err(Failure::usage(format!(
                "--idempotency-key: at most {KEY_BYTES_MAX} characters for more than {ITEMS_MAX} objects"
            )));
        }
        Ok(key.to_owned())
    }
}

/// Tells what became of several in one answer, `part` being what they are called, and waits for what takes time if
/// that is asked for.
pub(crate) async fn outcomes(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
    data: &Value,
    part: &[(Value, String)],
    did: &'static str,
) -> Result<(), Failure> {
    let is_trial = is_set(matches, "dry-run");
    let mut outcomes = Outcomes::default();
    outcomes.add(data, part);
    outcomes.tell(run, did, is_trial)?;
    outcomes.settle(run, cluster, matches, is_trial).await?;
    outcomes.end(did)
}

/// Stands in a line for what was done.
const DID: &str = "\u{0}";

/// What became of them, in order.
#[derive(Default)]
struct Outcomes {
    items: Vec<Value>,
    lines: Vec<String>,
    operations: Vec<Value>,
    failed: usize,
    /// How the command ends if any failed: as the first.
    exit: Option<(u8, &'static str)>,
}

impl Outcomes {
    fn tell(&self, run: &Run, did: &str, is_trial: bool) -> Result<(), Failure> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let data = json!({
            "done": self.items.len() - self.failed,
            "failed": self.failed,
            "items": self.items,
        });
        let did = match is_trial {
            true => format!("would be {did}"),
            false => did.to_owned(),
        };
        run.output.data(&data, |_| {
            let lines = self.lines.iter();
            let lines = lines.map(|line| line.replace(DID, &did));
            lines.collect::<Vec<_>>().join("\n")
        })
    }

    /// Waits for what was begun, if that is asked for.
    async fn settle(
        &self,
        run: &Run,
        cluster: &Cluster,
        matches: &ArgMatches,
        is_trial: bool,
    ) -> Result<(), Failure> {
        let patience = Patience::of(matches);
        if patience.wait && !is_trial {
            for operation in &self.operations {
                wait::until_done(run, cluster, operation, patience.timeout).await?;
            }
        }
        Ok(())
    }

    fn add(&mut self, data: &Value, part: &[(Value, String)]) {
        let items = data["items"].as_array().into_iter().flatten();
        for (item, (_, called)) in items.zip(part) {
            let error = &item["error"];
            let called = safe::line(called);
            if error.is_object() {
                self.failed += 1;
                let code = code_of(error);
                self.exit.get_or_insert((exit_code(code), code.as_str()));
                self.lines.push(format!("{called}: {}", problem(error)));
            } else if item["data"]["operation"].is_object() {
                let operation = &item["data"]["operation"];
                let id = operation["id"].as_str().unwrap_or_default();
                self.lines
                    .push(format!("{called}: accepted, operation {}", safe::line(id)));
                self.operations.push(operation.clone());
            } else {
                self.lines.push(format!("{called} {DID}"));
            }
            self.items.push(item.clone());
        }
    }

    fn end(&self, did: &str) -> Result<(), Failure> {
        let Some((exit, code)) = self.exit else {
            return Ok(());
        };
        let (failed, all) = (self.failed, self.items.len());
        Err(
            Failure::new(exit, code, format!("{failed} of {all} were not {did}"))
                .advise("mend them and repeat the command; what is done already is told as such"),
        )
    }
}

fn code_of(error: &Value) -> ErrorCode {
    serde_json::from_value(error["code"].clone()).unwrap_or(ErrorCode::Internal)
}

/// What was wrong, and what to do, in one line.
fn problem(error: &Value) -> String {
    let text = |field: &str| error[field].as_str().unwrap_or_default();
    safe::line(&match text("advice") {
        "" => text("message").to_owned(),
        advice => format!("{} ({advice})", text("message")),
    })
}

/// All were refused: what was wrong with each is told by what people call it.
fn refused(error: ClientError, part: &[(Value, String)]) -> Failure {
    let mut failure = Failure::from(error);
    let items = failure
        .details
        .as_ref()
        .and_then(|it| it["items"].as_array());
    let lines = items.into_iter().flatten().filter_map(|item| {
        let at = usize::try_from(item["item"].as_u64()?).ok()?;
        let (_, called) = part.get(at)?;
        Some(format!(
            "\n  {}: {}",
            safe::line(called),
            problem(&item["error"])
        ))
    });
    let lines: String = lines.collect();
    if !lines.is_empty() && failure.exit != exit::UNKNOWN {
        failure.message = format!("nothing was done, for not all of them can be:{lines}");
        failure.advice = Some("mend these, or leave out --all-or-none".into());
    }
    failure
}
