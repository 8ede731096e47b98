//! An ontology: a version of the classes and properties that a field of knowledge knows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use virtflow_types::ObjectId;

use crate::print::space;
use crate::{Invalid, Kind, Meta, Print, Resource, Rules, Scope, checks};

/// An ontology.
#[derive(Debug)]
pub enum Ontology {}

/// Which layer it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OntologyType {
    /// What all build on.
    Base,
    /// One field of knowledge.
    Domain,
    /// A use of several domains, a tenant's.
    Major,
}

impl OntologyType {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Domain => "domain",
            Self::Major => "major",
        }
    }

    /// The type of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Base, Self::Domain, Self::Major];
        all.into_iter().find(|of| of.name() == word)
    }
}

/// A class of things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityClass {
    /// Its name.
    pub name: String,
    /// What belongs to it.
    #[serde(default)]
    pub description: String,
}

/// A relation between classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectProperty {
    /// Its name.
    pub name: String,
    /// Classes it leads from.
    #[serde(default)]
    pub domain: Vec<String>,
    /// Classes it leads to.
    #[serde(default)]
    pub range: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OntologySpec {
    /// Which layer it is of.
    #[serde(rename = "type")]
    pub ontology_type: OntologyType,
    /// Its name, shared by its versions.
    pub name: String,
    /// Its version, semantic.
    pub version: String,
    /// Whether it is the version that is meant where none is named. The first is; making another the default
    /// makes the former step back.
    #[serde(default)]
    pub default_version: bool,
    /// Whether it is in use.
    #[serde(default = "crate::config::active")]
    pub active: bool,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Who wrote it.
    #[serde(default)]
    pub author: String,
    /// Ontologies it builds on, each by its id or as `TYPE/NAME@VERSION` (kept as its id); they exist, and stay as
    /// long as it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub inherits_from: Vec<ObjectId>,
    /// Names of domains that a major one may be merged with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compatible_domains: Vec<String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub use_cases: Vec<String>,
    /// Classes, up to 1000.
    pub entity_classes: Vec<EntityClass>,
    /// Relations, up to 1000.
    pub object_properties: Vec<ObjectProperty>,
    /// What people call the whole of it, beside its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ontology_name: String,
    /// Anything else about it, up to 16 KiB of JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// Nothing is observed of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OntologyStatus {}

/// The versions of one name: `tenant/type/name`, the tenant `global` for the cloud's own.
#[must_use]
pub fn line(tenant: Option<ObjectId>, of: OntologyType, name: &str) -> String {
    let whose = tenant.map_or_else(|| "global".to_owned(), |tenant| tenant.to_string());
    format!("{whose}/{}/{name}", of.name())
}

/// Where the default of the versions of a [`line()`] is filed among what at most one may be.
#[must_use]
pub fn default_key(line: &str) -> String {
    format!("default/{line}")
}

/// Where a version of a [`line()`] is filed.
#[must_use]
pub fn version_key(line: &str, version: &str) -> String {
    format!("{line}/{version}")
}

impl OntologySpec {
    /// The versions of its name.
    #[must_use]
    pub fn line(&self, tenant: Option<ObjectId>) -> String {
        line(tenant, self.ontology_type, &self.name)
    }
}

impl Resource for Ontology {
    const KIND: Kind = Kind::Ontology;
    const SCOPE: Scope = Scope::Either;
    const NAMED: bool = false;
    const RULES: Rules = Rules::plain("A version of what a field of knowledge knows");
    type Spec = OntologySpec;
    type Status = OntologyStatus;

    fn example() -> OntologySpec {
        let class = |name: &str| EntityClass {
            name: name.into(),
            description: String::new(),
        };
        OntologySpec {
            ontology_type: OntologyType::Domain,
            name: "enterprise".into(),
            version: "1.0.0".into(),
            default_version: true,
            active: true,
            description: String::new(),
            author: String::new(),
            inherits_from: Vec::new(),
            compatible_domains: Vec::new(),
            tags: Vec::new(),
            use_cases: Vec::new(),
            entity_classes: vec![class("person"), class("company")],
            object_properties: vec![ObjectProperty {
                name: "works_for".into(),
                domain: vec!["person".into()],
                range: vec!["company".into()],
            }],
            ontology_name: String::new(),
            metadata: Map::new(),
        }
    }
    fn validate(spec: &OntologySpec) -> Result<(), Invalid> {
        if spec.name.is_empty() || spec.name.contains('/') {
            return Err(Invalid::new("name", "must not be empty, nor contain `/`"));
        }
        Invalid::text("name", &spec.name, 63)?;
        checks::version("version", &spec.version)?;
        Invalid::text("description", &spec.description, 1024)?;
        Invalid::text("author", &spec.author, 128)?;
        Invalid::text("ontology_name", &spec.ontology_name, 256)?;
        checks::json("metadata", &spec.metadata)?;
        if spec.ontology_type != OntologyType::Major && !spec.compatible_domains.is_empty() {
            return Err(Invalid::new(
                "compatible_domains",
                "are for the type `major` only",
            ));
        }
        checks::words("compatible_domains", &spec.compatible_domains, 64)?;
        checks::words("tags", &spec.tags, 64)?;
        checks::words("use_cases", &spec.use_cases, 64)?;
        if spec.inherits_from.len() > 64 {
            return Err(Invalid::new("inherits_from", "at most 64 are allowed"));
        }
        for (field, len) in [
            ("entity_classes", spec.entity_classes.len()),
            ("object_properties", spec.object_properties.len()),
        ] {
            if len > 1000 {
                let problem = format!("has {len}, at most 1000 are allowed");
                return Err(Invalid::new(field, problem));
            }
        }
        for class in &spec.entity_classes {
            checks::words("entity_classes", std::slice::from_ref(&class.name), 1)?;
            Invalid::text("entity_classes", &class.description, 1024)?;
        }
        for property in &spec.object_properties {
            checks::words("object_properties", std::slice::from_ref(&property.name), 1)?;
            checks::words("object_properties", &property.domain, 64)?;
            checks::words("object_properties", &property.range, 64)?;
        }
        Ok(())
    }
    fn validate_update(old: &OntologySpec, new: &OntologySpec) -> Result<(), Invalid> {
        let identity = |spec: &OntologySpec| {
            let version = spec.version.clone();
            (spec.ontology_type, spec.name.clone(), version, spec.inherits_from.clone())
        };
        if identity(old) != identity(new) {
            let problem = "type, name, version and what it inherits from do not change; make another version";
            return Err(Invalid::new("version", problem));
        }
        if old.default_version && !new.default_version {
            let problem = "one version is always the default; make another one the default instead";
            return Err(Invalid::new("default_version", problem));
        }
        Self::validate(new)
    }
    fn print(meta: &Meta, spec: &OntologySpec, _: &OntologyStatus, print: &mut Print) {
        let line = spec.line(meta.tenant);
        print.claim(space::ONTOLOGY, version_key(&line, &spec.version));
        if spec.default_version {
            print.claim(space::SINGLE, default_key(&line));
        }
        print.key(crate::key::ONTOLOGY, line);
        for inherited in &spec.inherits_from {
            print.link(*inherited);
        }
    }
}
