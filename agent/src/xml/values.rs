//! Values that may stand in a domain definition: each type admits an allow-list of characters.

use std::fmt;
use std::path::Path;

/// The longest path we hand to libvirt, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// The longest list of kernel arguments, in bytes (x86 kernels take 2048 with the final zero).
const KERNEL_ARGUMENTS_BYTES_MAX: usize = 2047;
/// The longest name of a network interface (IFNAMSIZ without the final zero).
const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// A value that may not stand in a domain definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` {problem}")]
pub struct ValueError {
    what: &'static str,
    value: String,
    problem: String,
}

fn refuse(what: &'static str, value: &str, problem: impl Into<String>) -> ValueError {
    ValueError {
        what,
        value: value
            .chars()
            .take(80)
            .flat_map(char::escape_default)
            .collect(),
        problem: problem.into(),
    }
}

fn check_characters(
    what: &'static str,
    value: &str,
    bytes_max: usize,
    punctuation: &str,
) -> Result<(), ValueError> {
    if value.is_empty() {
        return Err(refuse(what, value, "is empty"));
    }
    if value.len() > bytes_max {
        return Err(refuse(
            what,
            value,
            format!("is longer than {bytes_max} bytes"),
        ));
    }
    match value
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !punctuation.contains(*c))
    {
        Some(bad) => Err(refuse(
            what,
            value,
            format!("contains {bad:?}; letters, digits and `{punctuation}` are allowed"),
        )),
        None => Ok(()),
    }
}

/// An absolute path on the host without `.` or `..` parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPath(String);

impl HostPath {
    /// Checks and wraps.
    ///
    /// # Errors
    /// If the path is relative, too long, or holds anything but letters, digits and `/._+@-`.
    pub fn new(path: &Path) -> Result<Self, ValueError> {
        let shown = path.to_string_lossy();
        let text = path
            .to_str()
            .ok_or_else(|| refuse("path", &shown, "is not UTF-8"))?;
        if !text.starts_with('/') {
            return Err(refuse("path", text, "is not absolute"));
        }
        check_characters("path", text, PATH_BYTES_MAX, "/._+@-")?;
        if text.split('/').any(|part| part == "." || part == "..") {
            return Err(refuse("path", text, "contains a `.` or `..` part"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

/// Arguments of a guest's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelArguments(String);

impl KernelArguments {
    /// Checks and wraps.
    ///
    /// # Errors
    /// If it is empty, too long, or holds anything but letters, digits and ` =.,:/_+@%-`.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        check_characters(
            "kernel arguments",
            text,
            KERNEL_ARGUMENTS_BYTES_MAX,
            " =.,:/_+@%-",
        )?;
        if text.trim() != text {
            return Err(refuse(
                "kernel arguments",
                text,
                "begin or end with a space",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeName(String);

impl BridgeName {
    /// Checks and wraps.
    ///
    /// # Errors
    /// If it is empty, longer than 15 bytes, or holds anything but letters, digits and `._-`.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        check_characters("bridge", text, INTERFACE_NAME_BYTES_MAX, "._-")?;
        if text == "." || text == ".." {
            return Err(refuse("bridge", text, "is no interface name"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// Parses `52:54:00:12:34:56`.
    ///
    /// # Errors
    /// If the text is anything else, or a group address.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(|| refuse("MAC address", text, "is not six pairs of hex digits"))?;
            *byte = u8::from_str_radix(part, 16)
                .map_err(|_| refuse("MAC address", text, "is not six pairs of hex digits"))?;
        }
        if parts.next().is_some() {
            return Err(refuse(
                "MAC address",
                text,
                "is not six pairs of hex digits",
            ));
        }
        if bytes[0] & 1 == 1 {
            return Err(refuse("MAC address", text, "is a group address"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Where a device is on the PCI buses of the host; ordered as the host counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    slot: u8,
    function: u8,
}

impl PciAddress {
    /// Parses `0000:65:00.0`, as `lspci -D` and `/sys/bus/pci/devices` write it.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn new(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            refuse(
                "PCI address",
                text,
                "is not like `0000:65:00.0`; `lspci -D` lists the host's",
            )
        };
        let (buses, function) = text.rsplit_once('.').ok_or_else(wrong)?;
        let buses: Vec<_> = buses.split(':').collect();
        let [domain, bus, slot] = buses[..] else {
            return Err(wrong());
        };
        let parts = [domain, bus, slot, function];
        let in_form = matches!(parts.map(str::len), [4..=8, 2, 2, 1]);
        let mut digits = parts.iter().flat_map(|part| part.bytes());
        if !in_form || !digits.all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = |part: &str| u32::from_str_radix(part, 16).ok();
        Self::of(parts.into_iter().map(number)).ok_or_else(wrong)
    }

    /// From the attributes of an address as libvirt writes them, `0x65`; `None` if one is missing or says nothing.
    pub(super) fn of_attributes<'a>(parts: [Option<&'a str>; 4]) -> Option<Self> {
        let number = |part: Option<&'a str>| match part?.split_once("0x") {
            Some(("", digits)) => u32::from_str_radix(digits, 16).ok(),
            _ => part?.parse().ok(),
        };
        Self::of(parts.into_iter().map(number))
    }

    fn of(mut parts: impl Iterator<Item = Option<u32>>) -> Option<Self> {
        let mut part = || parts.next().flatten();
        let byte = |number: u32| u8::try_from(number).ok();
        let address = Self {
            domain: part()?,
            bus: byte(part()?)?,
            slot: byte(part()?)?,
            function: byte(part()?)?,
        };
        (address.slot < 32 && address.function < 8).then_some(address)
    }

    /// The attributes of an address as libvirt takes them.
    pub(super) fn attributes(self) -> [(&'static str, String); 4] {
        [
            ("domain", format!("0x{:04x}", self.domain)),
            ("bus", format!("0x{:02x}", self.bus)),
            ("slot", format!("0x{:02x}", self.slot)),
            ("function", format!("0x{:x}", self.function)),
        ]
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            slot,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        for good in [
            "/boot/vmlinuz-6.1.0+x_1",
            "/var/lib/virtflow/guests/a@b/disk.raw",
        ] {
            assert_eq!(HostPath::new(Path::new(good)).unwrap().as_str(), good);
        }
        for bad in [
            "", "relative", "/a/../b", "/a/./b", "/a b", "/a'b", "/a\"b", "/a<b", "/a&b", "/a,b",
            "/a\nb", "/a\0b", "/ä",
        ] {
            assert!(HostPath::new(Path::new(bad)).is_err(), "{bad:?}");
        }
        assert!(HostPath::new(Path::new(&format!("/{}", "a".repeat(PATH_BYTES_MAX)))).is_err());
    }

    #[test]
    fn kernel_arguments_hold_no_markup() {
        assert!(KernelArguments::new("console=ttyS0,115200 root=/dev/vda1 quiet").is_ok());
        for bad in [
            "", " a", "a ", "a<b", "a&b", "a'b", "a\"b", "a\nb", "a;b", "a$b",
        ] {
            assert!(KernelArguments::new(bad).is_err(), "{bad:?}");
        }
        assert!(KernelArguments::new(&"a".repeat(2047)).is_ok());
        assert!(KernelArguments::new(&"a".repeat(2048)).is_err());
    }

    #[test]
    fn addresses_of_devices() {
        for good in ["0000:65:00.0", "0000:00:1f.7", "10000:e1:00.0"] {
            assert_eq!(PciAddress::new(good).unwrap().to_string(), good);
        }
        assert_eq!(
            PciAddress::new("0000:AF:00.0").unwrap().to_string(),
            "0000:af:00.0"
        );
        for bad in [
            "",
            "65:00.0",
            "0000:65:00",
            "0000:65:00:0",
            "0000.65.00.0",
            "0000:65:20.0",
            "0000:65:00.8",
            "0000:6g:00.0",
            "0000:+5:00.0",
            "000:65:00.0",
            "0000:065:00.0",
            "0000:65:00.0 ",
            "0000:65:00.0.0",
            "000000000:65:00.0",
        ] {
            assert!(PciAddress::new(bad).is_err(), "{bad:?}");
        }
        let [low, high] = ["0000:0a:00.0", "0001:02:00.0"].map(|at| PciAddress::new(at).unwrap());
        assert!(low < high);
    }

    #[test]
    fn bridges_and_macs() {
        assert!(BridgeName::new("br-tenant.10").is_ok());
        for bad in ["", "..", "a/b", "sixteen-letters1", "a b", "a'b"] {
            assert!(BridgeName::new(bad).is_err(), "{bad:?}");
        }
        let mac = MacAddress::new("52:54:00:AB:cd:ef").unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:ef:00",
            "52-54-00-ab-cd-ef",
            "+2:54:00:ab:cd:ef",
            "53:54:00:ab:cd:ef",
            "5:254:00:ab:cd:ef",
        ] {
            assert!(MacAddress::new(bad).is_err(), "{bad:?}");
        }
    }
}
