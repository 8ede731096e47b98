//! Money and measured quantities: exact decimals, as text on the wire.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal as Inner;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

/// An exact decimal that is not negative, such as `0.0125`. Text on the wire: a JSON number would pass through
/// binary fractions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Decimal(Inner);

/// Digits after the point that a price and a quantity may have: with their bounds, the product of both fits
/// exactly.
const FRACTION_DIGITS_MAX: u32 = 6;

impl Decimal {
    /// The exact product; `None` if it has more digits than fit.
    #[must_use]
    pub fn times(self, other: Self) -> Option<Self> {
        // The library's own product rounds what does not fit.
        let mantissa = self.0.mantissa().checked_mul(other.0.mantissa())?;
        let scale = self.0.scale() + other.0.scale();
        let product = Inner::try_from_i128_with_scale(mantissa, scale).ok()?;
        Some(Self(product.normalize()))
    }

    /// `numerator / denominator` as a quantity, rounded down to a millionth; `None` if it does not fit, or if the
    /// denominator is zero.
    #[must_use]
    pub fn ratio(numerator: u128, denominator: u128) -> Option<Self> {
        let millionths = numerator.checked_mul(1_000_000)?.checked_div(denominator)?;
        let mantissa = i128::try_from(millionths).ok()?;
        let value = Inner::try_from_i128_with_scale(mantissa, FRACTION_DIGITS_MAX).ok()?;
        Some(Self(value.normalize()))
    }

    /// The exact sum; `None` if it has more digits than fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let scale = self.0.scale().max(other.0.scale());
        let at_scale = |value: Inner| {
            let factor = 10_i128.checked_pow(scale - value.scale())?;
            value.mantissa().checked_mul(factor)
        };
        let mantissa = at_scale(self.0)?.checked_add(at_scale(other.0)?)?;
        let sum = Inner::try_from_i128_with_scale(mantissa, scale).ok()?;
        Some(Self(sum.normalize()))
    }

    /// True for nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Refuses what has too many digits after the point, or is not below `10^digits`.
    pub fn check(self, field: &str, digits: u32) -> Result<(), Invalid> {
        if self.0.scale() > FRACTION_DIGITS_MAX {
            let problem = format!("has more than {FRACTION_DIGITS_MAX} digits after the point");
            return Err(Invalid::new(field, problem));
        }
        if self.0 >= Inner::from(10_u64.saturating_pow(digits)) {
            let problem = format!("has more than {digits} digits before the point");
            return Err(Invalid::new(field, problem));
        }
        Ok(())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Decimal {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is no decimal such as 0.0125 with at most 28 digits");
        let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !digits || text.len() > 40 {
            return Err(refused());
        }
        Inner::from_str_exact(text)
            .map(|value| Self(value.normalize()))
            .map_err(|_| refused())
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]+)?$",
            "description": "An exact decimal as text.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn the_largest_price_times_the_largest_quantity_is_exact() {
        let price = decimal("9999999.999999");
        let quantity = decimal("999999999.999999");
        price.check("amount", 7).unwrap();
        quantity.check("quantity", 9).unwrap();
        let exact = 9_999_999_999_999_i128 * 999_999_999_999_999;
        let text = format!(
            "{}.{:012}",
            exact / 1_000_000_000_000,
            exact % 1_000_000_000_000
        );
        assert_eq!(price.times(quantity).unwrap().to_string(), text);
        assert_eq!(decimal("0.1").times(decimal("0.2")), Some(decimal("0.02")));
        assert_eq!(decimal("0").times(decimal("0.2")), Some(decimal("0")));
    }

    #[test]
    fn a_ratio_is_rounded_down_to_a_millionth_and_a_sum_is_exact() {
        assert_eq!(Decimal::ratio(1, 3), Some(decimal("0.333333")));
        assert_eq!(Decimal::ratio(2, 3), Some(decimal("0.666666")));
        assert_eq!(Decimal::ratio(5400, 3600), Some(decimal("1.5")));
        assert_eq!(Decimal::ratio(1, 10_000_000), Some(decimal("0")));
        assert_eq!(Decimal::ratio(1, 0), None);
        assert_eq!(Decimal::ratio(u128::MAX, 1), None);
        let sum = decimal("0.1").plus(decimal("0.25"));
        assert_eq!(sum, Some(decimal("0.35")));
        assert_eq!(
            decimal("1").plus(decimal("0.000001")),
            Some(decimal("1.000001"))
        );
        let large = decimal("9999999999999999999999999999");
        assert_eq!(large.plus(decimal("0.1")), None, "it would be rounded");
    }

    #[test]
    fn a_product_that_does_not_fit_is_none_and_not_rounded() {
        let fine = decimal("0.0000000000000001234567890123");
        assert_eq!(fine.times(fine), None);
        let large = decimal("9999999999999999999999999999");
        assert_eq!(large.times(large), None);
    }

    #[test]
    fn only_plain_text_is_a_decimal() {
        for text in ["", "-1", "+1", "1e3", "1_000", "1,5", "1.2.3", "NaN", "."] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Decimal>("1.5").is_err(), "a number");
        assert_eq!(decimal("1.50").to_string(), "1.5");
        assert!(decimal("0.0000001").check("amount", 7).is_err());
        assert!(decimal("10000000").check("amount", 7).is_err());
    }
}
