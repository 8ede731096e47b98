//! `virtflow apply`: makes the cluster what documents say.
//!
//! All documents are read and checked, all their objects looked up, and all that follows from that refused, before the
//! first of them is sent. What a document leaves out stays as it is; what it says is said whole; `null` takes a field
//! away. An apply that ended in the middle is done again: what is done already is unchanged.

mod asked;
pub(crate) mod diff;
pub(crate) mod document;
mod names;
mod order;
mod prune;
pub(crate) mod read;
mod report;
mod shape;
mod typed;
mod world;

use clap::ArgMatches;
use serde_json::{Map, Value, json};
use virtflow_client::{Call, Method};
use virtflow_model::ByPeople;
use virtflow_types::{ErrorCode, ObjectId};

pub(crate) use self::asked::{Asked, grammar};
use self::diff::Change;
use self::document::Whose;
use self::prune::{Deleting, Prune};
use self::report::{Did, Line, Report};
use self::world::World;
use crate::failure::Failure;
use crate::generic::{is_set, text};
use crate::interrupt::{self, Again};
use crate::run::{Cluster, Run};
use crate::wait::{self, Patience};

/// How often a document is tried whose object changes meanwhile.
const TRIES_MAX: usize = 5;

/// Carries out `virtflow apply`.
pub(crate) async fn apply(
    run: &Run,
    cluster: &Cluster,
    asked: Asked,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let mut applying = Applying {
        run,
        cluster,
        is_trial: is_set(matches, "dry-run"),
        key: match text(matches, "idempotency-key") {
            Some(key) => key.to_owned(),
            None => ObjectId::generate().to_string(),
        },
        patience: Patience::of(matches),
        world: World::look(cluster, asked.documents).await?,
    };
    interrupt::repeats(Again::AsItIs);
    applying.all(asked.prune).await
}

/// What is to be done about a document.
#[derive(Debug)]
struct Step {
    changes: Vec<Change>,
    does: Does,
    /// Documents whose objects it names and that are not there yet.
    coming: Vec<usize>,
}

#[derive(Debug)]
enum Does {
    Nothing,
    Create(Value),
    Change(Map<String, Value>),
}

struct Applying<'a> {
    run: &'a Run,
    cluster: &'a Cluster,
    is_trial: bool,
    key: String,
    patience: Patience,
    world: World<'a>,
}

impl Applying<'_> {
    async fn all(&mut self, prune: Option<Prune>) -> Result<(), Failure> {
        let order = self.order()?;
        for at in &order {
            self.step(*at).await?;
        }
        let goes = match &prune {
            Some(prune) => prune.find(self.run, self.cluster, &self.world).await?,
            None => Vec::new(),
        };
        if let (Some(prune), false) = (&prune, self.is_trial) {
            prune.confirm(&goes)?;
        }
        let mut report = Report::new(self.run.output, self.is_trial);
        let mut done = self.documents(&order, &mut report).await;
        if let (Some(prune), Ok(())) = (&prune, &done) {
            for (number, it) in goes.into_iter().enumerate() {
                let key = format!("{}.prune.{number}", self.key);
                let deleting = Deleting {
                    run: self.run,
                    cluster: self.cluster,
                    is_trial: self.is_trial,
                    timeout: self.patience.timeout,
                };
                done = prune.delete(deleting, it, &key, &mut report).await;
                if done.is_err() {
                    break;
                }
            }
        }
        report.end()?;
        done?;
        if self.patience.wait && !self.is_trial {
            for operation in report.operations() {
                wait::until_done(self.run, self.cluster, operation, self.patience.timeout).await?;
            }
        }
        Ok(())
    }

    async fn documents(&mut self, order: &[usize], report: &mut Report) -> Result<(), Failure> {
        for (done, at) in order.iter().enumerate() {
            match self.one(*at).await {
                Ok(line) => report.add(line)?,
                Err(failure) => {
                    let document = &self.world.documents[*at];
                    let mut failure =
                        about(&format!("{} ({})", document.call(), document.at), failure);
                    let left = order.len() - done - 1;
                    if left > 0 {
                        let more = format!(
                            "{left} documents were not reached; apply again: what is done already is left as it is"
                        );
                        failure.advice = Some(match failure.advice {
                            Some(advice) => format!("{advice}\n  {more}"),
                            None => more,
                        });
                    }
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// What is not there yet comes before what names it.
    fn order(&self) -> Result<Vec<usize>, Failure> {
        let world = &self.world;
        let needs = |at: usize| {
            let mut named = world.named_by(at);
            named.retain(|it| world.there[*it].is_none());
            named
        };
        order::order(world.documents.len(), needs).map_err(|cycle| {
            let first = &world.documents[cycle[0]];
            let calls: Vec<String> = cycle.iter().map(|at| world.documents[*at].call()).collect();
            first
                .at
                .refuse(format!(
                    "each needs the next to be there first: {}",
                    calls.join(" -> ")
                ))
                .advise("leave one reference out, apply, put it in and apply again")
        })
    }

    /// What a document asks for that is not so.
    async fn step(&mut self, at: usize) -> Result<Step, Failure> {
        let document = self.world.documents[at].clone();
        let kind = document.kind;
        let mut said = document.spec.clone();
        let coming = self.world.fill(at, &mut said).await?;
        let refuse = |problem: String| document.at.refuse(format!("spec: {problem}"));
        let invalid = |problem: String| document.at.refuse(format!("spec{problem}"));
        let Some(object) = self.world.there[at].clone() else {
            if let ByPeople::Never(advice) = kind.rules().create {
                let problem = format!(
                    "there is no {}, and {} is not made so",
                    document.call(),
                    kind.with_article()
                );
                return Err(document.at.refuse(problem).advise(advice));
            }
            if crate::special::gives_secret(kind) {
                let word = crate::nouns::of_kind(kind).word;
                let problem = format!(
                    "there is no {}, and making one gives a secret",
                    document.call()
                );
                let advice = format!("make it with `virtflow {word} create`, which shows it once");
                return Err(document.at.refuse(problem).advise(advice));
            }
            let parent = self.under(at, &mut said).await?;
            let whole = typed::normal(kind, &said).map_err(refuse)?;
            // What a kind's own verb makes, that verb completes first.
            if kind.rules().create == ByPeople::Plainly {
                typed::check(kind, &whole).map_err(invalid)?;
            }
            let changes = diff::changes(&Map::new(), &self.shown(at, &said, None));
            let mut body = json!({"spec": said});
            if let Some(name) = &document.name {
                body["name"] = name.as_str().into();
            }
            if let Whose::Tenants(tenant) = &document.whose
                && !world::is_where_it_reaches(kind)
            {
                body["tenant"] = self.world.tenants_id(tenant).into();
            }
            if let Some(parent) = parent {
                body["parent"] = parent.into();
            }
            return Ok(Step {
                changes,
                does: Does::Create(body),
                coming,
            });
        };
        let nothing = Map::new();
        let is = object["spec"].as_object().unwrap_or(&nothing);
        let wanted = typed::wanted(kind, is, &said).map_err(refuse)?;
        let patch = diff::patch(is, &wanted);
        if patch.is_empty() {
            return Ok(Step {
                changes: Vec::new(),
                does: Does::Nothing,
                coming,
            });
        }
        if let ByPeople::Never(advice) = kind.rules().update {
            let fields: Vec<&str> = patch.keys().map(String::as_str).collect();
            let problem = format!(
                "{} differs in {}, and {} does not change",
                document.call(),
                fields.join(", "),
                kind.with_article()
            );
            return Err(document.at.refuse(problem).advise(advice));
        }
        let whole = typed::normal(kind, &wanted).map_err(refuse)?;
        typed::check(kind, &whole).map_err(invalid)?;
        let changes = diff::changes(
            &self.shown(at, is, Some(&object)),
            &self.shown(at, &wanted, Some(&object)),
        );
        let changes = match changes.is_empty() {
            true => diff::changes(is, &wanted),
            false => changes,
        };
        Ok(Step {
            changes,
            does: Does::Change(patch),
            coming,
        })
    }

    /// Puts what a new object lives under into its spec, where that has a field for it; else gives it.
    async fn under(
        &mut self,
        at: usize,
        said: &mut Map<String, Value>,
    ) -> Result<Option<String>, Failure> {
        let document = self.world.documents[at].clone();
        let Some((kind, field)) = world::lives_under(document.kind) else {
            return Ok(None);
        };
        let has = |field: &str| said.get(field).is_some_and(|value| !value.is_null());
        if field.is_some_and(|field| has(field) || has(&format!("{field}_id"))) {
            return Ok(None);
        }
        let named = self.world.parent(&document, kind).await?;
        Ok(match (named, field, document.under()) {
            (world::Named::There(id), Some(field), _) => {
                said.insert(format!("{field}_id"), id.into());
                None
            }
            (_, Some(field), Some(text)) => {
                said.insert(field.to_owned(), text.into());
                None
            }
            (world::Named::There(id), None, _) => Some(id),
            (_, _, text) => text.map(str::to_owned),
        })
    }

    /// A spec as people read it: names in place of ids.
    fn shown(
        &self,
        at: usize,
        spec: &Map<String, Value>,
        object: Option<&Value>,
    ) -> Map<String, Value> {
        let mut shown = spec.clone();
        let rules = self.world.documents[at].kind.rules();
        let fields = rules.references.iter().map(|reference| reference.field);
        for field in fields.chain(rules.anything.map(|any| any.field)) {
            let id_field = format!("{field}_id");
            let Some(id) = shown.remove(&id_field).filter(|id| !id.is_null()) else {
                continue;
            };
            let of_object = object.filter(|object| object["spec"][&id_field] == id);
            let name = of_object.and_then(|object| object["names"][field].as_str());
            let name = name.or_else(|| self.world.documents[at].spec.get(field)?.as_str());
            shown.insert(field.to_owned(), name.map_or(id, Value::from));
        }
        shown
    }

    /// Does what a document asks for. Whoever changes its object meanwhile has it looked at anew.
    async fn one(&mut self, at: usize) -> Result<Line, Failure> {
        let kind = self.world.documents[at].kind;
        let mut tries = 0;
        loop {
            tries += 1;
            let step = self.step(at).await?;
            let (did, call) = match step.does {
                Does::Nothing => (Did::Unchanged, None),
                Does::Create(body) => {
                    let call = Call::new(Method::Post, &[kind.plural()])?.body(body);
                    (Did::Created, Some(call))
                }
                Does::Change(patch) => {
                    let id = self.world.id_of(at).unwrap_or_default();
                    let generation = self.world.there[at]
                        .as_ref()
                        .and_then(|it| it["generation"].as_u64());
                    let call = Call::new(Method::Patch, &[kind.plural(), id])?
                        .if_match(generation)
                        .body(json!({"spec": patch}));
                    (Did::Changed, Some(call))
                }
            };
            let untried = step.coming.first().filter(|_| self.is_trial).map(|it| {
                let coming = self.world.documents[*it].call();
                format!("not tried: {coming} is not there yet")
            });
            let mut line = Line {
                kind,
                called: self.world.documents[at].call(),
                id: self.world.id_of(at).map(str::to_owned),
                did,
                changes: step.changes,
                operation: None,
                untried,
            };
            let owner_is_coming = self.is_trial && self.owner_is_coming(at);
            if owner_is_coming && line.untried.is_none() && did == Did::Created {
                line.untried = Some("not tried: what it belongs to is not there yet".into());
            }
            let Some(call) = call.filter(|_| line.untried.is_none()) else {
                return Ok(line);
            };
            let call = match self.is_trial {
                // A trial is not remembered, and must not be taken for what was done under the same key.
                true => call.query("dry_run", "true"),
                false => call.idempotency_key(format!("{}.{at}", self.key)),
            };
            match self.cluster.client.send(&call).await {
                Ok(answer) => {
                    let data = answer.data;
                    let (object, operation) = match data["operation"].is_object() {
                        true => (data["object"].clone(), Some(data["operation"].clone())),
                        false => (data, None),
                    };
                    if !self.is_trial {
                        line.id = object["id"].as_str().map(str::to_owned);
                        line.operation = operation;
                        self.world.there[at] = Some(object);
                    }
                    return Ok(line);
                }
                Err(error) if tries < TRIES_MAX && is_overtaken(error.code(), did) => {
                    let was_there = self.world.there[at].is_some();
                    self.world.read_again(at).await?;
                    if !was_there && self.world.there[at].is_none() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// True if what a document's object belongs to is made by this apply and is not there yet.
    fn owner_is_coming(&self, at: usize) -> bool {
        let named = self.world.named_by(at);
        named.iter().any(|it| self.world.there[*it].is_none())
    }
}

/// True if somebody else was faster, so that another look may help.
fn is_overtaken(code: ErrorCode, did: Did) -> bool {
    match did {
        Did::Created => code == ErrorCode::AlreadyExists,
        _ => matches!(code, ErrorCode::PreconditionFailed | ErrorCode::NotFound),
    }
}

/// A failure that says what it is about.
fn about(what: &str, mut failure: Failure) -> Failure {
    if !failure.message.starts_with(what) {
        failure.message = format!("{what}: {}", failure.message);
    }
    failure
}
