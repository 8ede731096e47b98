//! `virtflow config effective`: what holds of a scope, and where each value came from.

use serde_json::Value;
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::grammar::ConfigCommand;
use crate::run::{Cluster, Run};
use crate::table::of_cells;

pub(crate) async fn run(
    run: &Run,
    cluster: &Cluster,
    command: &ConfigCommand,
) -> Result<(), Failure> {
    let ConfigCommand::Effective {
        scope,
        sub_scope,
        tenant,
        user,
        at,
    } = command;
    let call = Call::new(Method::Get, &["configs", "effective"])?
        .query("scope", scope)
        .query_if("sub_scope", sub_scope.as_deref())
        .query_if("tenant", tenant.as_deref())
        .query_if("user", user.as_deref())
        .query_if("at", at.as_deref());
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, effective_text)
}

fn effective_text(data: &Value) -> String {
    let fields = data["fields"].as_object().into_iter().flatten();
    let rows: Vec<Vec<String>> = fields
        .map(|(name, field)| {
            let value = match &data["values"][name] {
                Value::Null => "-".to_owned(),
                _ if field["secret"] == true => "(secret)".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let ignored = words(&field["ignored"]);
            let from = match (words(&field["from"]), ignored.is_empty()) {
                (from, true) => from,
                (from, false) if from.is_empty() => {
                    format!("(not from {ignored}: not allowed above)")
                }
                (from, false) => format!("{from} (not all of {ignored}: not allowed above)"),
            };
            vec![name.clone(), value, from]
        })
        .collect();
    of_cells(&["FIELD", "VALUE", "FROM"], &rows)
}

fn words(list: &Value) -> String {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_with_where_it_came_from() {
        let data = json!({
            "values": {"api_key": {"secret": 2}, "default": "small", "models": ["small"]},
            "fields": {
                "api_key": {"secret": true, "from": ["system"], "ignored": []},
                "default": {"secret": false, "from": ["user"], "ignored": []},
                "models": {"secret": false, "from": ["system", "tenant"], "ignored": ["tenant"]},
                "tools": {"secret": false, "from": [], "ignored": ["tenant"]},
            },
        });
        assert_eq!(
            effective_text(&data),
            "\
FIELD    VALUE      FROM
api_key  (secret)   system
default  small      user
models   [\"small\"]  system, tenant (not all of tenant: not allowed above)
tools    -          (not from tenant: not allowed above)"
        );
    }
}
