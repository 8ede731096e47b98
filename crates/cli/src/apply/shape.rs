//! The form that a document must have: read off the schemas of kinds, held against what is written while it is
//! read, so that the reader knows the line of what does not fit.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};
use virtflow_model::Kind;

use crate::schema::{without_null, words_of};

/// Deepest nesting: as deep as a controller takes a body.
const DEPTH_MAX: usize = 32;
/// Most values of one document, those within values too: as many as a controller takes in a body.
const VALUES_MAX: usize = 20_000;
/// Fields that the server fills in, and those that say which object is meant.
const FIELDS: &[&str] = &[
    "id",
    "kind",
    "name",
    "tenant",
    "tenant_id",
    "parent",
    "parent_id",
    "created_by",
    "created_at",
    "updated_by",
    "updated_at",
];
/// Numbers of a document that the server fills in.
const NUMBERS: &[&str] = &["generation", "version"];

/// What may stand at a place.
#[derive(Debug)]
pub(super) enum Shape {
    /// Whatever it is.
    Any,
    /// An object with these fields, and others only if a form is told for them.
    Fields(BTreeMap<String, Shape>, Option<Box<Shape>>),
    /// A list.
    List(Box<Shape>),
    /// A single value of one of these JSON types, of these words if there are some.
    Single(Vec<String>, Option<Vec<String>>),
}

impl Shape {
    /// A whole document of a kind, as `get` shows one: what the server fills in may stand there.
    pub(super) fn of_document(kind: Kind) -> Self {
        let mut spec = Self::of(&kind.spec_schema());
        if let Self::Fields(fields, _) = &mut spec {
            let rules = kind.rules();
            let references = rules.references.iter().map(|reference| reference.field);
            for field in references.chain(rules.anything.map(|named| named.field)) {
                fields.insert(field.to_owned(), Self::text());
            }
        }
        let texts = FIELDS.iter().map(|field| (*field, Self::text()));
        let numbers = NUMBERS.iter().map(|field| {
            let number = Self::Single(vec!["integer".into()], None);
            (*field, number)
        });
        let labels = Self::Fields(BTreeMap::new(), Some(Box::new(Self::text())));
        let about = ["name", "tenant", "parent"].map(|field| (field, Self::text()));
        let about = about.into_iter().chain([("labels", labels)]);
        let rest = [
            ("metadata", Self::fields(about)),
            ("names", Self::Any),
            ("status", Self::Any),
            ("spec", spec),
        ];
        // What a controller is in its group.
        let member = (kind == Kind::Controller).then_some(("member", Self::Any));
        Self::fields(texts.chain(numbers).chain(rest).chain(member))
    }

    fn fields<'f>(fields: impl Iterator<Item = (&'f str, Self)>) -> Self {
        let fields = fields.map(|(name, shape)| (name.to_owned(), shape));
        Self::Fields(fields.collect(), None)
    }

    fn text() -> Self {
        Self::Single(vec!["string".into()], None)
    }

    fn of(schema: &Value) -> Self {
        let schema = without_null(schema);
        let types: Vec<String> = match &schema["type"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several
                .iter()
                .filter_map(|one| one.as_str().map(str::to_owned))
                .filter(|one| one != "null")
                .collect(),
            _ => Vec::new(),
        };
        if let Some(words) = words_of(&schema) {
            return Self::Single(vec!["string".into()], Some(words));
        }
        match types.as_slice() {
            [one] if one == "object" => Self::of_object(&schema),
            [one] if one == "array" => Self::List(Box::new(Self::of(&schema["items"]))),
            // Alternatives are told apart by the type itself, not here.
            [] => Self::Any,
            several if several.iter().any(|one| one == "object" || one == "array") => Self::Any,
            _ => Self::Single(types, None),
        }
    }

    fn of_object(schema: &Value) -> Self {
        let fields: BTreeMap<String, Self> = match schema["properties"].as_object() {
            Some(fields) => fields
                .iter()
                .map(|(name, field)| (name.clone(), Self::of(field)))
                .collect(),
            None => BTreeMap::new(),
        };
        let rest = match &schema["additionalProperties"] {
            Value::Null if !fields.is_empty() => None,
            Value::Bool(false) => None,
            Value::Object(rest) => Some(Box::new(Self::of(&json!(rest)))),
            _ => Some(Box::new(Self::Any)),
        };
        Self::Fields(fields, rest)
    }
}

/// Reads a value that must have a form.
#[derive(Clone, Copy)]
pub(super) struct Fitting<'s> {
    pub(super) shape: &'s Shape,
    /// How many values may still come.
    pub(super) left: &'s Cell<usize>,
    pub(super) depth: usize,
}

impl<'s> Fitting<'s> {
    /// For a new document; `left` lives as long as it is read.
    pub(super) fn new(shape: &'s Shape, left: &'s Cell<usize>) -> Self {
        left.set(VALUES_MAX);
        Self {
            shape,
            left,
            depth: DEPTH_MAX,
        }
    }

    fn within<E: serde::de::Error>(self, shape: &'s Shape) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        let depth = depth.ok_or_else(|| E::custom(format!("nested deeper than {DEPTH_MAX}")))?;
        Ok(Self {
            shape,
            depth,
            ..self
        })
    }

    /// Refuses a single value where another type is due.
    fn single<E: serde::de::Error>(self, kind: &str, value: Value) -> Result<Value, E> {
        let (types, words) = match self.shape {
            Shape::Any => return Ok(value),
            Shape::Single(types, words) => (types, words),
            Shape::Fields(..) => return Err(due("an object", &value)),
            Shape::List(_) => return Err(due("a list", &value)),
        };
        let fits = types
            .iter()
            .any(|due| due == kind || (due == "number" && kind == "integer"));
        if !fits {
            let is_text = types.iter().all(|due| due == "string");
            return Err(match is_text {
                true => E::custom(format!(
                    "text is due, not {value}: write it in quotes, \"{value}\""
                )),
                false => due(&types.join(" or "), &value),
            });
        }
        match (words, value.as_str()) {
            (Some(words), Some(text)) if !words.iter().any(|word| word == text) => Err(E::custom(
                format!("`{text}` is none of {}", words.join(", ")),
            )),
            _ => Ok(value),
        }
    }
}

fn due<E: serde::de::Error>(what: &str, value: &Value) -> E {
    let shown: String = value.to_string().chars().take(80).collect();
    E::custom(format!("{what} is due, not {shown}"))
}

impl<'de> DeserializeSeed<'de> for Fitting<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        let left = left.ok_or_else(|| {
            D::Error::custom(format!("more than {VALUES_MAX} values in one document"))
        })?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

/// A field's name: refused where it stands if nothing is called so.
struct Key<'s>(&'s Shape);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        match self.0 {
            Shape::Fields(fields, None) if !fields.contains_key(key) => Err(E::custom(format!(
                "there is no field `{}`; there are {}",
                key.chars().take(80).collect::<String>(),
                fields.keys().cloned().collect::<Vec<_>>().join(", ")
            ))),
            _ => Ok(key.to_owned()),
        }
    }
}

impl<'de> Visitor<'de> for Fitting<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without tags")
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.single("boolean", value.into())
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.single("integer", value.into())
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.single("integer", value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        let number = number.ok_or_else(|| E::custom("a number must be finite"))?;
        self.single("number", Value::Number(number))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.single("string", value.into())
    }
    /// `null` takes a field away, whatever its form.
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let item = match self.shape {
            Shape::List(item) => item,
            Shape::Any => self.shape,
            _ => return Err(A::Error::custom("no list is due here")),
        };
        let within = self.within(item)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(within)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        if let Shape::List(_) | Shape::Single(..) = self.shape {
            return Err(A::Error::custom("no object is due here"));
        }
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key(self.shape))? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the field `{key}` stands twice")));
            }
            let shape = match self.shape {
                Shape::Fields(fields, rest) => fields.get(&key).or(rest.as_deref()),
                _ => None,
            };
            let value = entries.next_value_seed(self.within(shape.unwrap_or(&Shape::Any))?)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Result<Value, String> {
        let left = Cell::new(0);
        let shape = Shape::of_document(kind);
        let reader = serde_yaml_ng::Deserializer::from_str(text);
        Fitting::new(&shape, &left)
            .deserialize(reader)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_line() {
        for (text, line, problem) in [
            ("kind: rack\nspec:\n  colour: red\n", 3, "no field `colour`"),
            ("kind: rack\ncolour: red\n", 2, "no field `colour`"),
            ("kind: rack\nmetadata:\n  nmae: r1\n", 3, "no field `nmae`"),
            (
                "kind: rack\nspec:\n\n  as_number: many\n",
                4,
                "integer is due, not \"many\"",
            ),
            ("kind: rack\nname: 7\n", 2, "write it in quotes, \"7\""),
            ("kind: rack\nspec: []\n", 2, "no list is due"),
            ("kind: rack\nspec: 7\n", 2, "an object is due, not 7"),
            (
                "kind: rack\nspec:\n  as_number: 1\n  as_number: 2\n",
                3,
                "stands twice",
            ),
        ] {
            let error = read(Kind::Rack, text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(error.contains(&format!("line {line}")), "{text}: {error}");
        }
        let error = read(Kind::DataCenter, "spec:\n  state: open\n").unwrap_err();
        assert!(
            error.contains("`open` is none of active, maintenance, offline"),
            "{error}"
        );
    }

    #[test]
    fn names_in_place_of_ids_and_null_fit() {
        let text = "kind: rack\nspec: {data_center: dc1, as_number: null}\n";
        assert_eq!(
            read(Kind::Rack, text),
            Ok(json!({"kind": "rack", "spec": {"data_center": "dc1", "as_number": null}}))
        );
        assert!(read(Kind::RoleBinding, "spec: {scope: system}").is_ok());
        assert!(read(Kind::VirtualMachine, "spec: {labels: {a: b}}").is_ok());
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_refused() {
        let deep = format!("status: {}{}", "[".repeat(40), "]".repeat(40));
        assert!(
            read(Kind::Rack, &deep)
                .unwrap_err()
                .contains("deeper than 32")
        );
        let many = format!("status: [{}0]", "0,".repeat(20_000));
        assert!(
            read(Kind::Rack, &many)
                .unwrap_err()
                .contains("more than 20000 values")
        );
        let bomb = "status:\n  a: &a [x, x, x, x, x, x, x, x]\n  b: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n  c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n  d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n  e: [*d, *d, *d, *d, *d, *d, *d, *d]\n";
        assert!(read(Kind::Rack, bomb).is_err());
    }

    /// What people are shown as an example can be written down.
    #[test]
    fn the_example_of_every_kind_fits() {
        for kind in Kind::ALL {
            let document = json!({"kind": kind.name(), "spec": kind.example()});
            let text = serde_yaml_ng::to_string(&document).unwrap();
            let read = read(*kind, &text);
            assert_eq!(read, Ok(document), "{}", kind.name());
        }
    }
}
