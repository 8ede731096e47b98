//! What a billing period comes to.

use clap::{ArgMatches, Command};
use serde_json::Value;
use virtflow_client::{Call, Method};

use crate::failure::Failure;
use crate::generic::target;
use crate::grammar::target as target_arg;
use crate::run::{Cluster, Run};
use crate::safe;
use crate::table::of_cells;

pub(crate) fn grammar(command: Command) -> Command {
    command.subcommand(
        Command::new("bill")
            .about("What it comes to, and what was used since and is not on it yet")
            .arg(target_arg()),
    )
}

pub(crate) async fn bill(
    run: &Run,
    cluster: &Cluster,
    matches: &ArgMatches,
) -> Result<(), Failure> {
    let call = Call::new(Method::Get, &["billing_periods", target(matches), "bill"])?;
    let data = cluster.client.send(&call).await?.data;
    run.output.data(&data, bill_text)
}

fn bill_text(data: &Value) -> String {
    let plain = |value: &Value| safe::line(value.as_str().unwrap_or_default());
    let mut rows = Vec::new();
    for part in ["billed", "unbilled"] {
        let sums = &data[part];
        for line in sums["lines"].as_array().into_iter().flatten() {
            let cells = ["dimension", "quantity", "amount"].map(|cell| plain(&line[cell]));
            rows.push([vec![part.to_owned()], cells.to_vec()].concat());
        }
        let total = vec![
            part.to_owned(),
            "total".into(),
            String::new(),
            plain(&sums["total"]),
        ];
        rows.push(total);
    }
    let table = of_cells(&["", "DIMENSION", "QUANTITY", "AMOUNT"], &rows);
    let (period, state) = (plain(&data["period"]), plain(&data["state"]));
    let currency = plain(&data["currency"]);
    format!("{period}, {state}, in {currency}\n{table}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bill_tells_what_is_on_it_and_what_is_not_yet() {
        let data = json!({
            "period": "2026-11", "currency": "EUR", "state": "open", "usages": 2,
            "billed": {"total": "0.036", "lines": [
                {"dimension": "cpu_core_hours", "quantity": "3", "amount": "0.03"},
                {"dimension": "memory_gib_hours", "quantity": "3", "amount": "0.006"},
            ]},
            "unbilled": {"total": "0", "lines": []},
        });
        let text = bill_text(&data);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["2026-11,", "open,", "in", "EUR"]);
        assert_eq!(lines[2], ["billed", "cpu_core_hours", "3", "0.03"]);
        assert_eq!(lines[4], ["billed", "total", "0.036"]);
        assert_eq!(lines[5], ["unbilled", "total", "0"]);
    }
}
