//! Whom monitoring is to ask.

use axum::extract::Extension;
use virtflow_logic::{self as logic, TargetRole};
use virtflow_types::Error;

use super::envelope::Answer;
use super::kinds::{Answered, TheCall};
use crate::off_loop::work_out;

const ROLE: &str = "role";
/// Parameters of the targets.
pub(crate) const PARAMETERS: &[&str] = &[ROLE];

/// `GET /discovery/prometheus`: a list in the form of Prometheus' HTTP service discovery.
pub(crate) async fn prometheus(Extension(call): TheCall) -> Answered {
    call.query.only(PARAMETERS)?;
    let role = call.query.get(ROLE).map(role_of).transpose()?;
    let (image, cx) = (call.image()?.clone(), call.cx()?);
    // Tens of milliseconds for ten thousand hosts: not on an async thread.
    let told = work_out("looking for targets", move || {
        logic::monitoring_targets(&image, &cx, role)
    });
    Ok(Answer::document(told.await?))
}

fn role_of(word: &str) -> Result<TargetRole, Error> {
    let known = TargetRole::ALL.into_iter();
    let found = known.clone().find(|role| role.name() == word);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.map(TargetRole::name).collect();
        let shown: String = word.chars().take(64).collect();
        Error::invalid(ROLE, format!("`{shown}` is none of {}", names.join(", ")))
    })
}
