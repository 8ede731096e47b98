//! By what lists of a kind are narrowed: it follows from what is declared of the kind and from its fields.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Value, json};
use virtflow_types::{ObjectId, Timestamp};

use crate::rules::{Owner, Tie};
use crate::{Kind, Meta, PerKind, Resource, Scope, Stamps, key};

/// The word for users whose logins are refused for a while, beside those of their states.
pub const LOCKED: &str = "locked";

/// Fields of the spec that narrow lists wherever a kind has them.
const FIELDS: [&str; 7] = [
    "type",
    "severity",
    "category",
    "machine_type",
    "rental",
    "serial_number",
    "mac_address",
];

/// A parameter of a kind's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// The parameter.
    pub name: &'static str,
    /// What its value is.
    pub by: By,
}

/// What the value of a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Name or id of an object of this kind.
    Object(Kind),
    /// An object of any kind: `kind/name`, or an id.
    Any,
    /// A name.
    Name,
    /// A word of the field with the parameter's name.
    Word,
    /// A text of the field with the parameter's name; `tag` is one of the field `tags`.
    Text,
    /// `key=value`.
    Label,
    /// Requirements on labels, by commas.
    Labels,
}

/// Which index leads to what a list of a kind asks for.
#[derive(Debug)]
struct Indexed {
    references: Vec<&'static str>,
    labels: bool,
}

/// Read off the types once for each kind that is asked about: schemas are not made for nothing.
#[derive(Debug)]
struct Known {
    filters: OnceLock<Vec<Filter>>,
    indexed: OnceLock<Indexed>,
    words: OnceLock<BTreeMap<&'static str, Vec<String>>>,
}

static KNOWN: [Known; Kind::ALL.len()] = [const {
    Known {
        filters: OnceLock::new(),
        indexed: OnceLock::new(),
        words: OnceLock::new(),
    }
}; Kind::ALL.len()];

impl Kind {
    /// By what lists of it are narrowed, beside where a page begins and how long it is.
    pub fn filters(self) -> &'static [Filter] {
        let known = KNOWN.get(self as usize);
        known.map_or(&[], |known| {
            known.filters.get_or_init(|| self.dispatch(FiltersOf))
        })
    }

    /// True if an object that names another in this declared field links to it, always: then the links of what is
    /// named lead to all that name it.
    pub fn is_linked(self, field: &str) -> bool {
        self.indexed()
            .is_some_and(|indexed| indexed.references.contains(&field))
    }

    /// True if an object's labels are among its index keys.
    pub fn labels_are_indexed(self) -> bool {
        self.indexed().is_some_and(|indexed| indexed.labels)
    }

    /// The words that a filter by word knows, in the order in which they are declared; none if any text may stand
    /// there.
    pub fn words(self, filter: &str) -> &'static [String] {
        let known = KNOWN.get(self as usize);
        let words = known.map(|known| known.words.get_or_init(|| self.dispatch(WordsOf)));
        words
            .and_then(|words| words.get(filter))
            .map_or(&[], Vec::as_slice)
    }

    fn indexed(self) -> Option<&'static Indexed> {
        let known = KNOWN.get(self as usize)?;
        Some(known.indexed.get_or_init(|| self.dispatch(IndexedOf)))
    }
}

struct FiltersOf;

impl PerKind for FiltersOf {
    type Out = Vec<Filter>;
    fn run<R: Resource>(self) -> Vec<Filter> {
        filters_of::<R>(&R::KIND.spec_schema(), &R::KIND.status_schema())
    }
}

struct WordsOf;

impl PerKind for WordsOf {
    type Out = BTreeMap<&'static str, Vec<String>>;
    fn run<R: Resource>(self) -> Self::Out {
        let (spec, status) = (R::KIND.spec_schema(), R::KIND.status_schema());
        let by_word = R::KIND
            .filters()
            .iter()
            .filter(|filter| filter.by == By::Word);
        let words = by_word.map(|filter| {
            let fields = match (R::KIND, filter.name) {
                // Where it is said to be, and where it was seen.
                (Kind::Baremetal, "state") => vec![
                    &spec["properties"]["state"],
                    &status["properties"]["liveness"],
                ],
                (_, name) => vec![&spec["properties"][name], &status["properties"][name]],
            };
            // Nobody sets it: it passes with the time.
            let passing =
                (R::KIND == Kind::User && filter.name == "state").then(|| LOCKED.to_owned());
            let mut words: Vec<String> = passing.into_iter().collect();
            for word in fields.into_iter().flat_map(words_in) {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
            (filter.name, words)
        });
        words.collect()
    }
}

struct IndexedOf;

impl PerKind for IndexedOf {
    type Out = Indexed;
    fn run<R: Resource>(self) -> Indexed {
        let samples = Samples::<R>::of(&R::KIND.spec_schema(), &R::KIND.status_schema());
        let references = R::RULES.references.iter();
        Indexed {
            references: references
                .filter(|reference| {
                    reference.tie == Tie::Parent || samples.always_link(reference.field)
                })
                .map(|reference| reference.field)
                .collect(),
            labels: samples.index_labels(),
        }
    }
}

fn filters_of<R: Resource>(spec: &Value, status: &Value) -> Vec<Filter> {
    let has = |schema: &Value, field: &str| schema["properties"][field].is_object();
    let mut filters = Vec::new();
    let mut add = |name: &'static str, by: By| {
        if !filters.iter().any(|filter: &Filter| filter.name == name) {
            filters.push(Filter { name, by });
        }
    };
    if R::NAMED {
        add("name", By::Name);
    }
    if R::SCOPE != Scope::System {
        add("tenant", By::Object(Kind::Tenant));
    }
    match (R::RULES.parent(), R::RULES.owner) {
        (Some(parent), _) => add("parent", By::Object(parent.kind)),
        (None, Owner::Parent) => add("parent", By::Object(Kind::User)),
        _ => {}
    }
    // The host of these was chosen for them: no declared reference says it.
    if matches!(R::KIND, Kind::VirtualMachine | Kind::Residue) {
        add("host", By::Object(Kind::Baremetal));
    }
    // What is looked after may be anything, so no reference of one kind says it.
    if R::KIND == Kind::ResourceMaintainer {
        add("resource", By::Any);
    }
    // Who has an address is the work of a verb, and its subnet is its pool's.
    if R::KIND == Kind::IpAddress {
        add("owner", By::Object(Kind::VirtualMachine));
        add("subnet", By::Object(Kind::Subnet));
        add("address", By::Text);
    }
    for reference in R::RULES.references {
        add(reference.field, By::Object(reference.kind));
    }
    if has(spec, "state") || has(status, "state") {
        add("state", By::Word);
    }
    if has(status, "phase") {
        add("phase", By::Word);
    }
    if has(status, "health") {
        add("health", By::Word);
    }
    // Of a configuration: what it configures.
    if has(spec, "scope") {
        add("scope", By::Text);
    }
    // Versions of one name are objects without names of their own.
    if !R::NAMED && has(spec, "name") {
        add("name", By::Text);
    }
    // What is done to anything.
    if R::KIND == Kind::Operation {
        add("target", By::Any);
    }
    for field in FIELDS {
        if has(spec, field) {
            let has_words = !words_in(&spec["properties"][field]).is_empty();
            add(field, if has_words { By::Word } else { By::Text });
        }
    }
    if has(spec, "tags") {
        add("tag", By::Text);
    }
    if has(spec, "labels") {
        add("label", By::Label);
        add("labels", By::Labels);
    }
    filters
}

/// Objects of a kind as there may be: the example, and the example with one field after the other changed.
struct Samples<R: Resource> {
    spec: Value,
    specs: Vec<Value>,
    statuses: Vec<R::Status>,
}

impl<R: Resource> Samples<R> {
    fn of(spec: &Value, status: &Value) -> Self {
        let example = json!(R::example());
        let blank = json!(R::Status::default());
        Self {
            specs: with_each_word(&example, spec),
            statuses: with_each_word(&blank, status)
                .into_iter()
                .filter_map(|status| serde_json::from_value(status).ok())
                .collect(),
            spec: example,
        }
    }

    /// True if every sample that names something in `field` links to it.
    fn always_link(&self, field: &str) -> bool {
        let id = ObjectId::from_u128(0xfeed);
        let naming = |spec: &Value| {
            let mut spec = spec.clone();
            spec[format!("{field}_id")] = json!(id);
            serde_json::from_value::<R::Spec>(spec).ok()
        };
        let links = |spec: &R::Spec, status: &R::Status| {
            R::footprint(&meta(), spec, status).links.contains(&id)
        };
        let Some(first) = naming(&self.spec) else {
            return false;
        };
        self.statuses.iter().all(|status| links(&first, status))
            && self
                .specs
                .iter()
                .filter_map(naming)
                .all(|spec| links(&spec, &R::Status::default()))
    }

    fn index_labels(&self) -> bool {
        let mut spec = self.spec.clone();
        spec["labels"] = json!({"a": "b"});
        serde_json::from_value::<R::Spec>(spec).is_ok_and(|spec| {
            let print = R::footprint(&meta(), &spec, &R::Status::default());
            let value = format!("{}/a=b", R::KIND.name());
            print
                .keys
                .iter()
                .any(|key| key.name == key::LABEL && key.value == *value)
        })
    }
}

fn meta() -> Meta {
    Meta {
        id: ObjectId::from_u128(1),
        name: "x".into(),
        tenant: None,
        parent: None,
        generation: 1,
        version: 1,
        closed: false,
        stamps: Stamps::default(),
    }
}

/// The value, and it with one field after the other set to what the schema allows there: each word, or something
/// of its type.
fn with_each_word(value: &Value, schema: &Value) -> Vec<Value> {
    let mut all = vec![value.clone()];
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        for other in values_of(schema) {
            let mut changed = value.clone();
            changed[field] = other;
            all.push(changed);
        }
    }
    all
}

/// The words of a field that has words.
fn words_in(schema: &Value) -> Vec<String> {
    let one_of = schema["oneOf"].as_array().into_iter().flatten();
    let consts = one_of.map(|one| &one["const"]);
    let words = consts.chain(schema["enum"].as_array().into_iter().flatten());
    words
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect()
}

fn values_of(schema: &Value) -> Vec<Value> {
    let mut values: Vec<Value> = words_in(schema).into_iter().map(Value::String).collect();
    let is = |name: &str| {
        let of_type = &schema["type"];
        of_type == name
            || of_type
                .as_array()
                .is_some_and(|types| types.contains(&name.into()))
    };
    if is("boolean") {
        values.extend([true.into(), false.into()]);
    } else if is("integer") {
        values.push(1.into());
    } else if is("string") && values.is_empty() {
        values.push(match schema["format"].as_str() {
            Some("uuid") => json!(ObjectId::from_u128(0xabc)),
            Some("date-time") => json!(Timestamp::from_ms(1_795_456_800_000)),
            _ => "x".into(),
        });
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: Kind) -> Vec<&'static str> {
        kind.filters().iter().map(|filter| filter.name).collect()
    }

    #[test]
    fn filters_follow_from_what_is_declared() {
        assert_eq!(names(Kind::Rack), ["name", "data_center"]);
        assert_eq!(
            names(Kind::VirtualMachine),
            [
                "name",
                "tenant",
                "host",
                "specification",
                "image",
                "image_version",
                "group",
                "pinned_host",
                "user_group",
                "cluster",
                "phase",
                "type",
                "label",
                "labels"
            ]
        );
        assert_eq!(names(Kind::Ontology), ["tenant", "name", "type", "tag"]);
        assert!(names(Kind::Alert).contains(&"severity"));
        assert!(names(Kind::Doc).contains(&"category"));
        assert!(names(Kind::K8sCluster).contains(&"tag"));
        assert_eq!(
            names(Kind::Baremetal),
            [
                "name",
                "group",
                "rack",
                "state",
                "health",
                "machine_type",
                "rental",
                "serial_number",
                "label",
                "labels"
            ]
        );
        assert_eq!(names(Kind::Operation), ["tenant", "state", "target"]);
        assert_eq!(names(Kind::BaremetalGroupTenantQuota), ["group", "tenant"]);
        assert_eq!(names(Kind::Session), ["tenant", "parent"]);
        let group = Filter {
            name: "group",
            by: By::Object(Kind::BaremetalGroup),
        };
        assert!(Kind::VirtualMachine.filters().contains(&group));
    }

    #[test]
    fn every_declared_reference_is_a_filter() {
        for kind in Kind::ALL {
            for reference in kind.rules().references {
                let found = kind
                    .filters()
                    .iter()
                    .find(|filter| filter.name == reference.field);
                assert_eq!(
                    found.map(|filter| filter.by),
                    Some(By::Object(reference.kind)),
                    "{}: {}",
                    kind.name(),
                    reference.field
                );
            }
        }
    }

    /// A tenant's administrator is named and not linked; an invitation links only until it was used, so that the
    /// links of a group lead to some of those that name it and not to all.
    #[test]
    fn a_reference_counts_as_linked_if_it_always_is() {
        assert!(Kind::Rack.is_linked("data_center"));
        assert!(Kind::VirtualMachine.is_linked("specification"));
        assert!(!Kind::Tenant.is_linked("admin_user"));
        assert!(!Kind::JoinToken.is_linked("group"));
        assert!(!Kind::Rack.is_linked("colour"));
        assert!(Kind::VirtualMachine.labels_are_indexed());
        assert!(!Kind::Tenant.labels_are_indexed());
    }
}
