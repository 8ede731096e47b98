use serde_json::{Value, json};
use virtflow_model::Kind;
use virtflow_model::kinds::Baremetal;
use virtflow_state::State;
use virtflow_types::Error;

use crate::cx::Cx;
use crate::door::Door;
use crate::draft::Draft;
use crate::foreign::vm_of;
use crate::typed::decoded;

/// The domains of a host that are not VirtFlow's, what each takes of it, and why it could not be adopted. Those that
/// became VMs are left out, whether their host has heard of it or not.
pub fn foreign_domains(state: &State, cx: &Cx, host: &str) -> Result<Value, Error> {
    let door = Door::open(state, cx)?;
    let host = door.find(Kind::Baremetal, host, None)?;
    let foreign = &decoded::<Baremetal>(&host)?.status.foreign;
    let as_it_is = Draft::new(state, cx);
    let others = foreign
        .domains
        .iter()
        .filter(|domain| vm_of(&as_it_is, host.id, domain.domain_id).is_none());
    let domains: Vec<Value> = others
        .map(|domain| {
            let mut told = json!(domain);
            told["takes"] = json!(domain.takes());
            told["adoptable"] = domain.obstacles.is_empty().into();
            told
        })
        .collect();
    Ok(json!({
        "host": host.name.as_str(),
        "host_id": host.id,
        "domains": domains,
        "unlisted": foreign.unlisted,
        "unlisted_take": foreign.unlisted_take,
        "take": foreign.take,
    }))
}
