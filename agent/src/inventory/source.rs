//! Whom facts about the machine are asked of: the machine this runs on, or a told one.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use virtflow_proto::agent::v1;

use super::{Amounts, InventoryError, LoadMeter};
use crate::hypervisor::Capabilities;
use crate::reconcile::LastSurvey;
use crate::reconcile::plan::GuestSettings;

/// Measures load between one call and the next.
pub type Meter = Box<dyn FnMut(Option<&LastSurvey>) -> v1::Load + Send>;

/// Facts about a machine.
pub trait Machine: fmt::Debug + Send + Sync + 'static {
    /// What it has, and what of it VMs may use.
    ///
    /// # Errors
    /// If what every machine tells is not told.
    fn inventory(
        &self,
        guests: &GuestSettings,
        capacity: Amounts,
        reserve: Amounts,
        capabilities: Option<&Capabilities>,
    ) -> Result<v1::Inventory, InventoryError>;
    /// What measures how busy it is.
    fn meter(&self, guests_dir: &Path) -> Meter;
    /// Differs from boot to boot.
    ///
    /// # Errors
    /// If the kernel doesn't tell.
    fn boot_id(&self) -> Result<String, InventoryError>;
}

/// The machine this runs on.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn inventory(
        &self,
        guests: &GuestSettings,
        capacity: Amounts,
        reserve: Amounts,
        capabilities: Option<&Capabilities>,
    ) -> Result<v1::Inventory, InventoryError> {
        super::collect(guests, capacity, reserve, capabilities)
    }
    fn meter(&self, guests_dir: &Path) -> Meter {
        let mut meter = LoadMeter::new(guests_dir);
        Box::new(move |survey| meter.measure(survey))
    }
    fn boot_id(&self) -> Result<String, InventoryError> {
        super::boot_id()
    }
}

/// A machine that has what it is told to have: for simulations.
#[derive(Debug)]
pub struct ToldMachine {
    name: String,
    threads: u32,
    memory_mib: u64,
    storage_gib: u64,
    boots: AtomicU64,
}

impl ToldMachine {
    /// A machine at its first boot.
    #[must_use]
    pub fn new(name: &str, threads: u32, memory_mib: u64, storage_gib: u64) -> Self {
        Self {
            name: name.to_owned(),
            threads,
            memory_mib,
            storage_gib,
            boots: AtomicU64::new(1),
        }
    }

    /// From now on it is another boot.
    pub fn reboot(&self) {
        self.boots.fetch_add(1, Ordering::Relaxed);
    }
}

impl Machine for ToldMachine {
    fn inventory(
        &self,
        _guests: &GuestSettings,
        capacity: Amounts,
        reserve: Amounts,
        capabilities: Option<&Capabilities>,
    ) -> Result<v1::Inventory, InventoryError> {
        let usable = |has: u64, cap: Option<u64>, reserved: Option<u64>| {
            has.min(cap.unwrap_or(u64::MAX))
                .saturating_sub(reserved.unwrap_or(0))
        };
        let cpu_milli = u64::from(self.threads) * 1000;
        Ok(v1::Inventory {
            sockets: 1,
            cores: self.threads,
            threads: self.threads,
            memory_mib: self.memory_mib,
            hypervisor: capabilities.map_or_else(String::new, |can| can.driver.clone()),
            schedulable_cpu_milli: usable(cpu_milli, capacity.cpu_milli, reserve.cpu_milli),
            schedulable_memory_mib: usable(
                self.memory_mib,
                capacity.memory_mib,
                reserve.memory_mib,
            ),
            schedulable_storage_gib: usable(
                self.storage_gib,
                capacity.storage_gib,
                reserve.storage_gib,
            ),
            reserved_cpu_milli: reserve.cpu_milli.unwrap_or(0),
            reserved_memory_mib: reserve.memory_mib.unwrap_or(0),
            reserved_storage_gib: reserve.storage_gib.unwrap_or(0),
            // The same in every run, wherever the simulation keeps its files.
            guests_dir: "/var/lib/virtflow/guests".to_owned(),
            ..v1::Inventory::default()
        })
    }

    fn meter(&self, _guests_dir: &Path) -> Meter {
        Box::new(|_| v1::Load::default())
    }

    fn boot_id(&self) -> Result<String, InventoryError> {
        let boot = self.boots.load(Ordering::Relaxed);
        Ok(format!("{}-boot-{boot}", self.name))
    }
}
