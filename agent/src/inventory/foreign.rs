//! What is told of domains that aren't ours: their sizes, and what keeps them from being adopted.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use virtflow_proto::agent::v1;
use virtflow_types::ObjectId;

use super::storage;
use crate::hypervisor::{DiskSource, ForeignDomain, Obstacle, PowerState, Survey};
use crate::off_loop::off_loop;
use crate::reconcile::Reconciler;
use crate::reconcile::plan::GuestSettings;
use crate::xml::PciAddress;

/// Domains that are told one by one; of more, what they take together is told.
const DOMAINS_MAX: usize = 128;
/// Disks of one domain that are told.
const DISKS_MAX: usize = 16;
/// Bytes of a name that are told.
const NAME_BYTES_MAX: usize = 128;
/// How long the size of a disk is believed.
const SIZES_BELIEVED: Duration = Duration::from_secs(60);

/// Sizes of disks by their targets, and when they were asked for.
type Sizes = (Instant, BTreeMap<String, u64>);

/// Tells of foreign domains, and remembers how large their disks are.
#[derive(Debug, Default)]
pub struct ForeignReporter {
    sizes: BTreeMap<ObjectId, Sizes>,
}

impl ForeignReporter {
    /// What the last survey saw; `None` before the first.
    pub async fn report(
        &mut self,
        reconciler: &Reconciler,
        guests: &GuestSettings,
    ) -> Option<v1::ForeignDomains> {
        let last = reconciler.last_survey()?;
        self.ask_sizes(&last.survey, reconciler).await;
        let gpus = guests.gpus.clone();
        let gpus = off_loop(move || gpus.usable()).await.ok()?;
        let host = HandsOut {
            guests_dir: &guests.guests_dir,
            gpus: &gpus,
        };
        Some(foreign_domains(&last.survey, &self.sizes, &host))
    }

    async fn ask_sizes(&mut self, survey: &Survey, reconciler: &Reconciler) {
        let present = |id: &ObjectId| survey.foreign.iter().any(|(d, _)| d.domain_id == *id);
        self.sizes.retain(|id, _| present(id));
        for (domain, _) in &survey.foreign {
            let id = domain.domain_id;
            let known = self.sizes.get(&id);
            if domain.disks.is_empty() || known.is_some_and(|(at, _)| at.elapsed() < SIZES_BELIEVED)
            {
                continue;
            }
            let answer = reconciler.disk_sizes(id).await;
            // What was known holds when nothing is told.
            let known = self.sizes.entry(id);
            let known = known.or_insert_with(|| (Instant::now(), BTreeMap::new()));
            known.0 = Instant::now();
            match answer {
                Ok(sizes) => known.1 = sizes,
                Err(error) => {
                    tracing::debug!(domain = %id, %error, "the sizes of its disks are not known");
                    // A disk that hangs takes one turn; the others are asked for next time.
                    return;
                }
            }
        }
    }
}

/// What a host hands out that others' domains may hold.
struct HandsOut<'a> {
    guests_dir: &'a Path,
    gpus: &'a [PciAddress],
}

fn foreign_domains(
    survey: &Survey,
    sizes: &BTreeMap<ObjectId, Sizes>,
    host: &HandsOut<'_>,
) -> v1::ForeignDomains {
    let beside_guests = storage::beside_guests(host.guests_dir);
    let none = BTreeMap::new();
    let mut told = v1::ForeignDomains::default();
    let mut domains: Vec<_> = survey.foreign.iter().map(|(domain, _)| domain).collect();
    domains.sort_by_key(|domain| domain.domain_id);
    for (number, domain) in domains.into_iter().enumerate() {
        let sizes = sizes.get(&domain.domain_id).map_or(&none, |(_, of)| of);
        let domain = foreign_domain(domain, sizes, &beside_guests, host.gpus);
        if number < DOMAINS_MAX {
            told.domains.push(domain);
            continue;
        }
        told.unlisted += 1;
        told.unlisted_storage_gib += domain.storage_gib;
        told.unlisted_gpus += u64::from(domain.gpus);
        if domain.phase() != v1::Phase::Stopped || domain.autostart {
            told.unlisted_cpu_cores += u64::from(domain.cpu_cores);
            told.unlisted_memory_mib += domain.memory_mib;
        }
    }
    told
}

fn foreign_domain(
    domain: &ForeignDomain,
    sizes: &BTreeMap<String, u64>,
    beside_guests: &impl Fn(&Path) -> bool,
    handed_out: &[PciAddress],
) -> v1::ForeignDomain {
    let mut obstacles = domain.obstacles.clone();
    let mut beside_mib: u64 = 0;
    let mut disks = Vec::new();
    for disk in &domain.disks {
        let elsewhere = match &disk.source {
            DiskSource::File(path) => !beside_guests(path),
            DiskSource::Device => true,
            DiskSource::Unknown => false,
        };
        let capacity_mib = sizes.get(&disk.target).map(|size| size.div_ceil(1 << 20));
        match (capacity_mib, elsewhere) {
            (Some(size), false) => beside_mib = beside_mib.saturating_add(size),
            (None, false) => obstacles.push(Obstacle::UnknownDiskSize),
            (_, true) => {}
        }
        disks.push(v1::ForeignDisk {
            target: clipped(&disk.target),
            capacity_mib: capacity_mib.unwrap_or(0),
            elsewhere,
        });
    }
    disks.truncate(DISKS_MAX);
    obstacles.sort();
    obstacles.dedup();
    let held = domain.passed.iter().filter(|at| handed_out.contains(at));
    v1::ForeignDomain {
        domain_id: domain.domain_id.as_bytes().to_vec(),
        name: clipped(&domain.name),
        phase: match domain.power {
            PowerState::Running => v1::Phase::Running,
            PowerState::Paused => v1::Phase::Paused,
            PowerState::ShuttingDown => v1::Phase::Stopping,
            PowerState::Off(_) => v1::Phase::Stopped,
        }
        .into(),
        autostart: domain.autostart,
        cpu_cores: domain.vcpus,
        memory_mib: domain.memory_mib,
        storage_gib: beside_mib.div_ceil(1024),
        disks,
        obstacles: obstacles.iter().map(|o| o.name().to_owned()).collect(),
        gpus: u32::try_from(held.count()).unwrap_or(u32::MAX),
    }
}

/// Names of others are as long as they like.
fn clipped(name: &str) -> String {
    name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{ForeignDisk, OffReason, Usage};

    fn domain(number: u128, power: PowerState) -> ForeignDomain {
        let disk = |target: &str, source| ForeignDisk {
            target: target.to_owned(),
            source,
        };
        ForeignDomain {
            domain_id: ObjectId::from_u128(number),
            name: format!("d{number}"),
            power,
            autostart: false,
            vcpus: 2,
            memory_mib: 512,
            disks: vec![
                disk("vda", DiskSource::File("/guests/a.qcow2".into())),
                disk("vdb", DiskSource::Device),
            ],
            passed: Vec::new(),
            obstacles: Vec::new(),
        }
    }

    fn told(domains: Vec<ForeignDomain>, sizes: &[(&str, u64)]) -> v1::ForeignDomains {
        let sizes: BTreeMap<String, u64> = sizes.iter().map(|(t, s)| ((*t).into(), *s)).collect();
        let of = |domain: &ForeignDomain| (domain.domain_id, (Instant::now(), sizes.clone()));
        let all = domains.iter().map(of).collect();
        let foreign = domains.into_iter().map(|domain| (domain, Usage::default()));
        let survey = Survey {
            domains: Vec::new(),
            foreign: foreign.collect(),
        };
        let host = HandsOut {
            guests_dir: Path::new("/guests"),
            gpus: &["0000:65:00.0", "0000:66:00.0"].map(|at| PciAddress::new(at).unwrap()),
        };
        foreign_domains(&survey, &all, &host)
    }

    #[tokio::test]
    async fn gpus_that_others_have_are_counted_even_while_they_are_off() {
        let off = PowerState::Off(OffReason::Unknown);
        let holding = |number, addresses: &[&str]| ForeignDomain {
            passed: addresses
                .iter()
                .map(|at| PciAddress::new(at).unwrap())
                .collect(),
            ..domain(number, off)
        };
        // A network card of the host is nothing that is handed out.
        let mut domains = vec![holding(1, &["0000:65:00.0", "0000:01:00.0"])];
        assert_eq!(told(domains.clone(), &[]).domains[0].gpus, 1);
        domains.extend((2..=128).map(|number| domain(number, off)));
        domains.push(holding(129, &["0000:66:00.0"]));
        let all = told(domains, &[]);
        assert_eq!((all.unlisted, all.unlisted_gpus), (1, 1));
    }

    #[tokio::test]
    async fn what_lies_elsewhere_is_told_and_not_counted() {
        // 1 GiB and a byte take two GiB; the device takes nothing of this filesystem.
        let sizes = [("vda", (1 << 30) + 1), ("vdb", 5 << 30)];
        let all = told(vec![domain(1, PowerState::Running)], &sizes);
        let [one] = &all.domains[..] else {
            panic!("{all:?}")
        };
        assert_eq!(one.storage_gib, 2);
        let disks: Vec<_> = one
            .disks
            .iter()
            .map(|d| (d.capacity_mib, d.elsewhere))
            .collect();
        assert_eq!(disks, [(1025, false), (5120, true)]);
        assert!(one.obstacles.is_empty(), "{one:?}");
        // One whose size is not told cannot be charged to anybody.
        let all = told(vec![domain(1, PowerState::Running)], &[("vdb", 1)]);
        assert_eq!(all.domains[0].obstacles, ["unknown_disk_size"]);
        let all = told(vec![domain(1, PowerState::Running)], &[("vda", 1)]);
        assert_eq!(all.domains[0].obstacles, [""; 0]);
    }

    #[tokio::test]
    async fn more_than_can_be_listed_are_still_counted() {
        let off = PowerState::Off(OffReason::Unknown);
        let mut domains: Vec<_> = (1..=128).map(|n| domain(n, PowerState::Running)).collect();
        domains.insert(0, domain(129, PowerState::Running));
        domains.push(domain(130, off));
        let mut starts = domain(131, off);
        starts.autostart = true;
        domains.push(starts);
        let all = told(domains, &[("vda", 1 << 30)]);
        assert_eq!(all.domains.len(), 128);
        assert_eq!(
            all.domains[127].domain_id,
            ObjectId::from_u128(128).as_bytes()
        );
        // One runs, one is off, one is off and starts with the host; all three have disks.
        let left = (
            all.unlisted,
            all.unlisted_cpu_cores,
            all.unlisted_memory_mib,
        );
        assert_eq!(left, (3, 4, 1024));
        assert_eq!(all.unlisted_storage_gib, 3);
    }

    #[tokio::test]
    async fn long_names_are_cut_where_a_letter_ends() {
        let mut long = domain(1, PowerState::Running);
        long.name = "ä".repeat(100);
        let all = told(vec![long], &[("vda", 1)]);
        assert_eq!(all.domains[0].name, "ä".repeat(64));
    }
}
