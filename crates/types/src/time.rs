//! Moments on the wall clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment on the wall clock: milliseconds since 1970-01-01T00:00:00Z. RFC 3339 text on the wire.
///
/// A label for people and for lifetimes of days. What comes before what is told by the applied index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

#[cfg(not(virtflow_sim))]
fn clock_ms() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};

    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(virtflow_sim)]
use crate::simulated::clock_ms;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }
    /// Milliseconds since the Unix epoch.
    pub const fn ms(self) -> u64 {
        self.0
    }
    /// Reads the clock. Never called below the sequencer.
    pub fn now() -> Self {
        Self(clock_ms())
    }
    /// This moment plus `span`, saturating.
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }
    /// The month it is in, in UTC: `2026-11`.
    pub fn month(self) -> String {
        // The beginning of its text, which is as long as this for any year that a clock tells.
        self.to_string().chars().take(7).collect()
    }
    /// When its month began, in UTC.
    pub fn month_start(self) -> Self {
        self.first_of(|date| date.replace_day(1).ok())
    }
    /// When the month after it begins, in UTC. The end of time in the last year that there is.
    pub fn next_month(self) -> Self {
        self.first_of(|date| {
            let last = date.month().length(date.year());
            date.replace_day(last).ok()?.next_day()
        })
    }
    /// Midnight of a day that hangs on its own.
    fn first_of(self, day: impl FnOnce(time::Date) -> Option<time::Date>) -> Self {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        let first = OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|at| day(at.date()));
        let ms = first.and_then(|day| {
            let seconds = day.midnight().assume_utc().unix_timestamp();
            u64::try_from(seconds).ok()?.checked_mul(1000)
        });
        Self(ms.unwrap_or(u64::MAX))
    }
    /// Time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{}ms", self.0),
        }
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Timestamp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
            format!("`{text}` is not an RFC 3339 time such as 2026-11-23T18:00:00Z")
        })?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000)
            .map(Self)
            .map_err(|_| format!("`{text}` lies before 1970"))
    }
}
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339 in UTC, to the millisecond.",
        })
    }
}
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_round_trip() {
        let at = Timestamp::from_ms(1_795_456_800_123);
        assert_eq!(at.to_string(), "2026-11-23T18:00:00.123Z");
        assert_eq!("2026-11-23T18:00:00.123Z".parse(), Ok(at));
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert_eq!(at.since(at.plus(Duration::from_secs(1))), Duration::ZERO);
    }

    #[test]
    fn months_begin_at_midnight_of_their_first_day() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (moment, month, start, next) in [
            (
                "2026-11-23T18:00:00.123Z",
                "2026-11",
                "2026-11-01T00:00:00Z",
                "2026-12-01T00:00:00Z",
            ),
            (
                "2026-12-31T23:59:59.999Z",
                "2026-12",
                "2026-12-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                "2027-01-01T00:00:00Z",
                "2027-01",
                "2027-01-01T00:00:00Z",
                "2027-02-01T00:00:00Z",
            ),
            (
                "2028-02-29T12:00:00Z",
                "2028-02",
                "2028-02-01T00:00:00Z",
                "2028-03-01T00:00:00Z",
            ),
        ] {
            assert_eq!(at(moment).month(), month);
            assert_eq!(at(moment).month_start(), at(start), "{moment}");
            assert_eq!(at(moment).next_month(), at(next), "{moment}");
        }
        assert_eq!(Timestamp::EPOCH.month_start(), Timestamp::EPOCH);
        let end = Timestamp::from_ms(u64::MAX);
        assert_eq!(end.next_month(), end);
    }
}
