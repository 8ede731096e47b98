//! What bears the labels and stands in no document: found before anything is changed, deleted after all else, what
//! needs others first.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::Value;
use virtflow_client::{Call, ClientError, Method};
use virtflow_model::{ByPeople, Kind};
use virtflow_types::ErrorCode;

use super::document::Facts;
use super::names::texts_in;
use super::order::order;
use super::report::{Did, Line, Report};
use super::world::World;
use crate::confirm::{can_ask, confirm};
use crate::failure::Failure;
use crate::generic::is_set;
use crate::run::{Cluster, Run};
use crate::{safe, wait};

/// Objects of one kind that are looked at.
const LOOKED_AT_MAX: usize = 10_000;
/// How often an object that changes meanwhile is looked at anew.
const TRIES_MAX: usize = 5;

/// What the command line says of pruning; nothing if it does not ask for it.
#[derive(Debug)]
pub(super) struct Prune {
    labels: Vec<(String, String)>,
    is_sure: bool,
}

/// How objects are deleted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deleting<'a> {
    pub(super) run: &'a Run,
    pub(super) cluster: &'a Cluster,
    pub(super) is_trial: bool,
    /// How long one may take.
    pub(super) timeout: Duration,
}

/// An object that goes.
#[derive(Debug)]
pub(super) struct Goes {
    kind: Kind,
    object: Value,
}

impl Goes {
    fn id(&self) -> &str {
        self.object["id"].as_str().unwrap_or_default()
    }

    fn called(&self) -> String {
        let name = self.object["name"].as_str().filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| self.id());
        match self.object["names"]["tenant"].as_str() {
            Some(tenant) => format!("{} {tenant}/{name}", self.kind.name()),
            None => format!("{} {name}", self.kind.name()),
        }
    }
}

impl Prune {
    /// From the command line, before anything is read or asked.
    pub(super) fn of(matches: &ArgMatches) -> Result<Option<Self>, Failure> {
        let selectors = matches.get_many::<String>("selector").into_iter().flatten();
        let mut labels = Vec::new();
        for selector in selectors {
            let label = selector.split_once('=').filter(|(key, _)| !key.is_empty());
            let (key, value) = label.ok_or_else(|| {
                Failure::usage(format!("--selector: `{selector}` is not key=value"))
            })?;
            labels.push((key.to_owned(), value.to_owned()));
        }
        if !is_set(matches, "prune") {
            return Ok(None);
        }
        if labels.is_empty() {
            return Err(Failure::usage("--prune needs --selector KEY=VALUE")
                .advise("only what bears a label is ever deleted because no file asks for it"));
        }
        let is_sure = is_set(matches, "yes");
        let reads_stdin = matches
            .get_many::<String>("file")
            .is_some_and(|mut files| files.any(|file| file == "-"));
        let can_ask = can_ask() && !reads_stdin;
        if !is_sure && !is_set(matches, "dry-run") && !can_ask {
            return Err(
                Failure::usage("--prune deletes, and nobody can be asked here")
                    .advise("look at what would go with --dry-run, then give --yes"),
            );
        }
        Ok(Some(Self { labels, is_sure }))
    }

    /// The objects that no document asks for: of the kinds of the documents, of the owners that documents of that
    /// kind have, and with all the labels. In the order in which they can go.
    pub(super) async fn find(
        &self,
        run: &Run,
        cluster: &Cluster,
        world: &World<'_>,
    ) -> Result<Vec<Goes>, Failure> {
        let kept: BTreeSet<&str> = (0..world.documents.len())
            .filter_map(|at| world.id_of(at))
            .collect();
        let mut goes = Vec::new();
        let kinds: BTreeSet<Kind> = world.documents.iter().map(|it| it.kind).collect();
        for kind in kinds {
            if !kind.has_labels() {
                run.output.remark(&format!(
                    "{} has no labels: none is pruned",
                    kind.with_article()
                ));
                continue;
            }
            if let ByPeople::Never(_) = kind.rules().create {
                // What no document can bring back is not taken away for being in none.
                let why = format!(
                    "{} is not made by documents: none is pruned",
                    kind.with_article()
                );
                run.output.remark(&why);
                continue;
            }
            let owners = world.owners(kind);
            let (key, value) = &self.labels[0];
            let call =
                Call::new(Method::Get, &[kind.plural()])?.query("label", format!("{key}={value}"));
            let listed = cluster.client.list(&call, LOOKED_AT_MAX).await?;
            if listed.more {
                return Err(Failure::usage(format!(
                    "more than {LOOKED_AT_MAX} objects of the kind {} bear the label {key}={value}",
                    kind.name()
                ))
                .advise("name a label that fewer bear"));
            }
            goes.extend(
                listed
                    .rows
                    .into_iter()
                    .filter(|row| {
                        let id = row["id"].as_str().unwrap_or_default();
                        let owner = row["tenant_id"].as_str().map(str::to_owned);
                        !kept.contains(id) && owners.contains(&owner) && self.is_borne_by(row)
                    })
                    .map(|object| Goes { kind, object }),
            );
        }
        Ok(in_order(goes))
    }

    fn is_borne_by(&self, object: &Value) -> bool {
        let labels = &object["spec"]["labels"];
        self.labels
            .iter()
            .all(|(key, value)| labels[key] == **value)
    }

    /// Asks whether all of these may go.
    pub(super) fn confirm(&self, goes: &[Goes]) -> Result<(), Failure> {
        if self.is_sure || goes.is_empty() {
            return Ok(());
        }
        let names = goes
            .iter()
            .map(|it| format!("    {}\n", safe::line(&it.called())));
        confirm(&format!(
            "in no document, and to be deleted:\n{}delete {}?",
            names.collect::<String>(),
            match goes.len() {
                1 => "it".to_owned(),
                n => format!("all {n}"),
            }
        ))
    }

    /// Deletes an object, if it still bears the labels. What takes time is waited for: others may need it gone.
    pub(super) async fn delete(
        &self,
        deleting: Deleting<'_>,
        mut goes: Goes,
        key: &str,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let Deleting {
            run,
            cluster,
            is_trial,
            timeout,
        } = deleting;
        let (kind, called) = (goes.kind, goes.called());
        let mut tries = 0;
        let operation = loop {
            let call = Call::new(Method::Delete, &[kind.plural(), goes.id()])?
                .if_match(goes.object["generation"].as_u64());
            let call = match is_trial {
                true => call.query("dry_run", "true"),
                false => call.idempotency_key(key),
            };
            tries += 1;
            match cluster.client.send(&call).await {
                Ok(answer) => break answer.data["operation"].clone(),
                // It went with something else, or somebody else was faster.
                Err(error) if error.code() == ErrorCode::NotFound => break Value::Null,
                Err(error)
                    if error.code() == ErrorCode::PreconditionFailed && tries < TRIES_MAX =>
                {
                    let again = Call::new(Method::Get, &[kind.plural(), goes.id()])?;
                    match cluster.client.send(&again).await {
                        Ok(answer) if self.is_borne_by(&answer.data) => goes.object = answer.data,
                        Ok(_) => {
                            run.output
                                .remark(&format!("{called} lost its label meanwhile: it stays"));
                            return Ok(());
                        }
                        Err(ClientError::Api(error)) if error.code == ErrorCode::NotFound => {
                            break Value::Null;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(super::about(&called, error.into())),
            }
        };
        if operation.is_object() && !is_trial {
            wait::until_done(run, cluster, &operation, timeout).await?;
        }
        report.add(Line {
            kind,
            called,
            id: Some(goes.id().to_owned()),
            did: Did::Deleted,
            changes: Vec::new(),
            operation: None,
            untried: None,
        })
    }
}

/// What names another goes before that.
fn in_order(goes: Vec<Goes>) -> Vec<Goes> {
    let ids: Vec<String> = goes.iter().map(|it| it.id().to_owned()).collect();
    let at_of = |text: &str| ids.iter().position(|id| id == text);
    let named = |at: usize| {
        let mut named = Vec::new();
        texts_in(&goes[at].object["spec"], &mut |text| {
            named.extend(at_of(text))
        });
        named.extend(goes[at].object["parent_id"].as_str().and_then(at_of));
        named.retain(|it| *it != at);
        named
    };
    // In a circle whoever begins is refused by the controllers, which say why.
    let order = order(goes.len(), named).unwrap_or_else(|_| (0..goes.len()).collect());
    let mut goes: Vec<Option<Goes>> = goes.into_iter().map(Some).collect();
    order
        .into_iter()
        .rev()
        .filter_map(|at| goes[at].take())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_needs_others_goes_before_them() {
        let goes = |id: &str, spec: Value, parent: Value| Goes {
            kind: Kind::VirtualMachine,
            object: json!({"id": id, "name": id, "spec": spec, "parent_id": parent}),
        };
        let all = vec![
            goes("disk", json!({}), Value::Null),
            goes(
                "attachment",
                json!({"disk_id": "disk", "vms": ["vm"]}),
                Value::Null,
            ),
            goes("vm", json!({}), Value::Null),
            goes("snapshot", json!({}), json!("vm")),
        ];
        let order = in_order(all);
        let order: Vec<&str> = order.iter().map(Goes::id).collect();
        let place = |id: &str| order.iter().position(|it| *it == id).unwrap();
        assert!(
            place("attachment") < place("disk") && place("attachment") < place("vm"),
            "{order:?}"
        );
        assert!(place("snapshot") < place("vm"), "{order:?}");
        assert_eq!(order.len(), 4);
    }
}
