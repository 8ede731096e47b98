//! What any user may make without a role, tickets, questions and answers: so many of each, and no more.

use virtflow_model::{Kind, key};
use virtflow_types::Error;

use super::Writing;
use crate::limits::{ANSWERS_PER_USER_MAX, OPEN_TICKETS_PER_USER_MAX, QUESTIONS_PER_USER_MAX};
use crate::verbs::credentials::refuse_beyond;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    if writing.old.is_some() {
        return Ok(());
    }
    let (most, what) = match writing.kind {
        Kind::HelpTicket => (OPEN_TICKETS_PER_USER_MAX, "unclosed tickets of one user"),
        Kind::QaQuestion => (QUESTIONS_PER_USER_MAX, "questions of one user"),
        _ => (ANSWERS_PER_USER_MAX, "answers of one user"),
    };
    let author = format!("{}/{}", writing.kind.name(), writing.door.cx.actor());
    let made = writing.door.state.by_key(key::AUTHOR, &author, None);
    refuse_beyond(made.take(most).count(), most, what)?;
    if writing.kind == Kind::HelpTicket && writing.new["state"] != "open" {
        return Err(Error::invalid(
            "spec.state",
            "must be `open` in a new ticket; leave it out",
        ));
    }
    Ok(())
}
