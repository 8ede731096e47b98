//! What secret fields of a layer of configuration hold.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use virtflow_client::{Call, Method};
use virtflow_model::Kind;

use crate::failure::Failure;
use crate::generic::{target, text};
use crate::grammar::{target as target_arg, tenant_of};
use crate::noun::Noun;
use crate::nouns;
use crate::run::{Cluster, Run};
use crate::table::of_cells;

pub(crate) fn grammar(kind: Kind, command: Command) -> Command {
    let reveal = Command::new("reveal")
        .about("What its secret fields hold; that you asked is recorded")
        .arg(target_arg());
    command.subcommand(tenant_of(nouns::of_kind(kind), reveal))
}

pub(crate) async fn reveal(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    // Without an idempotency key: a repeated one gets no secrets.
    let call = Call::new(
        Method::Post,
        &[noun.collection(), target(matches), "reveal"],
    )?
    .query_if("tenant", text(matches, "tenant"))
    .question()
    .body(json!({}));
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, secrets_text)
}

fn secrets_text(data: &Value) -> String {
    let secrets = data["secrets"].as_object().into_iter().flatten();
    let rows: Vec<Vec<String>> = secrets
        .map(|(field, secret)| vec![field.clone(), secret.as_str().unwrap_or("-").to_owned()])
        .collect();
    match rows.is_empty() {
        true => "it has no secrets".to_owned(),
        false => of_cells(&["FIELD", "SECRET"], &rows),
    }
}
