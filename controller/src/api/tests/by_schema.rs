//! Values made from JSON Schema by chance, and values that are nearly right: what a program sends that knows
//! nothing of the API but its document.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value, json};
use virtflow_testkit::fuzz::Chance;

/// Texts at which something may go wrong.
const ODD_TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "\u{1b}[2J",
    "\n",
    "a\tb",
    "\u{202e}abc",
    "\u{feff}",
    "e\u{301}",
    "é",
    "😀",
    "ﬀ",
    "..",
    "../../etc/passwd",
    "%00",
    "%2e%2e",
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "NaN",
    "*",
    "'; DROP TABLE object; --",
    "\" OR 1=1",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "$(id)",
    "9223372036854775808",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "0190D3B2-7C1E-7E6A-B1A1-5B0E3F4D2C11",
    "2026-02-30T00:00:00Z",
    "-271821-04-20T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "0000-01-01T00:00:00+23:59",
    "0.0.0.0/0",
    "::/0",
    "256.1.1.1",
    "10.0.0.0/33",
    "cluster.local.",
];

/// Makes values.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    pub(super) chance: Chance,
    /// Where `$ref` leads.
    document: &'a Value,
    /// What there is: ids by the names of fields that name them.
    there: &'a BTreeMap<String, String>,
}

/// How many of the properties that may be left out are in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Optional {
    None,
    Some,
    All,
}

impl<'a> Maker<'a> {
    pub(super) fn new(seed: u64, document: &'a Value, there: &'a BTreeMap<String, String>) -> Self {
        Self {
            chance: Chance::new(seed),
            document,
            there,
        }
    }

    fn resolved(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(path) => {
                let found = self.document.pointer(path.trim_start_matches('#'));
                self.resolved(found.unwrap_or_else(|| panic!("{path} leads nowhere")))
            }
            None => schema,
        }
    }

    /// A value that the schema allows, for a field of this name.
    pub(super) fn value(&mut self, schema: &'a Value, field: &str, optional: Optional) -> Value {
        let schema = self.resolved(schema);
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(words) = schema["enum"].as_array() {
            return self.chance.pick(words).cloned().unwrap_or_default();
        }
        for of in ["oneOf", "anyOf"] {
            if let Some(forms) = schema[of].as_array() {
                let form = self.chance.below(forms.len());
                return self.value(&forms[form], field, optional);
            }
        }
        let of_type = match &schema["type"] {
            Value::String(one) => one.clone(),
            Value::Array(some) => {
                // Null now and then, where it may be.
                let real = some.iter().find(|one| *one != "null");
                let is_null = some.iter().any(|one| one == "null") && self.chance.one_in(4);
                let word = real.filter(|_| !is_null).and_then(Value::as_str);
                word.unwrap_or("null").to_owned()
            }
            _ => return self.anything(3),
        };
        match of_type.as_str() {
            "object" => self.object(schema, optional),
            "array" => {
                let most = schema["maxItems"].as_u64().unwrap_or(3).min(3);
                let least = schema["minItems"].as_u64().unwrap_or(0);
                let all = usize::try_from(most + 1 - least).unwrap_or(1);
                let number = least + self.chance.below(all) as u64;
                let item = &schema["items"];
                (0..number)
                    .map(|_| self.value(item, field, optional))
                    .collect()
            }
            "integer" => self.integer(schema),
            "number" => {
                match Number::from_f64(self.integer(schema).as_f64().unwrap_or(0.0) / 2.0) {
                    Some(half) => Value::Number(half),
                    None => json!(0.5),
                }
            }
            "boolean" => self.chance.one_in(2).into(),
            "null" => Value::Null,
            _ => self.text(schema, field).into(),
        }
    }

    fn object(&mut self, schema: &'a Value, optional: Optional) -> Value {
        let mut made = Map::new();
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let is_in = required.contains(&name.as_str())
                || match optional {
                    Optional::None => false,
                    Optional::Some => self.chance.one_in(3),
                    Optional::All => true,
                };
            if is_in {
                made.insert(name.clone(), self.value(property, name, optional));
            }
        }
        if let Some(form) = schema.get("additionalProperties")
            && form.is_object()
            && optional != Optional::None
        {
            for n in 0..self.chance.below(3) {
                made.insert(format!("key{n}"), self.value(form, "", optional));
            }
        }
        Value::Object(made)
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let least = schema["minimum"].as_i64().unwrap_or(0);
        let most = schema["maximum"]
            .as_i64()
            .unwrap_or(match schema["format"].as_str() {
                Some("uint8") => i64::from(u8::MAX),
                Some("uint16") => i64::from(u16::MAX),
                Some("uint32") => i64::from(u32::MAX),
                _ => i64::MAX,
            });
        // Small ones mostly: a large one is more than anybody has.
        let most = match self.chance.below(8) {
            0 => most,
            1 => return most.into(),
            2 => return least.into(),
            _ => most.min(least.saturating_add(64)),
        };
        let span = usize::try_from(most.saturating_sub(least).saturating_add(1)).unwrap_or(1);
        (least + i64::try_from(self.chance.below(span)).unwrap_or(0)).into()
    }

    fn text(&mut self, schema: &Value, field: &str) -> String {
        // A field that names something names what there is, mostly.
        if !self.chance.one_in(8)
            && let Some(id) = self.there.get(field)
        {
            return id.clone();
        }
        let number = self.chance.next();
        match schema["format"].as_str() {
            Some("uuid") => {
                let ids: Vec<&String> = self.there.values().collect();
                match self.chance.pick(&ids) {
                    Some(id) if number.is_multiple_of(2) => (*id).clone(),
                    _ => format!("01a21000-0000-7000-8000-{:012x}", number & 0xffff_ffff_ffff),
                }
            }
            Some("date-time") => format!(
                "20{:02}-{:02}-{:02}T{:02}:00:00Z",
                20 + number % 20,
                1 + number / 20 % 12,
                1 + number / 240 % 28,
                number / 6720 % 24
            ),
            Some("ip") => format!(
                "10.{}.{}.{}",
                number % 256,
                number / 256 % 256,
                number / 65536 % 256
            ),
            _ if schema["pattern"].is_string() => {
                format!("{}.{}", number % 1000, number / 1000 % 100)
            }
            _ if field == "name" => format!("n{:x}", number & 0xffff_ffff),
            _ => match self.chance.below(4) {
                0 => (*self.chance.pick(ODD_TEXTS).unwrap_or(&"")).to_owned(),
                _ => format!("text-{:x}", number & 0xffff),
            },
        }
    }

    fn anything(&mut self, depth: usize) -> Value {
        match self.chance.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => self.chance.one_in(2).into(),
            2 => self.chance.odd_number().into(),
            3 => json!(-1.5e300),
            4 => self.odd_text().into(),
            5 => (0..self.chance.below(3))
                .map(|_| self.anything(depth - 1))
                .collect(),
            _ => {
                let fields = self.chance.below(3);
                let mut object = Map::new();
                for n in 0..fields {
                    object.insert(format!("f{n}"), self.anything(depth - 1));
                }
                object.into()
            }
        }
    }

    /// A text that no field was made for; now and then a long one.
    pub(super) fn odd_text(&mut self) -> String {
        match self.chance.below(10) {
            0 => "x".repeat(self.chance.length(70_000)),
            1 => "é".repeat(self.chance.length(3_000)),
            2 => {
                let ids: Vec<&String> = self.there.values().collect();
                self.chance
                    .pick(&ids)
                    .map(|id| (*id).clone())
                    .unwrap_or_default()
            }
            _ => (*self.chance.pick(ODD_TEXTS).unwrap_or(&"")).to_owned(),
        }
    }

    /// Changes one place of a value into what it should not be.
    pub(super) fn spoil(&mut self, value: &mut Value) {
        let mut places = Vec::new();
        pointers(value, String::new(), &mut places);
        let Some(place) = self.chance.pick(&places).cloned() else {
            return;
        };
        let what = self.chance.below(10);
        let (above, name) = place.rsplit_once('/').unwrap_or(("", ""));
        let name = name.replace("~1", "/").replace("~0", "~");
        match (what, value.pointer_mut(above)) {
            // Something is missing.
            (0, Some(Value::Object(fields))) if !place.is_empty() => {
                fields.remove(&name);
                return;
            }
            // It is under another name: what was asked for is missing, and there is what nobody knows.
            (1, Some(Value::Object(fields))) if !place.is_empty() => {
                let held = fields.remove(&name).unwrap_or_default();
                fields.insert(name.to_uppercase() + "_", held);
                return;
            }
            _ => {}
        }
        let Some(at) = value.pointer_mut(&place) else {
            return;
        };
        match (what, at) {
            (2, Value::Object(fields)) => {
                fields.insert(self.odd_text(), self.anything(2));
            }
            (2, Value::Array(items)) => {
                let all = items.clone();
                for _ in 0..self.chance.length(200) {
                    items.extend(all.iter().cloned());
                    if items.len() > 300 {
                        break;
                    }
                }
                items.push(self.anything(1));
            }
            (3..=5, at @ Value::Number(_)) => {
                *at = match self.chance.below(4) {
                    0 => json!(-1),
                    1 => json!(0.5),
                    2 => json!(1.0e300),
                    _ => self.chance.odd_number().into(),
                };
            }
            (3..=5, at @ Value::String(_)) => *at = self.odd_text().into(),
            (6, at) => *at = json!([at.clone()]),
            (7, at) => *at = Value::Null,
            (_, at) => *at = self.anything(3),
        }
    }
}

/// Where everything in a value is.
fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(field, format!("{at}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                pointers(item, format!("{at}/{n}"), into);
            }
        }
        _ => {}
    }
    into.push(at);
}
