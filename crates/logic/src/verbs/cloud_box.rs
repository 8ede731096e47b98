//! What a cloud box tells of itself. Most of it changes nothing: only that it is heard again, what it has and what is
//! wrong with it is written at once, and its figures once in a while.

use std::time::Duration;

use virtflow_model::kinds::CloudBox;
use virtflow_model::kinds::cloud_box::{CloudBoxPhase, CloudBoxReport, CloudBoxStatus};
use virtflow_model::{Action, Kind, Permission};
use virtflow_types::{Error, Timestamp};

use super::{Done, Outcome};
use crate::door::Door;
use crate::limits::CLOUD_BOX_FIGURES_EVERY;
use crate::request::CloudBoxTells;
use crate::typed::decoded;

/// A start that is told less apart from the last one than this is the same: clocks and uptimes are not that exact.
const SAME_START: Duration = Duration::from_secs(60);

pub(crate) fn tell<'a>(door: &Door<'a>, tells: &CloudBoxTells) -> Done<'a> {
    let tenant = door.tenant(tells.tenant.as_deref())?;
    let object = door.find(Kind::CloudBox, &tells.target, tenant)?;
    let mut draft = door.draft_for(Permission::new(Kind::CloudBox, Action::Execute), &object)?;
    let report = &tells.report;
    report
        .validate()
        .map_err(|invalid| Error::invalid(format!("report.{}", invalid.field), invalid.problem))?;
    let now = door.cx.now;
    let before = decoded::<CloudBox>(&object)?;
    let phase = match report.error {
        Some(_) => CloudBoxPhase::Error,
        None => CloudBoxPhase::Online,
    };
    let booted_at = started(&before.status, report, now);
    let said = before.status.report.as_ref();
    let is_news = before.status.phase != phase
        || before.status.booted_at != booted_at
        || said.is_none_or(|said| said.stands() != report.stands());
    let told = before.status.reported_at;
    let is_old = told.is_none_or(|told| now.since(told) >= CLOUD_BOX_FIGURES_EVERY);
    if !is_news && !is_old {
        return Ok((draft, Outcome::new("cloud_box.report", 200, object)));
    }
    let after = draft.update::<CloudBox>(object.id, |_, status| {
        if status.phase != phase {
            status.phase = phase;
            status.phase_since = Some(now);
        }
        status.booted_at = booted_at;
        status.report = Some(report.clone());
        status.reported_at = Some(now);
    })?;
    let note = match (before.status.phase == phase, &report.error) {
        (false, Some(error)) => format!("tells that something is wrong: {error}"),
        (false, None) => "is heard".to_owned(),
        (true, _) => "tells other facts of itself".to_owned(),
    };
    let outcome = Outcome::new("cloud_box.report", 200, after).note(note);
    Ok((
        draft,
        if is_news {
            outcome
        } else {
            outcome.unrecorded()
        },
    ))
}

/// When it last started: as was known, unless its uptime tells another moment.
fn started(status: &CloudBoxStatus, report: &CloudBoxReport, now: Timestamp) -> Option<Timestamp> {
    let Some(uptime_s) = report.uptime_s else {
        return status.booted_at;
    };
    let told = Timestamp::from_ms(now.ms().saturating_sub(uptime_s.saturating_mul(1000)));
    let apart =
        |known: &Timestamp| Duration::from_millis(known.ms().abs_diff(told.ms())) <= SAME_START;
    status.booted_at.filter(apart).or(Some(told))
}
