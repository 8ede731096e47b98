//! Ontologies by name, and several of them together.

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::text;
use crate::grammar::option;
use crate::noun::Noun;
use crate::run::{Cluster, Run};
use crate::table::{of_cells, of_objects};

pub(crate) fn grammar(command: Command) -> Command {
    let tenant = || {
        let help = "Tenant whose own come first; absent: your own tenant";
        option("tenant", "TENANT", help)
    };
    let lookup = Command::new("lookup")
        .about("One by type and name: the tenant's own, else the one for all")
        .arg(
            Arg::new("type")
                .value_name("TYPE")
                .required(true)
                .value_parser(["base", "domain", "major"])
                .help("Its type"),
        )
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .help("Its name"),
        )
        .arg(option(
            "version",
            "VERSION",
            "Its version; absent: the default",
        ))
        .arg(tenant());
    let merge = Command::new("merge")
        .about(
            "What a base, domains and a major one are together; each NAME, NAME@VERSION or an id",
        )
        .arg(option(
            "base",
            "ONTOLOGY",
            "The base; what the others inherit from comes by itself",
        ))
        .arg(
            option(
                "domain",
                "ONTOLOGY",
                "A domain; may be repeated, the last counts most",
            )
            .action(ArgAction::Append),
        )
        .arg(option("major", "ONTOLOGY", "The major one"))
        .arg(tenant());
    command.subcommand(lookup).subcommand(merge)
}

pub(crate) async fn look_up(
    run: &Run,
    cluster: &Cluster,
    noun: &Noun,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["ontologies", "lookup"])?
        .query_if("type", text(matches, "type"))
        .query_if("name", text(matches, "name"))
        .query_if("version", text(matches, "version"))
        .query_if("tenant", text(matches, "tenant"));
    let data = cluster.client.send(&call).await?.data;
    let shown = std::slice::from_ref(&data);
    run.output
        .data(&data, |_| of_objects(noun, shown, run.now, false))
}

pub(crate) async fn merge(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let domains = matches.get_many::<String>("domain").into_iter().flatten();
    let domains: Vec<&str> = domains.map(String::as_str).collect();
    let domains = (!domains.is_empty()).then(|| domains.join(","));
    let call = Call::new(Method::Get, &["ontologies", "merge"])?
        .query_if("base", text(matches, "base"))
        .query_if("domains", domains)
        .query_if("major", text(matches, "major"))
        .query_if("tenant", text(matches, "tenant"));
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, merged_text)?;
    let conflicts = data["conflicts"].as_array().map_or(0, Vec::len);
    if conflicts > 0 {
        run.output.remark(&format!(
            "{conflicts} classes are described otherwise by several: see `conflicts` with -o json"
        ));
    }
    Ok(())
}

fn merged_text(data: &Value) -> String {
    let items = |field: &str| data[field].as_array().into_iter().flatten();
    let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| {
        let all = value.as_array().into_iter().flatten();
        all.map(plain).collect::<Vec<_>>().join(", ")
    };
    let parts = items("parts").map(|part| {
        vec![
            plain(&part["type"]),
            plain(&part["name"]),
            plain(&part["version"]),
        ]
    });
    let classes = items("entity_classes")
        .map(|class| vec![plain(&class["name"]), plain(&class["description"])]);
    let properties = items("object_properties").map(|property| {
        vec![
            plain(&property["name"]),
            list(&property["domain"]),
            list(&property["range"]),
        ]
    });
    let mut tables = vec![
        of_cells(&["TYPE", "NAME", "VERSION"], &parts.collect::<Vec<_>>()),
        of_cells(&["CLASS", "DESCRIPTION"], &classes.collect::<Vec<_>>()),
        of_cells(&["PROPERTY", "FROM", "TO"], &properties.collect::<Vec<_>>()),
    ];
    let missing = list(&data["missing_classes"]);
    if !missing.is_empty() {
        tables.push(format!(
            "named by properties and described nowhere: {}",
            crate::safe::line(&missing)
        ));
    }
    tables.join("\n\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_classes_and_properties() {
        let data = json!({
            "parts": [{"type": "base", "name": "core", "version": "1.0.0"}, {"type": "domain", "name": "shop", "version": "2.0.0"}],
            "entity_classes": [{"name": "thing", "description": "anything"}],
            "object_properties": [{"name": "sells", "domain": ["thing"], "range": ["thing", "good"]}],
            "missing_classes": ["good"],
        });
        assert_eq!(
            merged_text(&data),
            "\
TYPE    NAME  VERSION
base    core  1.0.0
domain  shop  2.0.0

CLASS  DESCRIPTION
thing  anything

PROPERTY  FROM   TO
sells     thing  thing, good

named by properties and described nowhere: good"
        );
    }
}
