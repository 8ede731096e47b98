//! Questions and answers: what a question accepts is one of its own answers, and it lets go of one that goes.

use virtflow_model::kinds::QaQuestion;
use virtflow_state::Object;
use virtflow_types::Error;

use super::Writing;
use crate::draft::Draft;
use crate::verbs::create::id_in;

pub(super) fn on_write(writing: &Writing<'_, '_>) -> Result<(), Error> {
    let Some(accepted) = id_in(writing.new, "accepted_answer_id") else {
        return Ok(());
    };
    let answer = writing.draft.get(accepted);
    let answers = answer.and_then(|answer| answer.parent);
    if answers.is_some() && answers == writing.id {
        return Ok(());
    }
    Err(Error::invalid(
        "spec.accepted_answer_id",
        "is no answer to this question",
    ))
}

pub(super) fn on_delete(draft: &mut Draft<'_>, answer: &Object) -> Result<(), Error> {
    let Some(question) = answer.parent else {
        return Ok(());
    };
    draft
        .update::<QaQuestion>(question, |spec, _| {
            if spec.accepted_answer_id == Some(answer.id) {
                spec.accepted_answer_id = None;
            }
        })
        .map(drop)
}
