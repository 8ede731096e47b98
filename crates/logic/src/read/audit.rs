use virtflow_model::Kind;
use virtflow_policy::{AUDIT_READ, Decision, Target, authorize};
use virtflow_state::State;
use virtflow_types::{Error, ObjectId};

use crate::cx::Cx;
use crate::door::{Door, forbidden};

/// Which tenant's audit records the asker may read: `None` for all of them. Who may read only their
/// own tenant's is confined to it without naming it.
pub fn audit_scope(
    state: &State,
    cx: &Cx,
    tenant: Option<&str>,
) -> Result<Option<ObjectId>, Error> {
    let door = Door::open(state, cx)?;
    let may = |scopes: Vec<ObjectId>| {
        authorize(&door.rights, AUDIT_READ, &Target::new(Kind::Tenant, scopes)) == Decision::Allowed
    };
    let tenant = match tenant {
        Some(text) => match (
            door.find(Kind::Tenant, text, None),
            text.parse::<ObjectId>(),
        ) {
            (Ok(found), _) => Some(found.id),
            // One that is gone has its records still; its id says nothing to who may not read all of them.
            (Err(_), Ok(gone)) if may(Vec::new()) => Some(gone),
            (Err(error), _) => return Err(error),
        },
        None if may(Vec::new()) => return Ok(None),
        None => door.rights.home,
    };
    match tenant {
        Some(tenant) if may(vec![tenant]) => Ok(Some(tenant)),
        _ => Err(forbidden(AUDIT_READ)),
    }
}

/// Who is meant as the one who did something: an id or one of the system's own words as it is, else the user of that
/// name, with the asker's eyes. The id of a user who is gone is told by the records themselves.
pub fn audit_actor(
    state: &State,
    cx: &Cx,
    text: &str,
    tenant: Option<ObjectId>,
) -> Result<String, Error> {
    if text.parse::<ObjectId>().is_ok() || text == "system" {
        return Ok(text.to_owned());
    }
    let door = Door::open(state, cx)?;
    Ok(door.find(Kind::User, text, tenant)?.id.to_string())
}
