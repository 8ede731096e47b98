//! Roles: nobody makes one with more than they hold, and the built-in ones stay as they are.

use virtflow_types::{Error, ErrorCode};

use super::Writing;
use crate::verbs::credentials;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some_and(|old| old["built_in"] == true) {
        return Err(
            Error::new(ErrorCode::Conflict, "built-in roles do not change")
                .advise("make a role of your own with the permissions you want"),
        );
    }
    credentials::check_role(writing.door, writing.new)
}
