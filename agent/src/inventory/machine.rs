//! Processors, memory, NUMA, huge pages, network and graphics cards.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use virtflow_proto::agent::v1;

use super::{InventoryError, unknown};

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";
const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// The processors that are online.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Topology {
    pub(super) sockets: u32,
    /// Physical cores of all sockets.
    pub(super) cores: u32,
    /// Logical processors.
    pub(super) threads: u32,
    pub(super) model: String,
}

pub(super) fn topology() -> Result<Topology, InventoryError> {
    let online = Path::new(CPUS).join("online");
    let cpus = read_number_list(&online).ok_or_else(|| {
        unknown(
            "the processors",
            online.to_string_lossy(),
            "no list of numbers",
        )
    })?;
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for cpu in &cpus {
        let folder = Path::new(CPUS)
            .join(["cpu", &cpu.to_string()].concat())
            .join("topology");
        // Virtual machines may tell neither: then each processor counts as a core of one socket.
        let socket: i64 = read_number(&folder.join("physical_package_id")).unwrap_or(0);
        let core: i64 = read_number(&folder.join("core_id")).unwrap_or(i64::from(*cpu));
        sockets.insert(socket);
        cores.insert((socket, core));
    }
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    Ok(Topology {
        sockets: count(sockets.len()),
        cores: count(cores.len()),
        threads: count(cpus.len()),
        model: cpu_model(),
    })
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    // x86 says "model name", others "Model", "cpu model" or "CPU part".
    lines
        .find(|(key, _)| matches!(key.trim(), "model name" | "Model" | "cpu model" | "cpu"))
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

pub(super) fn memory_mib() -> Result<u64, InventoryError> {
    let mut system = sysinfo::System::new()
        .map_err(|error| unknown("the memory", "the kernel", format!("{error:?}")))?;
    system.refresh_memory();
    match system.total_memory() >> 20 {
        0 => Err(unknown("the memory", "/proc/meminfo", "it says 0")),
        mib => Ok(mib),
    }
}

pub(super) fn numa_nodes() -> Vec<v1::NumaNode> {
    let online = read_number_list(&Path::new(NODES).join("online")).unwrap_or_default();
    online
        .into_iter()
        .map(|id| {
            let folder = Path::new(NODES).join(["node", &id.to_string()].concat());
            let memory = fs::read_to_string(folder.join("meminfo")).unwrap_or_default();
            let total_kib = memory
                .lines()
                .find(|line| line.contains("MemTotal:"))
                .and_then(|line| line.split_whitespace().nth(3))
                .and_then(|amount| amount.parse::<u64>().ok())
                .unwrap_or(0);
            v1::NumaNode {
                id,
                memory_mib: total_kib >> 10,
                cpus: read_number_list(&folder.join("cpulist")).unwrap_or_default(),
            }
        })
        .collect()
}

pub(super) fn huge_pages() -> Vec<v1::HugePages> {
    let mut pages: Vec<_> = folder_names(Path::new(HUGE_PAGES))
        .filter_map(|name| {
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            let folder = Path::new(HUGE_PAGES).join(&name);
            Some(v1::HugePages {
                size_kib: size.parse().ok()?,
                total: read_number(&folder.join("nr_hugepages"))?,
                free: read_number(&folder.join("free_hugepages"))?,
            })
        })
        .collect();
    pages.sort_by_key(|pages| pages.size_kib);
    pages
}

/// Network cards of this network namespace, without the loopback.
pub(super) fn nics() -> Vec<v1::Nic> {
    // `/proc` tells the names of the agent's own namespace; `/sys` may be mounted for another.
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mut nics: Vec<_> = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| name != "lo")
        .map(|name| {
            let folder = Path::new("/sys/class/net").join(&name);
            let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
            v1::Nic {
                mac: read("address").trim().to_owned(),
                // Cards without a fixed speed say -1, or nothing.
                speed_mbps: read("speed").trim().parse().unwrap_or(0),
                up: matches!(read("operstate").trim(), "up" | "unknown"),
                name,
            }
        })
        .collect();
    nics.sort_by(|a, b| a.name.cmp(&b.name));
    nics
}

/// Display controllers, as `vendor:device` of PCI.
pub(super) fn gpus() -> Vec<String> {
    let devices = Path::new("/sys/bus/pci/devices");
    let mut gpus: Vec<_> = folder_names(devices)
        .filter_map(|address| {
            let folder = devices.join(address);
            let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
            let class = read("class")?;
            class.starts_with("0x03").then_some(())?;
            let id = |text: String| text.trim().trim_start_matches("0x").to_owned();
            Some([id(read("vendor")?), id(read("device")?)].join(":"))
        })
        .collect();
    gpus.sort();
    gpus
}

fn folder_names(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn read_number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read_number_list(path: &Path) -> Option<Vec<u32>> {
    number_list(&fs::read_to_string(path).ok()?)
}

/// The kernel's way to write sets: `0-3,8,10-11`.
pub(super) fn number_list(text: &str) -> Option<Vec<u32>> {
    /// More processors than any machine has; keeps a mangled range from filling the memory.
    const NUMBERS_MAX: u32 = 65_536;
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last - first > NUMBERS_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    (!numbers.is_empty()).then_some(numbers)
}
