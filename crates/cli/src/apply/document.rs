//! One document: which object it means, what it asks for, and where it stands.

use std::fmt;

use serde_json::{Map, Value};
use virtflow_model::{Kind, Scope};
use virtflow_types::Name;

use crate::failure::Failure;

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file, or `standard input`.
    pub(crate) source: String,
    /// Which document of it, from 1.
    pub(crate) document: usize,
    /// Which item, from 1, where the document is a list.
    pub(crate) item: Option<usize>,
    /// The line it begins in, from 1.
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.source, self.document)?;
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        write!(f, ", line {}", self.line)
    }
}

impl Place {
    /// A failure of what stands here.
    pub(crate) fn refuse(&self, problem: impl fmt::Display) -> Failure {
        Failure::usage(format!("{self}: {problem}"))
    }
}

/// Whose an object is, as far as a document says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The asker's tenant's, or the cloud's if the asker has none.
    Unsaid,
    /// The cloud's own.
    Clouds,
    /// This tenant's, by name or id.
    Tenants(String),
}

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) at: Place,
    pub(crate) kind: Kind,
    /// Absent for kinds without names.
    pub(crate) name: Option<String>,
    pub(crate) whose: Whose,
    /// What it lives under, by name or id.
    pub(crate) parent: Option<String>,
    /// Its id where it was read from.
    pub(crate) id: Option<String>,
    /// The fields that are asked for.
    pub(crate) spec: Map<String, Value>,
}

impl Document {
    /// From a value that has the form of a document of this kind.
    pub(crate) fn of(at: Place, kind: Kind, value: Value) -> Result<Self, Failure> {
        let about = &value["metadata"];
        let said = |field: &str| -> Result<Option<String>, Failure> {
            let text = |value: &Value| {
                value
                    .as_str()
                    .filter(|text| !text.is_empty())
                    .map(str::to_owned)
            };
            match (text(&value[field]), text(&about[field])) {
                (Some(one), Some(other)) if one != other => Err(at.refuse(format!(
                    "`{field}` is `{one}` and, under `metadata`, `{other}`: say it once"
                ))),
                (one, other) => Ok(one.or(other)),
            }
        };
        let name = said("name")?;
        match (&name, kind.is_named()) {
            (None, true) => {
                return Err(at.refuse(format!("{} needs a `name`", kind.with_article())));
            }
            (Some(name), true) => {
                Name::new(name)
                    .map_err(|error| at.refuse(format!("`{name}` is no name: {error}")))?;
            }
            (Some(_), false) => {
                return Err(at.refuse(format!("{} has no name", kind.with_article())));
            }
            (None, false) => {}
        }
        // What `get` prints has the names of what it refers to beside the ids, which are another cluster's elsewhere.
        let known = |field: &str, id: &str| {
            let text = value["names"][field].as_str().or(value[id].as_str());
            text.map(str::to_owned)
        };
        // What is the cloud's own may have a tenant among the names of what it refers to.
        let of_get = || known("tenant", "tenant_id").filter(|_| kind.scope() != Scope::System);
        let whose = match said("tenant")?.or_else(of_get) {
            Some(tenant) if kind.scope() == Scope::System => {
                return Err(at.refuse(format!(
                    "{} belongs to no tenant, and this one is said to be `{tenant}`'s",
                    kind.with_article()
                )));
            }
            Some(tenant) => Whose::Tenants(tenant),
            None if value.get("tenant_id") == Some(&Value::Null) => Whose::Clouds,
            None => Whose::Unsaid,
        };
        let parent = said("parent")?.or_else(|| known("parent", "parent_id"));
        let mut spec = match &value["spec"] {
            Value::Object(spec) => spec.clone(),
            _ => Map::new(),
        };
        if let Some(labels) = about.get("labels") {
            if !kind.has_labels() {
                return Err(at.refuse(format!("{} has no labels", kind.with_article())));
            }
            if spec.contains_key("labels") {
                return Err(at.refuse("labels stand under `metadata` and in `spec`: say them once"));
            }
            spec.insert("labels".into(), labels.clone());
        }
        for reference in kind.rules().references {
            refuse_both(&at, &spec, reference.field)?;
        }
        if let Some(named) = kind.rules().anything {
            refuse_both(&at, &spec, named.field)?;
        }
        Ok(Self {
            id: value["id"].as_str().map(str::to_owned),
            at,
            kind,
            name,
            whose,
            parent,
            spec,
        })
    }

    /// What it is called in messages.
    pub(crate) fn call(&self) -> String {
        let kind = self.kind.name();
        let name = match (&self.name, &self.id) {
            (Some(name), _) => match self.apart() {
                None | Some("") => name.clone(),
                Some(apart) => format!("{name}/{apart}"),
            },
            (None, Some(id)) => id.clone(),
            (None, None) => format!("of document {}", self.at.document),
        };
        match &self.whose {
            Whose::Tenants(tenant) if self.kind.scope() != Scope::System => {
                format!("{kind} {tenant}/{name}")
            }
            _ => format!("{kind} {name}"),
        }
    }

    /// What tells it apart from others of its name: nothing if no others may have it, empty if it is the one that is
    /// meant by the name alone.
    pub(crate) fn apart(&self) -> Option<&str> {
        let field = self.kind.rules().told_apart?;
        Some(self.spec.get(field).and_then(Value::as_str).unwrap_or(""))
    }

    /// True if a reference can mean it: by its id, by its name, alone or with what it lies under, `web/1.0.0`, or with
    /// what tells it apart, `small/gen3`.
    pub(crate) fn goes_by(&self, text: &str) -> bool {
        let is = |own: &Option<String>, text: &str| own.as_deref() == Some(text);
        if is(&self.name, text) || is(&self.id, text) {
            return true;
        }
        // No name has a slash.
        match (text.split_once('/'), self.kind.rules().parent()) {
            (Some((above, name)), Some(_)) => is(&self.name, name) && self.under() == Some(above),
            (Some((name, apart)), None) => is(&self.name, name) && self.apart() == Some(apart),
            (None, _) => false,
        }
    }

    /// What it lives under, as it is said in whichever place: the reference's name or id.
    pub(crate) fn under(&self) -> Option<&str> {
        let of_spec = self.kind.rules().parent().and_then(|parent| {
            let by_name = self.spec.get(parent.field);
            let by_id = self.spec.get(&format!("{}_id", parent.field));
            by_name.or(by_id)?.as_str()
        });
        of_spec.or(self.parent.as_deref())
    }
}

fn refuse_both(at: &Place, spec: &Map<String, Value>, field: &str) -> Result<(), Failure> {
    let id = format!("{field}_id");
    let is_said = |field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    match is_said(field) && is_said(&id) {
        true => Err(at.refuse(format!(
            "`spec.{field}` is given twice, as `{field}` and as `{id}`"
        ))),
        false => Ok(()),
    }
}

/// What documents ask of a kind.
pub(crate) trait Facts {
    /// Whether its objects have names.
    fn is_named(&self) -> bool;
    /// Whether its spec has labels.
    fn has_labels(&self) -> bool;
}

impl Facts for Kind {
    fn is_named(&self) -> bool {
        crate::nouns::of_kind(*self).facts().is_named
    }
    fn has_labels(&self) -> bool {
        self.filters().iter().any(|filter| filter.name == "label")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place() -> Place {
        Place {
            source: "f.yaml".into(),
            document: 2,
            item: None,
            line: 7,
        }
    }

    fn of(kind: Kind, value: Value) -> Result<Document, String> {
        Document::of(place(), kind, value).map_err(|failure| failure.message)
    }

    #[test]
    fn name_and_tenant_stand_beside_the_kind_or_under_metadata() {
        let flat = of(
            Kind::Vpc,
            json!({"name": "net", "tenant": "acme", "spec": {"cidr": "10.0.0.0/8"}}),
        );
        let nested = of(
            Kind::Vpc,
            json!({"metadata": {"name": "net", "tenant": "acme"}, "spec": {"cidr": "10.0.0.0/8"}}),
        );
        assert_eq!(flat, nested);
        let flat = flat.unwrap();
        assert_eq!(
            (flat.call().as_str(), flat.whose),
            ("vpc acme/net", Whose::Tenants("acme".into()))
        );
    }

    #[test]
    fn references_mean_a_document_by_name_by_id_and_by_name_with_more() {
        let version = json!({"id": "v-1", "name": "1.0.0", "spec": {"template": "web"}});
        let version = of(Kind::TemplateVersion, version).unwrap();
        let spec = |generation: Value| {
            let value = json!({"name": "small", "spec": {"hardware_generation": generation}});
            of(Kind::VirtualMachineSpecification, value).unwrap()
        };
        let (old, new) = (spec(Value::Null), spec("gen3".into()));
        for (document, names, others) in [
            (
                &version,
                &["1.0.0", "v-1", "web/1.0.0"][..],
                &["web", "api/1.0.0", "1.0.0/web"][..],
            ),
            (&old, &["small", "small/"], &["small/gen3"]),
            (
                &new,
                &["small", "small/gen3"],
                &["small/gen4", "gen3/small", "small/"],
            ),
        ] {
            for name in names {
                assert!(document.goes_by(name), "{name}");
            }
            for name in others {
                assert!(!document.goes_by(name), "{name}");
            }
        }
        assert_eq!(old.call(), "virtual_machine_specification small");
        assert_eq!(new.call(), "virtual_machine_specification small/gen3");
    }

    #[test]
    fn what_get_prints_tells_whose_it_is() {
        let tenants = json!({"name": "u", "tenant_id": "t-1", "names": {"tenant": "acme"}});
        assert_eq!(
            of(Kind::User, tenants).unwrap().whose,
            Whose::Tenants("acme".into())
        );
        let clouds = json!({"name": "u", "tenant_id": null, "names": {}});
        assert_eq!(of(Kind::User, clouds).unwrap().whose, Whose::Clouds);
        assert_eq!(
            of(Kind::User, json!({"name": "u"})).unwrap().whose,
            Whose::Unsaid
        );
    }

    #[test]
    fn what_is_said_twice_or_wrongly_is_refused_with_its_place() {
        for (kind, value, problem) in [
            (Kind::Rack, json!({}), "needs a `name`"),
            (Kind::Price, json!({"name": "p"}), "has no name"),
            (
                Kind::Rack,
                json!({"name": "r", "tenant": "acme"}),
                "belongs to no tenant",
            ),
            (
                Kind::Rack,
                json!({"name": "r", "metadata": {"name": "s"}}),
                "say it once",
            ),
            (
                Kind::Rack,
                json!({"name": "r", "metadata": {"labels": {}}}),
                "has no labels",
            ),
            (
                Kind::Rack,
                json!({"name": "r", "spec": {"data_center": "a", "data_center_id": "b"}}),
                "given twice",
            ),
        ] {
            let error = of(kind, value).unwrap_err();
            assert!(error.contains(problem), "{error}");
            assert!(error.starts_with("f.yaml, document 2, line 7: "), "{error}");
        }
    }
}
