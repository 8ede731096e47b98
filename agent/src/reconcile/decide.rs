//! The next step for one VM: a pure function of what is wanted, what is there, and what was tried.
//!
//! ```text
//! tombstone:        active -> destroy -> undefine -> remove files -> confirm
//! wanted running:   absent/off -> create (files, define, start) -> done
//!                   reboot     -> begin -> stop -> create -> done
//!                   ended      -> policy: create again after a pause, or say what happened
//! wanted stopped:   active -> shut down … grace … destroy -> done
//! wanted by nobody: an orphan; it is reported and left alone
//! to be adopted:    somebody's domain, as it was when it was decided -> adopt (mark it) -> as above, but that
//!                   its files and its definition are never made: it is only started and ended
//! ```

use std::time::Duration;

use tokio::time::Instant;
use virtflow_proto::agent::v1::Phase;
use virtflow_types::Incarnation;

use crate::desired::{DesiredVm, Power, RestartPolicy, Tombstone};
use crate::hypervisor::{Domain, ForeignDomain, OffReason, PowerState};
use crate::local::{Acting, StoredVm};

/// A guest that ignores a request to shut down (it was still booting) is asked again.
pub const SHUTDOWN_REPEAT: Duration = Duration::from_secs(5);
/// Pause before a guest that ended is started again; doubles with each time.
pub const RESTART_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest such pause.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A guest that ran this long begins with the shortest pause again.
pub const RESTART_PAUSE_FORGIVEN: Duration = Duration::from_secs(60);

/// What a task knows beyond the state on disk; a new agent begins without.
#[derive(Debug, Clone, Default)]
pub struct Volatile {
    /// A graceful stop under way.
    pub stopping: Option<Stopping>,
    /// The last step failed.
    pub failure: Option<Failure>,
    /// How often in a row the guest ended soon after its start.
    pub quick_ends: u32,
    /// When a guest that ended may be started again.
    pub restart_at: Option<Instant>,
    /// Marking a running domain anew failed; not tried again before this.
    pub restamp_at: Option<Instant>,
}

/// A graceful stop under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// Since when.
    pub since: Instant,
    /// When the guest was last asked.
    pub asked_at: Instant,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `create_failed` …
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// How often in a row.
    pub count: u32,
    /// When it is tried again.
    pub retry_at: Instant,
}

/// All that a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What is wanted and how far it is.
    pub wanted: Option<&'a StoredVm>,
    /// Whether its end was ordered.
    pub tombstone: Option<Tombstone>,
    /// The life of the store that orders came from.
    pub incarnation: Option<Incarnation>,
    /// What is there.
    pub domain: Option<&'a Domain>,
    /// The domain that is to be adopted, as long as it isn't ours.
    pub foreign: Option<&'a ForeignDomain>,
    /// What was tried.
    pub volatile: &'a Volatile,
    /// Whether a controller holds a session.
    pub session: bool,
    /// The time.
    pub now: Instant,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something changes.
    Rest,
    /// Nothing until then.
    WaitUntil(Instant),
    /// Store that an act begins.
    Begin(Acting),
    /// Store that the act with this serial is done.
    Done(u64),
    /// Make files, definition, guest.
    Create,
    /// The same for a guest that ended by itself, and count it.
    Restart,
    /// Mark a running domain with the present binding.
    Restamp,
    /// Mark somebody's domain as the VM's.
    Adopt,
    /// Ask the guest to shut down.
    Shutdown,
    /// End the guest process.
    Destroy,
    /// Remove the definition.
    Undefine,
    /// Remove the files and confirm the tombstone.
    Bury(Tombstone),
    /// Confirm the tombstone: a later binding has taken the place of what it was for.
    Confirm(Tombstone),
    /// Nobody wants it and nothing is there.
    Forget,
}

impl Step {
    /// Its name, for counting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::WaitUntil(_) => "wait",
            Self::Begin(_) => "begin",
            Self::Done(_) => "done",
            Self::Create => "create",
            Self::Restart => "restart",
            Self::Restamp => "restamp",
            Self::Adopt => "adopt",
            Self::Shutdown => "shutdown",
            Self::Destroy => "destroy",
            Self::Undefine => "undefine",
            Self::Bury(_) => "bury",
            Self::Confirm(_) => "confirm",
            Self::Forget => "forget",
        }
    }
}

/// A step and what to report meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub step: Step,
    /// Where the VM is.
    pub phase: Phase,
    /// Why, as a word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// What was asked for is reality.
    pub carried_out: bool,
}

fn decision(
    step: Step,
    phase: Phase,
    reason: &'static str,
    message: impl Into<String>,
) -> Decision {
    Decision {
        step,
        phase,
        reason,
        message: message.into(),
        carried_out: false,
    }
}

/// What to do next.
#[must_use]
pub fn decide(view: &View<'_>) -> Decision {
    if let Some(tombstone) = view.tombstone
        && let Some(decision) = bury(view, tombstone)
    {
        return decision;
    }
    match (view.wanted, view.domain) {
        (None, None) => decision(Step::Forget, Phase::Unspecified, "", ""),
        (None, Some(_)) => decision(
            Step::Rest,
            Phase::Orphan,
            "not_in_desired_state",
            "this host's desired state does not name the VM; it is left as it is",
        ),
        (Some(wanted), Some(domain)) if is_stale(wanted, domain) => decision(
            Step::Rest,
            Phase::Error,
            "stale_placement_epoch",
            format!(
                "the domain is of placement epoch {}, the order of {}; nothing was done",
                domain.stamp.placement_epoch, wanted.desired.placement_epoch
            ),
        ),
        (Some(wanted), None) if wanted.desired.adopted_domain.is_some() => {
            adopt(view, &wanted.desired)
        }
        (Some(wanted), domain) => match wanted.desired.power {
            Power::Running => run(view, wanted, domain),
            Power::Stopped => stop(view, wanted, domain),
        },
    }
}

/// An order for an earlier binding than the domain's, within one life of the store.
fn is_stale(wanted: &StoredVm, domain: &Domain) -> bool {
    wanted.stamp.incarnation == domain.stamp.incarnation
        && wanted.desired.placement_epoch < domain.stamp.placement_epoch
}

fn bury(view: &View<'_>, tombstone: Tombstone) -> Option<Decision> {
    let deleting =
        |step, message: &str| Some(decision(step, Phase::Deleting, "tombstone", message));
    match view.domain {
        Some(domain) if domain.stamp.placement_epoch > tombstone.placement_epoch => {
            // Epochs of different lives of the store don't compare: then nothing is confirmed and
            // nothing is removed, and an operator sees an orphan.
            (view.incarnation == Some(domain.stamp.incarnation)).then(|| {
                decision(
                    Step::Confirm(tombstone),
                    Phase::Unknown,
                    "tombstone_superseded",
                    "a later placement of the VM has taken its place here",
                )
            })
        }
        Some(domain) => {
            if let Some(waiting) = after_failure(view) {
                return Some(waiting);
            }
            if domain.power.is_active() {
                deleting(Step::Destroy, "the guest is being stopped for good")
            } else {
                deleting(Step::Undefine, "the domain is being removed")
            }
        }
        None => after_failure(view)
            .or_else(|| deleting(Step::Bury(tombstone), "the VM's files are being removed")),
    }
}

/// Nothing is there that is the VM's yet, and nothing is made in its place.
fn adopt(view: &View<'_>, desired: &DesiredVm) -> Decision {
    let Some(foreign) = view.foreign else {
        return decision(
            Step::Rest,
            Phase::Error,
            "domain_missing",
            "the domain that the VM was adopted from is not there, or is another VM's; an adopted VM is not made anew",
        );
    };
    if let Some(change) = changed_since(desired, foreign) {
        return decision(
            Step::Rest,
            Phase::Error,
            "adoption_refused",
            format!(
                "the domain was left alone: {change}; delete the VM, which leaves it alone too, and adopt it again"
            ),
        );
    }
    after_failure(view).unwrap_or_else(|| {
        decision(
            Step::Adopt,
            Phase::Creating,
            "",
            "the domain is being taken over",
        )
    })
}

/// What of a domain is not as it was reported when it was decided to adopt it.
fn changed_since(desired: &DesiredVm, foreign: &ForeignDomain) -> Option<String> {
    if let Some(obstacle) = foreign.obstacles.first() {
        return Some(format!("it cannot be adopted ({})", obstacle.name()));
    }
    let (wanted, is) = (
        (desired.vcpus, desired.memory_mib),
        (foreign.vcpus, foreign.memory_mib),
    );
    if wanted != is {
        return Some(format!(
            "it has {} processors and {} MiB, and had {} and {} MiB when it was decided",
            is.0, is.1, wanted.0, wanted.1
        ));
    }
    let running = desired.power == Power::Running;
    if running != foreign.power.is_active() {
        let (was, is) = if running {
            ("running", "off")
        } else {
            ("off", "running")
        };
        return Some(format!("it was {was} when it was decided, and is {is}"));
    }
    None
}

/// Waiting for the next try, if the last one failed.
fn after_failure(view: &View<'_>) -> Option<Decision> {
    let failure = view.volatile.failure.as_ref()?;
    (view.now < failure.retry_at).then(|| {
        decision(
            Step::WaitUntil(failure.retry_at),
            Phase::Error,
            failure.reason,
            failure.message.clone(),
        )
    })
}

fn run(view: &View<'_>, wanted: &StoredVm, domain: Option<&Domain>) -> Decision {
    let desired = &wanted.desired;
    let done = wanted.progress.done_serial == Some(desired.power_serial);
    match domain {
        Some(domain) if domain.power.is_active() => {
            if done {
                keep_running(view, wanted, domain)
            } else {
                act_on_running(view, wanted, domain)
            }
        }
        _ if done => ended(view, desired, domain.map(|domain| domain.power)),
        _ => {
            let begun = wanted.progress.acting.map(|acting| acting.power_serial);
            if !view.session && begun != Some(desired.power_serial) {
                return decision(
                    Step::Rest,
                    Phase::Creating,
                    "waiting_for_session",
                    "nothing new is started while no controller is connected",
                );
            }
            if let Some(waiting) = after_failure(view) {
                return waiting;
            }
            let phase = match (desired.reboot && begun.is_some(), domain) {
                (true, _) => Phase::Restarting,
                (false, None) => Phase::Creating,
                (false, Some(_)) => Phase::Starting,
            };
            decision(Step::Create, phase, "", "the guest is being started")
        }
    }
}

/// A start or reboot was asked for and the guest is there.
fn act_on_running(view: &View<'_>, wanted: &StoredVm, domain: &Domain) -> Decision {
    let serial = wanted.desired.power_serial;
    let progress = wanted.progress;
    let done = |phase| decision(Step::Done(serial), phase, "", "");
    // What was there before is not known (any more): the guest runs, as asked. To reboot it might
    // be to reboot it twice.
    let adopted = progress.done_serial.is_none() && progress.acting.is_none();
    if adopted || !wanted.desired.reboot {
        return match domain.power {
            PowerState::ShuttingDown => going_down(),
            _ => done(Phase::Starting),
        };
    }
    match progress.acting {
        Some(acting) if acting.power_serial == serial => {
            if acting.old_run_id == domain.run_id {
                end_guest(view, &wanted.desired, Phase::Restarting)
            } else {
                done(Phase::Restarting)
            }
        }
        _ => decision(
            Step::Begin(Acting {
                power_serial: serial,
                old_run_id: domain.run_id,
            }),
            Phase::Restarting,
            "",
            "the guest is being rebooted",
        ),
    }
}

fn keep_running(view: &View<'_>, wanted: &StoredVm, domain: &Domain) -> Decision {
    let same_binding = domain.stamp.placement_epoch == wanted.desired.placement_epoch
        && domain.stamp.incarnation == wanted.stamp.incarnation;
    let may_restamp = view.volatile.restamp_at.is_none_or(|at| view.now >= at);
    let step = if same_binding || !may_restamp {
        Step::Rest
    } else {
        Step::Restamp
    };
    match domain.power {
        PowerState::Paused => Decision {
            carried_out: true,
            ..decision(
                step,
                Phase::Paused,
                "paused",
                "the guest is paused: by hand, or by an error of its disk",
            )
        },
        PowerState::ShuttingDown => going_down(),
        PowerState::Running | PowerState::Off(_) => {
            let (reason, message) = definition_differs(&wanted.desired, domain);
            Decision {
                carried_out: true,
                ..decision(step, Phase::Running, reason, message)
            }
        }
    }
}

/// A definition that was changed by hand, or a size that was changed while the guest ran.
fn definition_differs(desired: &DesiredVm, domain: &Domain) -> (&'static str, String) {
    let same = domain.vcpus == desired.vcpus && domain.memory_mib == desired.memory_mib;
    if same {
        return ("", String::new());
    }
    let outlook = match domain.adopted {
        None => "the next start by VirtFlow makes it so",
        Some(_) => "it was adopted, and its definition is left as it is",
    };
    let message = format!(
        "the domain is defined with {} processors and {} MiB, {} and {} MiB are asked for; {outlook}",
        domain.vcpus, domain.memory_mib, desired.vcpus, desired.memory_mib
    );
    ("definition_differs", message)
}

fn going_down() -> Decision {
    decision(
        Step::Rest,
        Phase::Stopping,
        "guest_shutting_down",
        "the guest is shutting down by itself",
    )
}

/// The guest was running as asked and is gone.
fn ended(view: &View<'_>, desired: &DesiredVm, power: Option<PowerState>) -> Decision {
    let (reason, message, failure) = match power {
        Some(PowerState::Off(why)) => (off_reason(why), why.to_string(), why.is_failure()),
        _ => (
            "domain_missing",
            "the domain was removed outside VirtFlow".to_owned(),
            true,
        ),
    };
    let restart = match desired.restart {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => failure,
        RestartPolicy::Never => false,
    };
    if !restart {
        let phase = if failure {
            Phase::Error
        } else {
            Phase::Stopped
        };
        return decision(Step::Rest, phase, reason, message);
    }
    if let Some(waiting) = after_failure(view) {
        return waiting;
    }
    let step = match view.volatile.restart_at {
        Some(at) if view.now >= at => Step::Restart,
        Some(at) => Step::WaitUntil(at),
        // The task notes when the end was first seen and asks again.
        None => Step::WaitUntil(view.now + RESTART_PAUSE_MIN),
    };
    decision(
        step,
        Phase::Restarting,
        reason,
        format!("{message}; it is being started again"),
    )
}

fn off_reason(why: OffReason) -> &'static str {
    match why {
        OffReason::Unknown => "guest_lost",
        OffReason::Shutdown => "shutdown_by_guest",
        OffReason::Destroyed => "destroyed_outside",
        OffReason::Crashed => "guest_crashed",
        OffReason::Failed => "guest_failed",
    }
}

fn stop(view: &View<'_>, wanted: &StoredVm, domain: Option<&Domain>) -> Decision {
    let desired = &wanted.desired;
    if domain.is_some_and(|domain| domain.power.is_active()) {
        return end_guest(view, desired, Phase::Stopping);
    }
    if wanted.progress.done_serial == Some(desired.power_serial) {
        return Decision {
            carried_out: true,
            ..decision(Step::Rest, Phase::Stopped, "", "")
        };
    }
    decision(Step::Done(desired.power_serial), Phase::Stopping, "", "")
}

/// Gracefully, then hard.
fn end_guest(view: &View<'_>, desired: &DesiredVm, phase: Phase) -> Decision {
    if let Some(waiting) = after_failure(view) {
        return waiting;
    }
    let grace = Duration::from_secs(u64::from(desired.grace_s));
    let step = if desired.force || grace.is_zero() {
        Step::Destroy
    } else {
        match view.volatile.stopping {
            None => Step::Shutdown,
            Some(stopping) => {
                let hard_at = stopping.since + grace;
                let again_at = stopping.asked_at + SHUTDOWN_REPEAT;
                if view.now >= hard_at {
                    Step::Destroy
                } else if view.now >= again_at {
                    Step::Shutdown
                } else {
                    Step::WaitUntil(hard_at.min(again_at))
                }
            }
        }
    };
    let message = match step {
        Step::Destroy => "the guest is being ended",
        _ => "the guest was asked to shut down",
    };
    decision(step, phase, "", message)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
