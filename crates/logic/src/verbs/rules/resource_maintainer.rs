//! Assignments of maintainers: an inactive one is given nothing new. That both ends exist when one is made is checked
//! where references are resolved. Nothing links them, so that neither is kept; a loop removes what has lost an end.

use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::explain::call;
use crate::verbs::create::id_in;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let ends = ["maintainer_id", "maintainer_group_id"];
    for end in ends.iter().filter_map(|field| id_in(writing.new, field)) {
        if let Some(who) = writing.draft.get(end).filter(|who| who.closed) {
            return Err(Error::new(
                ErrorCode::Conflict,
                format!("{} is inactive and is given nothing new", call(&who)),
            )
            .advise("make it active, or name another"));
        }
    }
    Ok(())
}
