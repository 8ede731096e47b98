//! How hosts fare: judged by what their agents told last and by what was judged before, so that a figure which wavers
//! about a limit makes no news. Silence says nothing of it: who is not heard stays as it was.

use virtflow_model::kinds::Baremetal;
use virtflow_model::kinds::baremetal::{BaremetalStatus, Health, Liveness};
use virtflow_state::{Changeset, State};
use virtflow_types::{ObjectId, Timestamp};

use crate::audit::Entry;
use crate::limits::Limits;
use crate::loops::packed;
use crate::typed::decoded;

/// Of a thousand: from here on a share counts as too much, and below the second no longer.
const STORAGE_FULL: (u64, u64) = (950, 930);
const STORAGE_NEARLY_FULL: (u64, u64) = (850, 820);
const MEMORY_SHORT: (u64, u64) = (950, 900);
/// Parts per million of a minute in which all that ran waited for memory.
const MEMORY_STALLED_PPM: (u64, u64) = (100_000, 50_000);
/// Milliseconds.
const CLOCK_OFF_MS: (u64, u64) = (2000, 1000);
/// A restart of the hypervisor is no trouble.
const HYPERVISOR_SILENT_MS: u64 = 30_000;
/// Certificates are renewed at a third of their life: one with less than a sixth left was not.
const CERTIFICATE_SHARE: u64 = 6;

/// What an agent tells that its host's health is judged by. What is 0 is not known, unless it says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSigns {
    /// Taken of the filesystem that holds the guests, MiB.
    pub storage_used_mib: u64,
    /// Left of it, MiB.
    pub storage_available_mib: u64,
    /// Memory that is not available, MiB.
    pub memory_used_mib: u64,
    /// All memory, MiB.
    pub memory_total_mib: u64,
    /// Of the last minute, all that ran waited for memory; parts per million.
    pub memory_stalled_ppm: u32,
    /// How far its clock is ahead of the leader's, milliseconds.
    pub clock_offset_ms: i64,
    /// Since when its hypervisor has told nothing, milliseconds; 0 if it does.
    pub hypervisor_silent_ms: u64,
    /// From the beginning to the end of its certificate, milliseconds.
    pub certificate_life_ms: u64,
    /// Until the end of its certificate, milliseconds; 0 if it is over.
    pub certificate_left_ms: u64,
    /// Whether its last order could not be stored.
    pub orders_not_stored: bool,
}

/// What is wrong with a host, and how bad that is: the worst first.
fn judge(signs: &HostSigns, before: &[String]) -> (Health, Vec<&'static str>) {
    let had = |reason: &str| before.iter().any(|known| known == reason);
    let over =
        |value: u64, (from, until): (u64, u64), was: bool| value >= if was { until } else { from };
    let share = |part: u64, whole: u64| {
        let thousandths = u128::from(part) * 1000;
        let share = thousandths.checked_div(u128::from(whole)).unwrap_or(0);
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    let storage = share(
        signs.storage_used_mib,
        signs
            .storage_used_mib
            .saturating_add(signs.storage_available_mib),
    );
    let is_full = over(storage, STORAGE_FULL, had("storage_full"));
    let was_filling = had("storage_full") || had("storage_nearly_full");
    let memory = share(signs.memory_used_mib, signs.memory_total_mib);
    let stalled = u64::from(signs.memory_stalled_ppm);
    let was_short = had("memory_short");
    let critical = [
        (
            "hypervisor_silent",
            signs.hypervisor_silent_ms >= HYPERVISOR_SILENT_MS,
        ),
        ("orders_not_stored", signs.orders_not_stored),
        ("storage_full", is_full),
    ];
    let warning = [
        (
            "storage_nearly_full",
            !is_full && over(storage, STORAGE_NEARLY_FULL, was_filling),
        ),
        (
            "memory_short",
            over(memory, MEMORY_SHORT, was_short) || over(stalled, MEMORY_STALLED_PPM, was_short),
        ),
        (
            "clock_off",
            over(
                signs.clock_offset_ms.unsigned_abs(),
                CLOCK_OFF_MS,
                had("clock_off"),
            ),
        ),
        (
            "certificate_ending",
            signs.certificate_left_ms < signs.certificate_life_ms / CERTIFICATE_SHARE,
        ),
    ];
    let health = if critical.iter().any(|(_, is)| *is) {
        Health::Critical
    } else if warning.iter().any(|(_, is)| *is) {
        Health::Warning
    } else {
        Health::Healthy
    };
    let all = critical.into_iter().chain(warning);
    let reasons = all.filter(|(_, is)| *is).map(|(reason, _)| reason);
    (health, reasons.collect())
}

/// What the host would be called, if that is not what it is called.
fn news(status: &BaremetalStatus, signs: &HostSigns) -> Option<(Health, Vec<&'static str>)> {
    if status.liveness != Liveness::Online {
        return None;
    }
    let (health, reasons) = judge(signs, &status.health_reasons);
    (health != status.health || reasons != status.health_reasons).then_some((health, reasons))
}

/// What a host is called now, if what its agent told makes it something else; `None` if it does not.
pub fn host_health_differs(state: &State, host: ObjectId, signs: &HostSigns) -> Option<Health> {
    let typed = decoded::<Baremetal>(state.get(host)?).ok()?;
    news(&typed.status, signs).map(|_| typed.status.health)
}

/// Writes down how these hosts fare, where that is news: a bounded number in one changeset.
pub fn hosts_fare(
    state: &State,
    now: Timestamp,
    limits: &Limits,
    told: &[(ObjectId, HostSigns)],
) -> Vec<Changeset> {
    packed(state, now, limits, told, |draft, (host, signs)| {
        let before = draft.typed::<Baremetal>(*host)?;
        let Some((health, reasons)) = news(&before.status, signs) else {
            return Ok(());
        };
        let object = draft.update::<Baremetal>(*host, |_, status| {
            if status.health != health {
                status.health_since = now;
            }
            status.health = health;
            status.health_reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        })?;
        // That a new host is well is no event.
        if (before.status.health, health) != (Health::Unknown, Health::Healthy) {
            let note = match reasons.as_slice() {
                [] => health.name().to_owned(),
                reasons => format!("{}: {}", health.name(), reasons.join(", ")),
            };
            draft.audit(&Entry {
                action: "baremetal.health",
                object: &object,
                before: None,
                note: &note,
            });
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose filesystem is so full, of a thousand.
    fn filled(thousandths: u64) -> HostSigns {
        HostSigns {
            storage_used_mib: thousandths,
            storage_available_mib: 1000 - thousandths,
            ..HostSigns::default()
        }
    }

    #[test]
    fn a_filesystem_that_fills_and_empties() {
        use Health::{Critical, Healthy, Warning};
        let mut reasons: Vec<String> = Vec::new();
        for (thousandths, health, reason) in [
            (849, Healthy, None),
            (850, Warning, Some("storage_nearly_full")),
            (820, Warning, Some("storage_nearly_full")),
            (819, Healthy, None),
            (849, Healthy, None),
            (949, Warning, Some("storage_nearly_full")),
            (950, Critical, Some("storage_full")),
            (930, Critical, Some("storage_full")),
            (929, Warning, Some("storage_nearly_full")),
            (949, Warning, Some("storage_nearly_full")),
            (1000, Critical, Some("storage_full")),
            (820, Warning, Some("storage_nearly_full")),
            (0, Healthy, None),
        ] {
            let judged = judge(&filled(thousandths), &reasons);
            let expected: Vec<&str> = reason.into_iter().collect();
            assert_eq!(judged, (health, expected), "{thousandths}");
            reasons = judged.1.into_iter().map(str::to_owned).collect();
        }
    }

    #[test]
    fn each_trouble_has_its_word_and_what_is_not_known_is_none() {
        let none = HostSigns::default;
        let day = 24 * 3600 * 1000;
        for (signs, health, reason) in [
            (
                HostSigns {
                    hypervisor_silent_ms: 30_000,
                    ..none()
                },
                Health::Critical,
                "hypervisor_silent",
            ),
            (
                HostSigns {
                    orders_not_stored: true,
                    ..none()
                },
                Health::Critical,
                "orders_not_stored",
            ),
            (
                HostSigns {
                    memory_used_mib: 95,
                    memory_total_mib: 100,
                    ..none()
                },
                Health::Warning,
                "memory_short",
            ),
            (
                HostSigns {
                    memory_stalled_ppm: 100_000,
                    ..none()
                },
                Health::Warning,
                "memory_short",
            ),
            (
                HostSigns {
                    clock_offset_ms: -2000,
                    ..none()
                },
                Health::Warning,
                "clock_off",
            ),
            (
                HostSigns {
                    certificate_life_ms: 30 * day,
                    certificate_left_ms: 5 * day - 1,
                    ..none()
                },
                Health::Warning,
                "certificate_ending",
            ),
        ] {
            assert_eq!(judge(&signs, &[]), (health, vec![reason]));
        }
        let well = HostSigns {
            hypervisor_silent_ms: 29_999,
            memory_used_mib: 94,
            memory_total_mib: 100,
            memory_stalled_ppm: 99_999,
            clock_offset_ms: 1999,
            certificate_life_ms: 30 * day,
            certificate_left_ms: 5 * day,
            ..filled(849)
        };
        for signs in [none(), well] {
            assert_eq!(judge(&signs, &[]), (Health::Healthy, vec![]));
        }
    }

    #[test]
    fn the_worst_is_what_a_host_is_called_by_and_all_is_told() {
        let signs = HostSigns {
            clock_offset_ms: 5000,
            orders_not_stored: true,
            ..filled(960)
        };
        assert_eq!(
            judge(&signs, &[]),
            (
                Health::Critical,
                vec!["orders_not_stored", "storage_full", "clock_off"]
            )
        );
    }
}
