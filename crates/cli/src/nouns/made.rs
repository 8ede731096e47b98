//! The entry of a kind that none is written for: its verbs, flags and columns follow from what it declares and
//! from the schema of its fields.

use std::sync::OnceLock;

use serde_json::{Map, Value};
use virtflow_model::{ByPeople, Kind, Reference, Rules, Scope, Tie};

use super::{AGE, TENANT};
use crate::noun::{Column, Flag, Form, Noun, Show, Verb, column, flag};
use crate::schema::{without_null, words_of};

/// Options that a field's flag must not be called, for something else is called so.
const TAKEN: &[&str] = &[
    "all-or-none",
    "at",
    "context",
    "dry-run",
    "fields",
    "file",
    "force",
    "from-file",
    "help",
    "idempotency-key",
    "if-match",
    "limit",
    "name",
    "no-wait",
    "output",
    "set",
    "target",
    "tenant",
    "timeout",
    "unset",
    "version",
    "wait",
    "watch",
    "yes",
];
/// References that have a column.
const REFERENCES_SHOWN: usize = 3;
/// Fields of the spec that have a column beside references and the state.
const FIELDS_SHOWN: usize = 3;
/// Endings of texts that are too long for a column.
const LONG: &[&str] = &["description", "key", "pem", "script", "data", "certificate"];

static MADE: [OnceLock<Noun>; Kind::ALL.len()] = [const { OnceLock::new() }; Kind::ALL.len()];

/// The command's word.
pub(super) fn word_of(kind: Kind) -> String {
    hyphened(kind.name())
}

/// The entry, made when it is first asked for.
pub(super) fn of_kind(kind: Kind) -> &'static Noun {
    MADE[kind as usize].get_or_init(|| noun(&Declared::of(kind)))
}

/// What an entry is made from.
#[derive(Debug)]
struct Declared {
    kind: Kind,
    rules: Rules,
    scope: Scope,
    spec: Value,
    status: Value,
}

impl Declared {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            rules: *kind.rules(),
            scope: kind.scope(),
            spec: kind.spec_schema(),
            status: kind.status_schema(),
        }
    }

    /// The fields of the spec, those that have to be given first.
    fn fields(&self) -> Vec<(&str, &Value)> {
        let is_required = |field: &str| {
            let required = self.spec["required"].as_array();
            required.is_some_and(|required| required.iter().any(|name| name == field))
        };
        let all = self.spec["properties"].as_object().into_iter();
        let all = all.flat_map(Map::iter);
        let mut fields: Vec<(&str, &Value)> = all.map(|(name, it)| (name.as_str(), it)).collect();
        fields.sort_by_key(|(name, _)| !is_required(name));
        fields
    }

    fn reference(&self, field: &str) -> Option<&'static Reference> {
        let name = field.strip_suffix("_id")?;
        self.rules
            .references
            .iter()
            .find(|reference| reference.field == name)
    }
}

fn noun(declared: &Declared) -> Noun {
    Noun {
        kind: declared.kind,
        word: kept(word_of(declared.kind)),
        about: declared.rules.about,
        verbs: kept_all(verbs(&declared.rules)),
        flags: kept_all(flags(declared)),
        columns: kept_all(columns(declared)),
    }
}

fn verbs(rules: &Rules) -> Vec<Verb> {
    let by_people = [
        (Verb::Create, rules.create),
        (Verb::Update, rules.update),
        (Verb::Delete, rules.delete),
    ];
    let done = by_people.into_iter();
    let done = done.filter(|(_, how)| !matches!(how, ByPeople::Never(_)));
    [Verb::List, Verb::Get, Verb::Describe]
        .into_iter()
        .chain(done.map(|(verb, _)| verb))
        .collect()
}

fn flags(declared: &Declared) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    for (field, schema) in declared.fields() {
        let schema = without_null(schema);
        let says = sentence(&schema);
        let made = match declared.reference(field) {
            Some(reference) => Some((reference.field, Form::Text, or(says, reference.field))),
            None => form_of(field, &schema)
                .map(|(short, form)| (short, form, help(form, or(says, short)))),
        };
        let Some((short, form, help)) = made else {
            continue;
        };
        let reference = declared.reference(field);
        let long = free(declared, &flags, short, field);
        let path = reference.map_or_else(|| kept(field.to_owned()), |reference| reference.field);
        let made = flag(kept(long), path, form, kept(help));
        let is_for_life = reference.is_some_and(|reference| reference.tie == Tie::Parent);
        flags.push(if is_for_life { made.for_life() } else { made });
    }
    flags
}

/// What a flag is called: shortly, or like its field, or so that nothing else is called so.
fn free(declared: &Declared, flags: &[Flag], short: &str, field: &str) -> String {
    // The cloud's own objects are in no tenant, so that one their spec names can be called so.
    let names_tenant = field == "tenant_id" && declared.scope == Scope::System;
    let is_free = |long: &String| {
        let is_taken = TAKEN.contains(&long.as_str()) && !(long == "tenant" && names_tenant);
        !is_taken && flags.iter().all(|flag| flag.long != long)
    };
    let whole = hyphened(field);
    [hyphened(short), whole.clone()]
        .into_iter()
        .find(is_free)
        .unwrap_or_else(|| format!("spec-{whole}"))
}

/// A field's short name and the form of its flag; nothing for what only `--set` and files can say.
fn form_of<'a>(field: &'a str, schema: &Value) -> Option<(&'a str, Form)> {
    if let Some(words) = words_of(schema) {
        let form = match words.iter().any(|word| word.contains('-')) {
            true => Form::Choice(kept_all(words.into_iter().map(kept).collect())),
            false => Form::Word(kept_all(
                words.iter().map(|word| kept(hyphened(word))).collect(),
            )),
        };
        return Some((field, form));
    }
    let unit = |units: &[(&'static str, Form)]| {
        let mut units = units.iter();
        units.find_map(|(ending, form)| Some((field.strip_suffix(ending)?, *form)))
    };
    match schema["type"].as_str()? {
        "boolean" => Some((field, Form::Truth)),
        "string" if field == "expires_at" => Some(("expires", Form::Expiry)),
        "string" => Some((field, Form::Text)),
        "integer" => Some(
            unit(&[
                ("_mib", Form::Mib),
                ("_gib", Form::Gib),
                ("_s", Form::Seconds),
                ("_seconds", Form::Seconds),
                ("_percent", Form::WholePercent),
                ("_percentage", Form::WholePercent),
            ])
            .unwrap_or((field, Form::Count)),
        ),
        "number" => unit(&[("_percent", Form::Percent), ("_percentage", Form::Percent)]),
        "object" if is_text(&schema["additionalProperties"]) => {
            Some((singular(field), Form::Pairs))
        }
        "array" if is_text(&schema["items"]) => Some((singular(field), Form::Texts)),
        _ => None,
    }
}

fn is_text(schema: &Value) -> bool {
    schema["type"] == "string" || words_of(schema).is_some()
}

/// The first sentence of a field's description, without its full stop; nothing if it only names a unit.
fn sentence(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let ends = text.match_indices(". ").find(|(at, _)| {
        let next = text[at + 2..].chars().next();
        next.is_some_and(char::is_uppercase)
    });
    let first = ends.map_or(text.as_str(), |(at, _)| &text[..at]);
    match first.trim_end_matches('.') {
        "MiB" | "GiB" | "Seconds" | "Percent" => String::new(),
        first => first.to_owned(),
    }
}

/// A description, or what the field's name says.
fn or(says: String, short: &str) -> String {
    if !says.is_empty() {
        return says;
    }
    let words = short.replace('_', " ");
    let mut letters = words.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

/// What a flag's help says, with an example where a form is not plain.
fn help(form: Form, says: String) -> String {
    match form {
        Form::Mib => format!("{says}, 512MiB"),
        Form::Gib => format!("{says}, 20GiB"),
        Form::Seconds => format!("{says}, 30s"),
        Form::Expiry => format!("{says}, 15m from now"),
        Form::Percent => format!("{says}, 12.5"),
        Form::WholePercent => format!("{says}, 80"),
        Form::Pairs => format!("{says}: key=value; may be repeated"),
        Form::Texts => format!("{says}; may be repeated"),
        Form::Text | Form::Count | Form::Word(_) | Form::Choice(_) | Form::Truth => says,
    }
}

/// What one of several is called, where that is plain.
fn singular(field: &str) -> &str {
    match field.strip_suffix("es") {
        Some(stem)
            if ["ss", "x", "ch", "sh"]
                .iter()
                .any(|end| stem.ends_with(end)) =>
        {
            stem
        }
        // One does not see whether it is "leases" or "aliases".
        Some(stem) if stem.ends_with(['s', 'i']) => field,
        _ if ["ss", "us", "is", "dns"]
            .iter()
            .any(|end| field.ends_with(end)) =>
        {
            field
        }
        _ => field.strip_suffix('s').unwrap_or(field),
    }
}

fn columns(declared: &Declared) -> Vec<Column> {
    let mut columns = Vec::new();
    if declared.scope != Scope::System {
        columns.push(TENANT);
    }
    let references = declared.rules.references.iter().take(REFERENCES_SHOWN);
    columns.extend(references.map(|reference| {
        let name = format!("/names/{}", reference.field);
        let id = format!("/spec/{}_id", reference.field);
        let at = kept_all(vec![kept(name), kept(id)]);
        column(head(reference.field), at, Show::Plain)
    }));
    let has = |schema: &Value, field: &str| schema["properties"][field].is_object();
    if let Some(anything) = declared.rules.anything {
        let (name, id) = (
            format!("/names/{}", anything.field),
            format!("/spec/{}_id", anything.field),
        );
        let at = kept_all(vec![kept(name), kept(id)]);
        columns.push(column(head(anything.field), at, Show::Plain));
    }
    let mut word = |field: &'static str, at: &'static [&'static str]| {
        columns.push(column(head(field), at, Show::Plain));
    };
    if has(&declared.status, "owner_id") {
        word("owner", &["/names/owner", "/status/owner_id"]);
    }
    // Which of several versions is meant where none is named.
    for field in ["latest", "default_version"] {
        if has(&declared.spec, field) {
            word(field, kept_all(vec![kept(format!("/spec/{field}"))]));
        }
    }
    if has(&declared.spec, "state") {
        word("state", &["/spec/state"]);
    } else if has(&declared.status, "state") {
        word("state", &["/status/state"]);
    }
    if has(&declared.status, "phase") {
        word("phase", &["/status/phase"]);
    }
    let fields = declared.fields().into_iter();
    let fields = fields.filter(|(field, _)| declared.reference(field).is_none());
    let shown = fields.filter_map(|(field, schema)| {
        let (short, show) = shown_of(field, &without_null(schema))?;
        let at = kept_all(vec![kept(format!("/spec/{field}"))]);
        Some(column(head(short), at, show))
    });
    columns.extend(shown.take(FIELDS_SHOWN));
    columns.push(AGE);
    columns
}

/// The short name of a field that a column shows, and how; nothing if it is no short single value.
fn shown_of<'a>(field: &'a str, schema: &Value) -> Option<(&'a str, Show)> {
    if matches!(field, "state" | "latest" | "default_version")
        || LONG.iter().any(|ending| field.ends_with(ending))
    {
        return None;
    }
    let is_id = schema["format"] == "uuid";
    let is_moment = schema["format"] == "date-time";
    let (short, form) = form_of(field, schema)?;
    let show = match form {
        Form::Expiry => return Some(("expires_in", Show::Until)),
        Form::Text if is_id => return None,
        Form::Text if is_moment => Show::Age,
        Form::Text | Form::Count | Form::Truth | Form::Word(_) | Form::Choice(_) => Show::Plain,
        Form::Mib => Show::Mib,
        Form::Gib => Show::Gib,
        Form::Percent | Form::WholePercent => Show::Percent,
        Form::Seconds => Show::Seconds,
        Form::Pairs | Form::Texts => return None,
    };
    Some((short, show))
}

fn head(field: &str) -> &'static str {
    kept(field.replace('_', " ").to_uppercase())
}

fn hyphened(field: &str) -> String {
    field.replace('_', "-")
}

/// Text that the grammar may hold on to: each is made once in a process, for the one kind a command line names.
fn kept(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn kept_all<T>(all: Vec<T>) -> &'static [T] {
    Box::leak(all.into_boxed_slice())
}

#[cfg(test)]
mod tests;
