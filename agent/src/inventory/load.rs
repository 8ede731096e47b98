//! How busy the machine is, once an interval.

use std::path::{Path, PathBuf};

use sysinfo::System;
use virtflow_proto::agent::v1;

use super::storage;
use crate::reconcile::LastSurvey;

/// Where the kernel tells how long what runs waited for memory; not there without pressure stall information.
const MEMORY_PRESSURE: &str = "/proc/pressure/memory";

/// Measures load between one call and the next.
#[derive(Debug)]
pub struct LoadMeter {
    system: Option<System>,
    guests_dir: PathBuf,
}

impl LoadMeter {
    /// A meter; the first measurement is of the time from here to it.
    #[must_use]
    pub fn new(guests_dir: &Path) -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self {
            system,
            guests_dir: guests_dir.to_owned(),
        }
    }

    /// The load now. What the kernel doesn't tell is 0.
    pub fn measure(&mut self, survey: Option<&LastSurvey>) -> v1::Load {
        let mut load = v1::Load::default();
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            load.cpu_used_ppm = to_u32(f64::from(system.global_cpu_usage()) * 10_000.0);
            let used = system
                .total_memory()
                .saturating_sub(system.available_memory());
            load.memory_used_mib = used >> 20;
            load.memory_total_mib = system.total_memory() >> 20;
        }
        if let Ok(sizes) = storage::sizes(&self.guests_dir) {
            load.storage_used_mib = sizes.used_mib;
            load.storage_available_mib = sizes.available_mib;
        }
        load.load1_milli = System::load_average().map_or(0, |average| to_u32(average.one * 1000.0));
        load.uptime_s = System::uptime().unwrap_or(0);
        load.memory_stalled_ppm =
            std::fs::read_to_string(MEMORY_PRESSURE).map_or(0, |text| stalled_ppm(&text));
        if let Some(last) = survey {
            let share = |id| last.cpu_ppm.get(&id).copied().unwrap_or(0);
            let ours = last.survey.domains.iter();
            load.guests = ours
                .filter(|(domain, _)| domain.power.is_active())
                .map(|(domain, usage)| v1::GuestLoad {
                    vm_id: domain.vm_id.as_bytes().to_vec(),
                    cpu_used_ppm: share(domain.vm_id),
                    memory_used_mib: usage.memory_rss_kib >> 10,
                    disk_read_bytes: 0,
                    disk_write_bytes: 0,
                })
                .collect();
            let foreign = &last.survey.foreign;
            load.foreign_domains = u32::try_from(foreign.len()).unwrap_or(u32::MAX);
            load.foreign_memory_mib = foreign
                .iter()
                .map(|(_, usage)| usage.memory_rss_kib >> 10)
                .sum();
            let shares = foreign
                .iter()
                .map(|(domain, _)| u64::from(share(domain.domain_id)));
            load.foreign_cpu_milli = shares.sum::<u64>() / 1000;
        }
        load
    }
}

/// How much of the last minute all that ran waited, in parts per million; 0 if the text does not say.
fn stalled_ppm(pressure: &str) -> u32 {
    let full = pressure.lines().find_map(|line| line.strip_prefix("full "));
    let minute = full.and_then(|full| {
        let mut fields = full.split_whitespace();
        fields.find_map(|field| field.strip_prefix("avg60="))
    });
    let percent = minute.and_then(|minute| minute.parse::<f64>().ok());
    percent.map_or(0, |percent| to_u32(percent * 10_000.0))
}

/// A share or an average; what is no number counts as 0.
fn to_u32(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is clamped to the range of the type first"
    )]
    let number = value.round().clamp(0.0, f64::from(u32::MAX)) as u32;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_of_waiting_for_memory() {
        let told = "some avg10=9.00 avg60=42.50 avg300=1.00 total=7\nfull avg10=1.00 avg60=12.34 avg300=0.00 total=5\n";
        assert_eq!(stalled_ppm(told), 123_400);
        for nothing in ["", "full avg10=1.00", "full avg60=x", "some avg60=42.50"] {
            assert_eq!(stalled_ppm(nothing), 0, "{nothing}");
        }
    }
}
