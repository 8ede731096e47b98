//! What is shipped for monitoring asks for numbers that there are.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::Value;

const EXPLAINED: &str = include_str!("../../docs/metrics.md");
const RULES: &str = include_str!("../monitoring/virtflow.rules.yml");
const DASHBOARDS: [&str; 2] = [
    include_str!("../monitoring/virtflow-controllers.dashboard.json"),
    include_str!("../monitoring/virtflow-hosts.dashboard.json"),
];

/// Names of numbers in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(move |c| !is_part(c))
        .filter(|word| word.starts_with("virtflow_"))
}

/// Refuses a name that `docs/metrics.md` does not explain, with the end that its type gives it.
#[track_caller]
fn check(name: &str) {
    let has = |name: &str, kind: &str| EXPLAINED.contains(&format!("| `{name}` | {kind} |"));
    let ends = [
        ("_total", "counter"),
        ("_bucket", "histogram"),
        ("_count", "histogram"),
        ("_sum", "histogram"),
    ];
    let ended = ends
        .iter()
        .find_map(|(end, kind)| Some(has(name.strip_suffix(end)?, kind)));
    assert!(
        ended.unwrap_or_else(|| has(name, "gauge")),
        "{name} is no number that is told"
    );
}

#[test]
fn alert_rules_ask_for_numbers_that_there_are() {
    let asked: BTreeSet<&str> = names(RULES).collect();
    assert!(asked.len() > 5, "{asked:?}");
    asked.into_iter().for_each(check);
}

#[test]
fn dashboards_ask_for_numbers_that_there_are_and_their_panels_do_not_overlap() {
    for text in DASHBOARDS {
        let board: Value = serde_json::from_str(text).unwrap();
        let panels = board["panels"].as_array().unwrap();
        assert!(panels.len() > 10);
        let mut cells = BTreeSet::new();
        for panel in panels {
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            for x in at("x")..at("x") + at("w") {
                assert!(x < 24, "{}", panel["title"]);
                for y in at("y")..at("y") + at("h") {
                    assert!(cells.insert((x, y)), "{} lies on another", panel["title"]);
                }
            }
            for target in panel["targets"].as_array().unwrap() {
                let asked = target["expr"].as_str().unwrap();
                names(asked).for_each(check);
            }
        }
    }
}
