//! Ontologies by name, and several of them together.

use axum::extract::Extension;
use virtflow_logic::{self as logic, MergeQuery, OntologyQuery};
use virtflow_model::kinds::ontology::OntologyType;
use virtflow_types::Error;

use super::envelope::Answer;
use super::kinds::{self, Answered, TheCall, chosen, fields_of};
use super::request::Call;

/// Parameters of a look-up.
pub(crate) const LOOK_UP: &[&str] = &["type", "name", "version", "tenant", kinds::FIELDS];
/// Parameters of a merge.
pub(crate) const MERGE: &[&str] = &["base", "domains", "major", "tenant"];
/// Domains of one merge.
const DOMAINS_MAX: usize = 32;

/// `GET /ontologies/lookup`
pub(crate) async fn look_up(Extension(call): TheCall) -> Answered {
    call.query.only(LOOK_UP)?;
    let fields = fields_of(&call, virtflow_model::Kind::Ontology)?;
    let query = OntologyQuery {
        ontology_type: type_of(needed(&call, "type")?)?,
        name: needed(&call, "name")?.to_owned(),
        version: text(&call, "version"),
        tenant: text(&call, "tenant"),
    };
    let image = call.image()?;
    let found = logic::ontology(image, &call.cx()?, &query)?;
    let data = chosen(fields.as_ref(), logic::public(image, &found));
    Ok(Answer::ok(image.index(), data).etag(found.id, found.generation))
}

/// `GET /ontologies/merge`
pub(crate) async fn merge(Extension(call): TheCall) -> Answered {
    call.query.only(MERGE)?;
    let domains = call.query.get("domains").unwrap_or_default();
    let domains = domains.split(',').map(str::trim);
    let domains: Vec<String> = domains
        .filter(|domain| !domain.is_empty())
        .map(str::to_owned)
        .collect();
    if domains.len() > DOMAINS_MAX {
        let problem = format!("names {}, at most {DOMAINS_MAX} are allowed", domains.len());
        return Err(Error::invalid("domains", problem).into());
    }
    let query = MergeQuery {
        base: text(&call, "base"),
        domains,
        major: text(&call, "major"),
        tenant: text(&call, "tenant"),
    };
    let image = call.image()?;
    let data = logic::merged(image, &call.cx()?, &query)?;
    Ok(Answer::ok(image.index(), data))
}

fn text(call: &Call, name: &str) -> Option<String> {
    call.query.get(name).map(str::to_owned)
}

fn needed<'c>(call: &'c Call, name: &str) -> Result<&'c str, Error> {
    let given = call.query.get(name).filter(|text| !text.is_empty());
    given.ok_or_else(|| Error::invalid(name, "is missing"))
}

fn type_of(word: &str) -> Result<OntologyType, Error> {
    OntologyType::parse(word)
        .ok_or_else(|| Error::invalid("type", "must be `base`, `domain` or `major`"))
}
