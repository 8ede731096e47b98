//! GPUs that this host hands out: those that its settings list, as far as they can be passed to a guest.
//!
//! Nothing is handed out that is not listed: a host's only display is a GPU, too.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::xml::PciAddress;

/// Where the kernel tells of devices.
const DEVICES: &str = "/sys/bus/pci/devices";
/// Drivers that keep a device for guests, or that do not touch it.
const HARMLESS_DRIVERS: &[&str] = &["vfio-pci", "pci-stub", "pcieport"];

/// The GPUs that the settings list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGpus {
    listed: Vec<PciAddress>,
    devices: PathBuf,
}

impl Default for ListedGpus {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl ListedGpus {
    /// These, of this machine.
    #[must_use]
    pub fn new(listed: Vec<PciAddress>) -> Self {
        Self::below(listed, Path::new(DEVICES))
    }

    /// These, as a folder tells of them: for tests.
    #[must_use]
    pub fn below(mut listed: Vec<PciAddress>, devices: &Path) -> Self {
        listed.sort_unstable();
        Self {
            listed,
            devices: devices.to_owned(),
        }
    }

    /// Those that can be passed to a guest, lowest first. Asks the kernel.
    #[must_use]
    pub fn usable(&self) -> Vec<PciAddress> {
        let looked_at = self.look().into_iter();
        looked_at
            .filter_map(|(at, found)| found.is_ok().then_some(at))
            .collect()
    }

    /// Each with what it is, `vendor:device`, or with what keeps it from being passed. Asks the kernel.
    #[must_use]
    pub fn look(&self) -> Vec<(PciAddress, Result<String, GpuObstacle>)> {
        let listed = self.listed.iter();
        listed.map(|at| (*at, self.look_at(*at))).collect()
    }

    fn look_at(&self, at: PciAddress) -> Result<String, GpuObstacle> {
        let folder = self.devices.join(at.to_string());
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let number = |file: &str| {
            let text = read(file)?;
            Some(text.trim().trim_start_matches("0x").to_owned())
        };
        let class = number("class").ok_or(GpuObstacle::Absent)?;
        if !is_gpu(&class) {
            return Err(GpuObstacle::OtherClass(class));
        }
        let group = folder.join("iommu_group");
        if !group.exists() {
            return Err(GpuObstacle::NoIommu);
        }
        self.look_at_group(at, &group.join("devices"))?;
        let part = |file: &str| number(file).unwrap_or_default();
        Ok([part("vendor"), part("device")].join(":"))
    }

    /// Devices of one group are passed to one guest or to none.
    fn look_at_group(&self, at: PciAddress, group: &Path) -> Result<(), GpuObstacle> {
        let names = fs::read_dir(group).into_iter().flatten();
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut others: Vec<_> = names
            .filter_map(|name| PciAddress::new(&name).ok())
            .filter(|other| *other != at)
            .collect();
        others.sort_unstable();
        for other in others {
            if other < at && self.listed.contains(&other) {
                return Err(GpuObstacle::TogetherWith(other));
            }
            let driver = self.devices.join(other.to_string()).join("driver");
            let driver = fs::read_link(driver).ok();
            let driver = driver.as_deref().and_then(Path::file_name);
            let driver = driver.map(|name| name.to_string_lossy().into_owned());
            let in_use = driver.filter(|driver| !HARMLESS_DRIVERS.contains(&driver.as_str()));
            // One that is listed, too, is not passed itself: it says so.
            if let Some(driver) = in_use.filter(|_| !self.listed.contains(&other)) {
                return Err(GpuObstacle::InUseWith(other, driver));
            }
        }
        Ok(())
    }
}

/// Display controllers, 3D ones among them, and processing accelerators.
fn is_gpu(class: &str) -> bool {
    class.starts_with("03") || class.starts_with("12")
}

/// What keeps a device from being passed to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuObstacle {
    /// There is none at that address.
    Absent,
    /// It is something else; its class.
    OtherClass(String),
    /// It is behind no IOMMU.
    NoIommu,
    /// The IOMMU cannot tell it from another one that is listed.
    TogetherWith(PciAddress),
    /// The IOMMU cannot tell it from one that the host uses, by that driver.
    InUseWith(PciAddress, String),
}

impl GpuObstacle {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Absent => "write the address as `lspci -D` tells it, or take it out of `gpus`",
            Self::OtherClass(_) => "take it out of `gpus`; `lspci -D` tells which devices are GPUs",
            Self::NoIommu => {
                "switch on the IOMMU (VT-d, AMD-Vi) in the firmware, and `intel_iommu=on` among the kernel's \
                 arguments where it needs that"
            }
            Self::TogetherWith(_) => {
                "put the cards into slots with IOMMU groups of their own, or list one of them only"
            }
            Self::InUseWith(..) => {
                "bind that device to `vfio-pci`, or put the card into a slot with an IOMMU group of its own"
            }
        }
    }
}

impl fmt::Display for GpuObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such device"),
            Self::OtherClass(class) => write!(
                f,
                "it is no display controller and no accelerator: its class is {class}"
            ),
            Self::NoIommu => f.write_str("it is behind no IOMMU"),
            Self::TogetherWith(other) => {
                write!(
                    f,
                    "it shares its IOMMU group with {other}, which is listed, too"
                )
            }
            Self::InUseWith(other, driver) => write!(
                f,
                "it shares its IOMMU group with {other}, which the host uses (driver {driver})"
            ),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder that tells of devices as the kernel does.
    #[derive(Debug)]
    pub(crate) struct Devices(tempfile::TempDir);

    impl Devices {
        pub(crate) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub(crate) fn path(&self) -> &Path {
            self.0.path()
        }

        /// A device; without a group there is no IOMMU.
        pub(crate) fn put(&self, at: &str, class: &str, group: Option<u32>, driver: Option<&str>) {
            let folder = self.path().join(at);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in [("class", class), ("vendor", "0x10de"), ("device", "0x26b9")] {
                fs::write(folder.join(file), [text, "\n"].concat()).unwrap();
            }
            if let Some(group) = group {
                let group = self.path().join("groups").join(group.to_string());
                fs::create_dir_all(group.join("devices").join(at)).unwrap();
                symlink(&group, folder.join("iommu_group")).unwrap();
            }
            if let Some(driver) = driver {
                symlink(Path::new("/drivers").join(driver), folder.join("driver")).unwrap();
            }
        }

        pub(crate) fn list(&self, addresses: &[&str]) -> ListedGpus {
            let listed = addresses.iter().map(|at| PciAddress::new(at).unwrap());
            ListedGpus::below(listed.collect(), self.path())
        }
    }

    fn told(list: &ListedGpus) -> Vec<(String, String)> {
        let found = list.look().into_iter();
        let word = |found: Result<String, GpuObstacle>| match found {
            Ok(model) => model,
            Err(obstacle) => obstacle.to_string(),
        };
        found.map(|(at, it)| (at.to_string(), word(it))).collect()
    }

    #[test]
    fn what_is_listed_is_handed_out_if_it_can_be_passed() {
        let devices = Devices::new();
        devices.put("0000:65:00.0", "0x030200", Some(1), Some("nvidia"));
        devices.put("0000:17:00.0", "0x120000", Some(2), None);
        devices.put("0000:00:02.0", "0x030000", Some(3), Some("i915"));
        let list = devices.list(&["0000:65:00.0", "0000:17:00.0"]);
        let usable: Vec<_> = list.usable().iter().map(PciAddress::to_string).collect();
        assert_eq!(usable, ["0000:17:00.0", "0000:65:00.0"]);
        assert_eq!(told(&list)[1].1, "10de:26b9");
        assert_eq!(devices.list(&[]).usable(), []);
    }

    #[test]
    fn what_cannot_be_passed_says_why_and_is_not_handed_out() {
        let devices = Devices::new();
        devices.put("0000:01:00.0", "0x020000", Some(1), None);
        devices.put("0000:02:00.0", "0x030000", None, None);
        devices.put("0000:03:00.0", "0x030000", Some(3), None);
        devices.put("0000:03:00.1", "0x040300", Some(3), Some("snd_hda_intel"));
        for (at, problem) in [
            ("0000:00:1f.0", "there is no such device"),
            ("0000:01:00.0", "its class is 020000"),
            ("0000:02:00.0", "behind no IOMMU"),
            (
                "0000:03:00.0",
                "with 0000:03:00.1, which the host uses (driver snd_hda_intel)",
            ),
        ] {
            let list = devices.list(&[at]);
            let told = told(&list);
            assert!(told[0].1.contains(problem), "{told:?}");
            assert_eq!(list.usable(), [], "{at}");
        }
    }

    #[test]
    fn a_group_is_handed_out_once() {
        let devices = Devices::new();
        devices.put("0000:00:01.0", "0x060400", Some(1), Some("pcieport"));
        devices.put("0000:01:00.0", "0x030000", Some(1), Some("nvidia"));
        devices.put("0000:01:00.1", "0x040300", Some(1), Some("vfio-pci"));
        devices.put("0000:02:00.0", "0x030000", Some(1), Some("nvidia"));
        let told = told(&devices.list(&["0000:02:00.0", "0000:01:00.0"]));
        assert_eq!(told[0], ("0000:01:00.0".into(), "10de:26b9".into()));
        assert!(told[1].1.contains("group with 0000:01:00.0"), "{told:?}");
    }
}
