//! The table of who may do what, sent through the whole router: every kind, every route, every built-in role at each
//! level it can be bound to. What is expected stands in `docs/access-table.md`, written by hand.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use serde_json::{Value, json};
use virtflow_model::Kind;

use super::rows;
use super::support::Reply;
use super::world::{LEVELS, ROLES, World, every_route, label, many_of};
use crate::api::routes::Route;
use crate::api::write::DRY_RUN;

/// The table, beside this package.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access-table.md");

const OTHERS: [&str; 5] = ["no role", "other tenant", "no token", "expired", "revoked"];
/// Requests under way at once.
const AT_ONCE: usize = 8;

/// What the table says of one route of one kind.
#[derive(Debug)]
struct Line {
    done: Vec<u16>,
    /// One for each caller; `None` if people never do it.
    cells: Option<Vec<String>>,
}

/// Kind, or the routes without one, and label of the route.
type Key = (Option<Kind>, String);

/// Reads the table: kinds stand between backticks in the headings above the blocks of lines.
fn table() -> BTreeMap<Key, Line> {
    let (mut lines, mut kinds, mut inside) = (BTreeMap::new(), Vec::new(), false);
    let file = std::fs::read_to_string(TABLE).unwrap();
    for text in file.lines() {
        if let Some(fence) = text.strip_prefix("```") {
            inside = fence == "text";
            continue;
        }
        if !inside {
            if text.starts_with("## Routes without a kind") {
                kinds = vec![None];
            }
            if let Some(heading) = text.strip_prefix("### ") {
                let words = heading.split('`').skip(1).step_by(2);
                let kind_of =
                    |word| Some(Kind::of_name(word).unwrap_or_else(|| panic!("{heading}")));
                kinds = words.map(kind_of).collect();
            }
            continue;
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.first() == Some(&"routes") {
            continue;
        }
        let is_done =
            |word: &&str| *word == "never" || word.starts_with(|c: char| c.is_ascii_digit());
        let split = words.iter().position(is_done).expect(text);
        let (done, cells) = match words[split] {
            "never" => (Vec::new(), None),
            statuses => (
                statuses
                    .split(',')
                    .map(|status| status.parse().unwrap())
                    .collect(),
                Some(
                    words[split + 1..]
                        .iter()
                        .map(|cell| (*cell).to_owned())
                        .collect::<Vec<_>>(),
                ),
            ),
        };
        if let Some(cells) = &cells {
            assert_eq!(cells.len(), ROLES.len() + 1, "{text}");
            assert!(
                cells[..ROLES.len()]
                    .iter()
                    .all(|cell| cell.len() == LEVELS.len()),
                "{text}"
            );
            assert_eq!(cells[ROLES.len()].len(), OTHERS.len(), "{text}");
        }
        for kind in &kinds {
            for label in &words[..split] {
                let line = Line {
                    done: done.clone(),
                    cells: cells.clone(),
                };
                let twice = lines.insert((*kind, (*label).to_owned()), line);
                assert!(twice.is_none(), "{kind:?} {label} stands twice");
            }
        }
    }
    lines
}

#[test]
fn the_table_has_every_kind_and_every_route_and_no_other() {
    let there: BTreeSet<Key> = every_route()
        .iter()
        .map(|route| (route.kind, label(route)))
        .collect();
    let told: BTreeSet<Key> = table().into_keys().collect();
    let missing: Vec<_> = there.difference(&told).collect();
    let unknown: Vec<_> = told.difference(&there).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    assert!(unknown.is_empty(), "no such route: {unknown:?}");
}

/// How a status reads in the table.
fn sign_of(line: &Line, status: u16, text: &str) -> String {
    match status {
        400 if line.cells.is_none() => "n".into(),
        status if line.done.contains(&status) => if status == 401 { "u" } else { "+" }.into(),
        401 => "u".into(),
        403 => "f".into(),
        404 => "-".into(),
        _ => format!("?{status} {text}"),
    }
}

/// The same for one of many: the request is answered with its outcome, or is itself refused.
fn sign_of_many(line: &Line, reply: &Reply) -> String {
    if reply.status != 200 {
        return sign_of(line, reply.status, &reply.text);
    }
    let status = reply.data(200)["items"][0]["status"].as_u64().unwrap();
    sign_of(line, u16::try_from(status).unwrap(), &reply.text)
}

impl World {
    /// How an answer reads in the table.
    fn sign(&self, route: &Route, line: &Line, reply: &Reply) -> String {
        if label(route) == "list"
            && reply.status == 200
            && let Some(kind) = route.kind
        {
            let id = self.id(kind).to_string();
            let has = reply
                .data(200)
                .as_array()
                .unwrap()
                .iter()
                .any(|row| row["id"] == id);
            return if has { "+" } else { "-" }.into();
        }
        sign_of(line, reply.status, &reply.text)
    }

    /// What is wrong with a route.
    async fn judge(&self, route: &Route, line: &Line) -> Vec<String> {
        let put = match route.kind {
            Some(kind) if label(route) == "put" => self.spec_of(kind).await,
            None if label(route) == "configs-put" => self.spec_of(Kind::TenantConfig).await,
            _ => Value::Null,
        };
        let expected: Vec<String> = match &line.cells {
            Some(cells) => cells.join("").chars().map(String::from).collect(),
            None => {
                let all = self.tokens().len();
                (0..all)
                    .map(|n| if n + 3 < all { "n" } else { "u" }.to_owned())
                    .collect()
            }
        };
        let put = &put;
        let asked = self.tokens().into_iter().map(|token| async move {
            let reply = self.send(route, token, put).await;
            self.sign(route, line, &reply)
        });
        let answers = futures::stream::iter(asked).buffered(AT_ONCE);
        let found: Vec<String> = answers.collect().await;
        let mut wrong = self.compare(route, &expected, &found);
        if let Some(many) = many_of(route) {
            let asked = self.tokens().into_iter().map(|token| {
                let many = &many;
                async move { sign_of_many(line, &self.send(many, token, put).await) }
            });
            let answers = futures::stream::iter(asked).buffered(AT_ONCE);
            let found: Vec<String> = answers.collect().await;
            wrong.extend(self.compare(&many, &expected, &found));
        }
        wrong
    }

    async fn spec_of(&self, kind: Kind) -> Value {
        let path = format!("/{}/{}", kind.plural(), self.id(kind));
        self.rig.get(&path, &self.rig.admin).await.data(200)["spec"].clone()
    }

    /// Where callers were answered otherwise than the table says.
    fn compare(&self, route: &Route, expected: &[String], found: &[String]) -> Vec<String> {
        assert_eq!(expected.len(), found.len());
        let who = |n: usize| match n.checked_sub(ROLES.len() * LEVELS.len()) {
            None => format!("{} {}", ROLES[n / LEVELS.len()], LEVELS[n % LEVELS.len()]),
            Some(n) => OTHERS[n].to_owned(),
        };
        let pairs = expected.iter().zip(found).enumerate();
        let differ = pairs.filter(|(_, (expected, found))| expected != found);
        let told = differ.map(|(n, (expected, found))| {
            let (method, path, who) = (&route.method, &route.path, who(n));
            format!("{method} {path}: {who}: `{expected}` wanted, `{found}`")
        });
        told.collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_table_holds_for_every_role_level_kind_and_route() {
    let world = World::start().await;
    let table = table();
    let mut wrong = Vec::new();
    let mut routes: BTreeMap<Option<Kind>, Vec<Route>> = BTreeMap::new();
    for route in every_route() {
        routes.entry(route.kind).or_default().push(route);
    }
    // From the last kind to the first: to set a password, which ends sessions, comes after those.
    for (kind, routes) in routes.iter().rev() {
        let bound = match kind {
            Some(kind) => world.bind_over(world.id(*kind)).await,
            None => Vec::new(),
        };
        // What changes something for good comes after what is only tried.
        let (tried, done): (Vec<_>, Vec<_>) = routes
            .iter()
            .partition(|route| route.method == "GET" || route.query.contains(&DRY_RUN));
        for route in tried.into_iter().chain(done) {
            wrong.extend(world.judge(route, &table[&(*kind, label(route))]).await);
        }
        rows::remove(&world.rig.app, bound).await;
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let verdict = world.rig.get("/verify", &world.rig.admin).await;
    assert_eq!(verdict.data(200)["divergences"], json!([]));
}
