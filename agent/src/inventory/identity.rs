//! Which machine this is: its serial number, its boot, its name.

use std::path::Path;

/// Where a serial number came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SerialSource {
    /// Written in the configuration.
    Configured,
    /// From the firmware's DMI tables.
    Dmi,
    /// Derived from `/etc/machine-id`, because the firmware gives none.
    MachineId,
}

impl SerialSource {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Dmi => "dmi",
            Self::MachineId => "machine_id",
        }
    }
}

/// A serial number and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialNumber {
    /// The number.
    pub text: String,
    /// Its source.
    pub source: SerialSource,
}

/// The longest serial number taken.
const SERIAL_BYTES_MAX: usize = 64;

/// What firmware makers write where a serial number should be.
const PLACEHOLDERS: &[&str] = &[
    "",
    "0",
    "none",
    "n/a",
    "na",
    "unknown",
    "default string",
    "default",
    "not specified",
    "not applicable",
    "not available",
    "system serial number",
    "serial number",
    "to be filled by o.e.m.",
    "to be filled by oem",
    "oem",
    "invalid",
    "xxxxxxxx",
    "0123456789",
    "123456789",
    "1234567890",
    "00000000",
    "empty",
    "chassis serial number",
    "base board serial number",
];

/// The machine's serial number: as configured, else the firmware's, else one derived from the
/// machine id. The machine id itself is a secret of the machine and isn't told.
///
/// # Errors
/// If there is neither; then one must be configured.
pub fn serial_number(configured: Option<&str>) -> Result<SerialNumber, super::InventoryError> {
    serial_number_from(
        configured,
        Path::new("/sys/class/dmi/id"),
        Path::new("/etc/machine-id"),
    )
}

pub(super) fn serial_number_from(
    configured: Option<&str>,
    dmi: &Path,
    machine_id: &Path,
) -> Result<SerialNumber, super::InventoryError> {
    if let Some(text) = configured {
        return Ok(SerialNumber {
            text: text.to_owned(),
            source: SerialSource::Configured,
        });
    }
    for field in ["product_serial", "chassis_serial", "board_serial"] {
        let text = std::fs::read_to_string(dmi.join(field)).unwrap_or_default();
        if let Some(text) = plausible(&text) {
            return Ok(SerialNumber {
                text,
                source: SerialSource::Dmi,
            });
        }
    }
    let id = std::fs::read_to_string(machine_id).unwrap_or_default();
    let id = id.trim();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(super::unknown(
            "a serial number",
            format!("{} and {}", dmi.display(), machine_id.display()),
            "the firmware gives none and there is no machine id; configure `serial`",
        ));
    }
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"virtflow host serial number 1");
    let derived = ring::hmac::sign(&key, id.to_ascii_lowercase().as_bytes());
    let hex: String = derived.as_ref()[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(SerialNumber {
        text: ["mid-", &hex].concat(),
        source: SerialSource::MachineId,
    })
}

fn plausible(text: &str) -> Option<String> {
    let text = text.trim();
    let printable = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let one_character = text.bytes().all(|byte| Some(byte) == text.bytes().next());
    let placeholder = PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str());
    (printable && !one_character && !placeholder && text.len() <= SERIAL_BYTES_MAX)
        .then(|| text.to_owned())
}

/// The id of this boot of the machine; another one means that every guest is gone.
///
/// # Errors
/// If the kernel doesn't tell.
pub fn boot_id() -> Result<String, super::InventoryError> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path)
        .map_err(|error| super::unknown("the boot id", path, error))?;
    Ok(text.trim().to_owned())
}

/// The machine's name, for people.
#[must_use]
pub fn hostname() -> String {
    sysinfo::System::host_name().unwrap_or_default()
}
