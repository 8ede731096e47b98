//! Users: nobody shuts out somebody who may do more than they.

use serde_json::Value;
use virtflow_types::Error;

use super::Writing;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    match (writing.id, writing.old) {
        (Some(user), Some(old)) if state(old) != state(writing.new) => {
            writing.door.may_act_as(user)
        }
        _ => Ok(()),
    }
}

fn state(spec: &Value) -> Option<&str> {
    spec["state"].as_str()
}
