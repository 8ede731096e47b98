//! Domains on hosts that are not VirtFlow's: what is kept of what a host tells of them, and what they take.

use virtflow_model::kinds::Baremetal;
use virtflow_model::kinds::baremetal::{Foreign, ForeignDomain};
use virtflow_model::{Amounts, space};
use virtflow_types::{Error, ObjectId};

use crate::draft::Draft;
use crate::limits::{
    FOREIGN_DISKS_MAX, FOREIGN_DOMAINS_MAX, FOREIGN_OBSTACLES_MAX, FOREIGN_TEXT_BYTES_MAX,
};
use crate::observe::clean;

/// What is kept of what a host told: bounded, and counted.
pub(crate) fn taken_in(draft: &Draft<'_>, host: ObjectId, mut told: Foreign) -> Foreign {
    for domain in &mut told.domains {
        domain.name = clean(&domain.name, FOREIGN_TEXT_BYTES_MAX);
        domain.disks.truncate(FOREIGN_DISKS_MAX);
        for disk in &mut domain.disks {
            disk.target = clean(&disk.target, FOREIGN_TEXT_BYTES_MAX);
        }
        domain.obstacles.truncate(FOREIGN_OBSTACLES_MAX);
        for obstacle in &mut domain.obstacles {
            *obstacle = clean(obstacle, FOREIGN_TEXT_BYTES_MAX);
        }
    }
    let at = told.domains.len().min(FOREIGN_DOMAINS_MAX);
    for beyond in told.domains.split_off(at) {
        told.unlisted = told.unlisted.saturating_add(1);
        told.unlisted_take = sum(told.unlisted_take, beyond.takes());
    }
    told.take = take(draft, host, &told);
    told
}

/// What the domains of a host take that are no VMs.
fn take(draft: &Draft<'_>, host: ObjectId, foreign: &Foreign) -> Amounts {
    let ours = |domain: &ForeignDomain| vm_of(draft, host, domain.domain_id).is_some();
    let others = foreign.domains.iter().filter(|domain| !ours(domain));
    others.fold(foreign.unlisted_take, |so_far, domain| {
        sum(so_far, domain.takes())
    })
}

/// The VM that a domain was adopted for, as it will be. What its host tells may be older than that.
pub(crate) fn vm_of(draft: &Draft<'_>, host: ObjectId, domain: ObjectId) -> Option<ObjectId> {
    let point = format!("{host}/{domain}");
    let holder = draft
        .state
        .holder(space::ADOPTED_DOMAIN, point.as_bytes())?;
    draft.get(holder.id).map(|vm| vm.id)
}

impl Draft<'_> {
    /// Counts anew what others' domains take of a host, but for one that becomes a VM with this changeset.
    pub(crate) fn recount_foreign(
        &mut self,
        host: ObjectId,
        but: Option<ObjectId>,
    ) -> Result<(), Error> {
        if self.get(host).is_none() {
            return Ok(());
        }
        let mut foreign = self.typed::<Baremetal>(host)?.status.foreign.clone();
        let listed = foreign.domains.clone();
        foreign
            .domains
            .retain(|domain| Some(domain.domain_id) != but);
        foreign.take = take(self, host, &foreign);
        foreign.domains = listed;
        self.update::<Baremetal>(host, |_, status| status.foreign = foreign)
            .map(drop)
    }
}

fn sum(a: Amounts, b: Amounts) -> Amounts {
    Amounts {
        cpu_cores: a.cpu_cores.saturating_add(b.cpu_cores),
        memory_mib: a.memory_mib.saturating_add(b.memory_mib),
        storage_gib: a.storage_gib.saturating_add(b.storage_gib),
        gpus: a.gpus.saturating_add(b.gpus),
    }
}
