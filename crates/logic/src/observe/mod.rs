//! What was seen, brought into the state: edges only, and only from who owns what they speak of.

mod cloud_box;
mod health;
mod host;
mod vm;

pub use cloud_box::{cloud_boxes_heard, cloud_boxes_silent};
pub use health::{HostSigns, host_health_differs, hosts_fare};
pub use host::{
    HostHello, HostInventory, controller_admitted, host_admitted, host_of_key, host_offline,
    host_online, host_quarantine, inventory_changed,
};
pub(crate) use host::{checked, schedulable};
pub(crate) use vm::clean;
pub use vm::{ObservedPhase, ObservedReport, ObservedVm, observed};
