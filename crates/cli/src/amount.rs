//! Sizes, shares and spans as people write them.

use std::time::Duration;

/// Units of size, in MiB as a fraction: a KiB is 1/1024.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("m", 1),
    ("mib", 1),
    ("g", 1024),
    ("gib", 1024),
    ("t", 1024 * 1024),
    ("tib", 1024 * 1024),
    ("p", 1024 * 1024 * 1024),
    ("pib", 1024 * 1024 * 1024),
];

const SPAN_UNITS: &[(&str, u64)] = &[
    ("s", 1),
    ("m", 60),
    ("h", 3600),
    ("d", 24 * 3600),
    ("w", 7 * 24 * 3600),
];

/// Digits before the point that a share may have; hundreds of them are no number any more.
const PERCENT_DIGITS: usize = 9;
/// Decimals that a share may have.
const PERCENT_DECIMALS: usize = 4;

/// `512MiB`, `4GiB`, `1.5TiB` in MiB.
pub(crate) fn size_mib(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(|| format!("`{text}` has no unit: write 512MiB or 4GiB"))?;
    let (number, unit) = text.split_at(at);
    let unit = unit.trim().to_ascii_lowercase();
    let &(_, mib) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("`{text}` is no size: the units are MiB, GiB, TiB and PiB"))?;
    scaled(number, mib).ok_or_else(|| format!("`{text}` is no whole number of MiB"))
}

/// The same in GiB; it must be whole ones.
pub(crate) fn size_gib(text: &str) -> Result<u64, String> {
    let mib = size_mib(text)?;
    if mib.is_multiple_of(1024) {
        Ok(mib / 1024)
    } else {
        Err(format!("`{text}` is no whole number of GiB"))
    }
}

/// `number` (digits, perhaps with decimals) times `unit`, if that is whole.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(decimals) || decimals.len() > 12 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let digits: u128 = format!("{whole}{decimals}").parse().ok()?;
    let product = digits.checked_mul(u128::from(unit))?;
    if !product.is_multiple_of(scale) {
        return None;
    }
    u64::try_from(product / scale).ok()
}

/// MiB as a person reads them: the largest unit that keeps the number whole.
pub(crate) fn show_mib(mib: u64) -> String {
    if mib == 0 {
        return "0".into();
    }
    for (unit, size) in [("TiB", 1024 * 1024), ("GiB", 1024)] {
        if mib.is_multiple_of(size) {
            return format!("{}{unit}", mib / size);
        }
    }
    format!("{mib}MiB")
}

/// `50`, `50%` or `12.5` percent.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%');
    let refuse = || format!("`{text}` is no percentage such as 12.5");
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(decimals) {
        return Err(refuse());
    }
    if whole.len() > PERCENT_DIGITS || decimals.len() > PERCENT_DECIMALS {
        return Err(refuse());
    }
    number.parse().map_err(|_| refuse())
}

/// `90d`, `15m`, `1h30m`: never a bare number, whose unit would have to be guessed.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is no span of time such as 30s, 15m, 1h30m or 90d");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .filter(|at| *at > 0)
            .ok_or_else(refuse)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let &(_, seconds) = SPAN_UNITS
            .iter()
            .find(|(name, _)| *name == &rest[..letters])
            .ok_or_else(refuse)?;
        total = number
            .checked_mul(seconds)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(refuse)?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_secs(total))
}

/// A span in its two largest units.
pub(crate) fn show_span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, mib) in [
            ("512MiB", 512),
            ("4GiB", 4096),
            ("1.5GiB", 1536),
            ("2TiB", 2_097_152),
            ("1g", 1024),
            ("0MiB", 0),
            (" 7 mib ", 7),
            ("0.25GiB", 256),
        ] {
            assert_eq!(size_mib(text), Ok(mib), "{text}");
        }
        for text in [
            "",
            "4",
            "GiB",
            "4GB",
            "4KiB",
            "-4GiB",
            "0.3MiB",
            "1.2.3GiB",
            ".GiB",
            "4GiBs",
            "99999999999999999999GiB",
            "1e3GiB",
            "18446744073709551615TiB",
        ] {
            assert!(size_mib(text).is_err(), "{text}");
        }
        assert_eq!(size_gib("1TiB"), Ok(1024));
        assert!(size_gib("1.5GiB").is_err());
    }

    #[test]
    fn percentages() {
        assert_eq!(percent("50"), Ok(50.0));
        assert_eq!(percent("12.5%"), Ok(12.5));
        assert!(percent(&"9".repeat(309)).is_err());
        for text in ["", "%", "-1", "1e1", "nan", "inf", "0.00001", "1.", "half"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans() {
        for (text, seconds) in [
            ("30s", 30),
            ("15m", 900),
            ("1h30m", 5400),
            ("90d", 7_776_000),
            ("2w", 1_209_600),
        ] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "15",
            "m",
            "1.5h",
            "-3s",
            "3 m",
            "3y",
            "1h30",
            "99999999999999999w",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
        assert_eq!(show_span(Duration::from_secs(42)), "42s");
        assert_eq!(show_span(Duration::from_secs(90_061)), "1d1h");
    }

    proptest! {
        #[test]
        fn a_shown_size_reads_back(mib in 1_u64..1 << 50) {
            prop_assert_eq!(size_mib(&show_mib(mib)), Ok(mib));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            let _ = (size_mib(&text), size_gib(&text), percent(&text), span(&text));
        }

        #[test]
        fn spans_add_up(hours in 0_u64..1000, minutes in 0_u64..1000) {
            let expected = Duration::from_secs(hours * 3600 + minutes * 60);
            prop_assert_eq!(span(&format!("{hours}h{minutes}m")), Ok(expected));
        }
    }
}
