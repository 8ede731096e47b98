//! What was: an object's versions, and who set each of its fields.

use clap::ArgMatches;
use serde_json::Value;
use virtflow_client::{Call, Method};
use virtflow_model::Kind;

use crate::failure::Failure;
use crate::generic::{target, text};
use crate::grammar::{Blame, ROWS_DEFAULT};
use crate::noun::{Noun, Show};
use crate::run::{Cluster, Run};
use crate::table;

/// Every version that is kept, newest first.
pub(crate) async fn history(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = about(noun, matches, "history")?;
    let limit = matches.get_one::<usize>("limit").copied();
    let listed = cluster
        .client
        .list(&call, limit.unwrap_or(ROWS_DEFAULT))
        .await?;
    let shown = listed.rows.len();
    run.output
        .data(&Value::Array(listed.rows), |rows| versions(run, rows))?;
    if listed.more {
        run.output
            .warn(&format!("{shown} shown, there are more: raise --limit"));
    }
    Ok(())
}

/// Who set each field to what it is.
pub(crate) async fn blame(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = about(noun, matches, "blame")?;
    told_of(run, cluster, &call).await
}

/// The same, of an object of the kind that is named.
pub(crate) async fn blame_of(run: &Run, cluster: &Cluster, asked: &Blame) -> Result<(), Failure> {
    let kind = Kind::parse(&asked.kind.replace('-', "_")).ok_or_else(|| {
        Failure::usage(format!("there is no kind `{}`", asked.kind))
            .advise("`virtflow --help` lists the kinds")
    })?;
    let call = Call::new(Method::Get, &[kind.plural(), &asked.object, "blame"])?
        .query_if("tenant", asked.tenant.as_deref());
    told_of(run, cluster, &call).await
}

async fn told_of(run: &Run, cluster: &Cluster, call: &Call) -> Result<(), Failure> {
    let answer = cluster.client.send(call).await?;
    run.output.data(&answer.data, fields)
}

fn about(noun: &Noun, matches: &ArgMatches, what: &str) -> Result<Call, Failure> {
    let call = Call::new(Method::Get, &[noun.collection(), target(matches), what])?;
    Ok(call.query_if("tenant", text(matches, "tenant")))
}

fn versions(run: &Run, rows: &Value) -> String {
    let rows: Vec<Vec<String>> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let show = |pointer: &str, form| table::show(row.pointer(pointer), form, run.now);
            let by = match row.pointer("/names/updated_by") {
                Some(_) if row["deleted"] != true => show("/names/updated_by", Show::Plain),
                _ => show("/change/actor", Show::Plain),
            };
            vec![
                show("/version", Show::Plain),
                show("/change/index", Show::Plain),
                show("/change/at", Show::Plain),
                by,
                show("/deleted", Show::Plain),
                show("/change/request_id", Show::Plain),
            ]
        })
        .collect();
    let heads = ["VERSION", "INDEX", "AT", "BY", "DELETED", "REQUEST"];
    table::of_cells(&heads, &rows)
}

fn fields(blame: &Value) -> String {
    let now = virtflow_types::Timestamp::EPOCH;
    let rows: Vec<Vec<String>> = blame
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, told)| {
            let show = |pointer: &str| table::show(told.pointer(pointer), Show::Plain, now);
            vec![
                field.clone(),
                show("/value"),
                show("/change/at"),
                show("/change/actor"),
                show("/change/request_id"),
            ]
        })
        .collect();
    table::of_cells(&["FIELD", "VALUE", "SINCE", "BY", "REQUEST"], &rows)
}
