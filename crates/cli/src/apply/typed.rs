//! What a spec is once it has its type: with the defaults of what it leaves out, and what it holds that no other object
//! may hold.

use serde_json::{Map, Value, json};
use virtflow_model::{Kind, Meta, PerKind, Resource, Stamps, space};
use virtflow_types::{Claim, ObjectId};

use super::diff;

/// Stands for the id of what is not there yet.
const COMING: ObjectId = ObjectId::from_u128(u128::MAX);

/// The spec that an object will have: what it has, with the fields that are said in place of its own. A field that is
/// said is said whole; one that is left out stays.
pub(super) fn wanted(
    kind: Kind,
    is: &Map<String, Value>,
    said: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut merged = is.clone();
    for (field, value) in said {
        match value.is_null() {
            true => merged.remove(field),
            false => merged.insert(field.clone(), value.clone()),
        };
    }
    let normal = normal(kind, &merged)?;
    // Only what is said is compared: this program may know more or fewer fields than the controllers.
    let mut wanted = is.clone();
    for field in said.keys() {
        match normal.get(field) {
            Some(value) => wanted.insert(field.clone(), value.clone()),
            None => wanted.remove(field),
        };
    }
    Ok(wanted)
}

/// A spec with its defaults.
pub(super) fn normal(kind: Kind, spec: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    struct Normal(Value);
    impl PerKind for Normal {
        type Out = Result<Value, String>;
        fn run<R: Resource>(self) -> Self::Out {
            let spec: R::Spec =
                serde_json::from_value(self.0).map_err(|error| error.to_string())?;
            serde_json::to_value(spec).map_err(|error| error.to_string())
        }
    }
    let mut spec = spec.clone();
    let rules = kind.rules();
    let fields = rules.references.iter().map(|reference| reference.field);
    for field in fields.chain(rules.anything.map(|any| any.field)) {
        if spec.remove(field).is_some() {
            spec.insert(format!("{field}_id"), json!(COMING));
        }
    }
    spec.retain(|_, value| !value.is_null());
    match kind.dispatch(Normal(spec.into()))? {
        Value::Object(normal) => Ok(normal),
        _ => Err("a spec is an object".into()),
    }
}

/// What a kind refuses by looking at a spec alone.
pub(super) fn check(kind: Kind, spec: &Map<String, Value>) -> Result<(), String> {
    struct Check(Value);
    impl PerKind for Check {
        type Out = Result<(), String>;
        fn run<R: Resource>(self) -> Self::Out {
            let spec: R::Spec =
                serde_json::from_value(self.0).map_err(|error| error.to_string())?;
            let refused = R::validate(&spec);
            refused.map_err(|it| format!(".{}: {}", it.field, it.problem))
        }
    }
    kind.dispatch(Check(spec.clone().into()))
}

/// The one object among these that would hold what this spec holds, if no two may hold it; else one that is just so.
pub(super) fn same(kind: Kind, rows: Vec<Value>, said: &Map<String, Value>) -> Option<Value> {
    let mut just_so = None;
    for row in rows {
        let nothing = Map::new();
        let is = row["spec"].as_object().unwrap_or(&nothing);
        let Ok(wanted) = wanted(kind, is, said) else {
            continue;
        };
        let held = claims(kind, &row, &row["spec"]);
        if !held.is_empty() {
            if held == claims(kind, &row, &wanted.into()) {
                return Some(row);
            }
        } else if just_so.is_none() && diff::patch(is, &wanted).is_empty() {
            just_so = Some(row);
        }
    }
    just_so
}

/// What an object holds with a spec. What goes from one object to the next, such as being the default, does not count.
fn claims(kind: Kind, row: &Value, spec: &Value) -> Vec<Claim> {
    struct Held<'v> {
        meta: Meta,
        spec: &'v Value,
        status: &'v Value,
    }
    impl PerKind for Held<'_> {
        type Out = Vec<Claim>;
        fn run<R: Resource>(self) -> Vec<Claim> {
            let Ok(spec) = serde_json::from_value::<R::Spec>(self.spec.clone()) else {
                return Vec::new();
            };
            let status = serde_json::from_value(self.status.clone()).unwrap_or_default();
            let print = R::footprint(&self.meta, &spec, &status);
            let held = print
                .claims
                .iter()
                .filter(|claim| claim.space != space::SINGLE);
            held.cloned().collect()
        }
    }
    let id = |field: &str| row[field].as_str().and_then(|text| text.parse().ok());
    let meta = Meta {
        id: id("id").unwrap_or(ObjectId::NIL),
        name: row["name"].as_str().unwrap_or_default().into(),
        tenant: id("tenant_id"),
        parent: id("parent_id"),
        generation: 1,
        version: 1,
        closed: false,
        stamps: Stamps::default(),
    };
    let status = &row["status"];
    kind.dispatch(Held { meta, spec, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_is_left_out_stays_and_what_is_said_is_whole() {
        let is = map(
            json!({"cpu_cores": 2, "memory_mib": 512, "storage_gib": 4, "power": "stopped",
            "restart_policy": "never", "grace_s": 30, "type": "other", "labels": {"a": "1", "b": "2"}}),
        );
        let said = map(json!({"labels": {"a": "1"}, "grace_s": 5}));
        let wanted = wanted(Kind::VirtualMachine, &is, &said).unwrap();
        let patch = diff::patch(&is, &wanted);
        assert_eq!(
            Value::from(patch),
            json!({"labels": {"b": null}, "grace_s": 5})
        );
    }

    #[test]
    fn null_takes_a_field_away_and_a_default_is_no_difference() {
        let is = map(json!({"as_number": 7, "bgp_number": 8}));
        let null = wanted(Kind::Rack, &is, &map(json!({"as_number": null}))).unwrap();
        assert_eq!(
            Value::from(diff::patch(&is, &null)),
            json!({"as_number": null})
        );
        let whole = normal(Kind::DataCenter, &map(json!({"region": "north"}))).unwrap();
        let said = map(json!({"state": "active", "description": ""}));
        let same = wanted(Kind::DataCenter, &whole, &said).unwrap();
        assert_eq!(Value::from(diff::patch(&whole, &same)), json!({}));
    }

    #[test]
    fn what_has_no_name_is_known_by_what_only_it_holds() {
        let id = |n: u128| ObjectId::from_u128(n).to_string();
        let row = |n: u128, tenant: u128| {
            json!({"id": id(n), "status": {}, "spec": {"group_id": id(1), "tenant_id": id(tenant),
                "cpu_quota_percentage": 50.0, "memory_mib": 64, "storage_gib": 4}})
        };
        let rows = vec![row(10, 2), row(11, 3)];
        let said = map(json!({"group_id": id(1), "tenant_id": id(3), "memory_mib": 128}));
        let found = same(Kind::BaremetalGroupTenantQuota, rows.clone(), &said).unwrap();
        assert_eq!(found["id"], json!(id(11)));
        let said = map(json!({"group_id": id(1), "tenant_id": id(4)}));
        assert_eq!(same(Kind::BaremetalGroupTenantQuota, rows, &said), None);
    }

    #[test]
    fn what_holds_nothing_is_known_by_being_just_so() {
        let ticket = |n: u128, subject: &str| json!({"id": ObjectId::from_u128(n).to_string(), "status": {}, "spec": {"subject": subject, "state": "open"}});
        let rows = vec![ticket(1, "No console"), ticket(2, "No disk")];
        let found = same(
            Kind::HelpTicket,
            rows.clone(),
            &map(json!({"subject": "No disk"})),
        );
        assert_eq!(
            found.unwrap()["id"],
            json!(ObjectId::from_u128(2).to_string())
        );
        assert_eq!(
            same(Kind::HelpTicket, rows, &map(json!({"subject": "No net"}))),
            None
        );
    }
}
