//! Query strings: known keys only, each once, bounded.

use std::str::FromStr;

use axum::extract::Query as Decoded;
use axum::http::Uri;
use virtflow_types::{Error, PAGE_OBJECTS_DEFAULT, PAGE_OBJECTS_MAX};

/// Parameters of one request.
const PARAMETERS_MAX: usize = 32;

/// The parameters of a request, decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a URI's query.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Error> {
        let Decoded(pairs) = Decoded::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Error::invalid("query", error.to_string()))?;
        if pairs.len() > PARAMETERS_MAX {
            return Err(Error::invalid(
                "query",
                format!("at most {PARAMETERS_MAX} parameters are allowed"),
            ));
        }
        Ok(Self(pairs))
    }

    /// Refuses what the route does not know, and what stands twice.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Error> {
        for (at, (key, _)) in self.0.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                let problem = if known.is_empty() {
                    "is not known here: this path takes no parameters".to_owned()
                } else {
                    format!("is not known here; known are {}", known.join(", "))
                };
                return Err(Error::invalid(key.clone(), problem));
            }
            if self.0[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(Error::invalid(key.clone(), "stands twice"));
            }
        }
        Ok(())
    }

    /// A parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter as a typed value.
    pub(crate) fn parsed<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>, Error> {
        self.get(key)
            .map(|text| {
                text.parse().map_err(|_| {
                    let shown: String = text.chars().take(64).collect();
                    Error::invalid(key, format!("`{shown}` is not {expected}"))
                })
            })
            .transpose()
    }

    /// `limit`, within its bounds.
    pub(crate) fn limit(&self) -> Result<usize, Error> {
        let limit = self
            .parsed("limit", "a number")?
            .unwrap_or(PAGE_OBJECTS_DEFAULT);
        if (1..=PAGE_OBJECTS_MAX).contains(&limit) {
            Ok(limit)
        } else {
            Err(Error::invalid(
                "limit",
                format!("must be 1 to {PAGE_OBJECTS_MAX}, not {limit}"),
            ))
        }
    }

    /// A flag: `true` or `false`; absent is `false`.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Error> {
        Ok(self.parsed(key, "true or false")?.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, Error> {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn unknown_and_repeated_keys_are_refused() {
        let known = query("limit=5&label=a%3Db").unwrap();
        assert!(known.only(&["limit", "label"]).is_ok());
        assert_eq!(known.get("label"), Some("a=b"));
        let repeated = query("limit=5&limit=6").unwrap();
        assert_eq!(
            repeated.only(&["limit"]).unwrap_err().fields[0].problem,
            "stands twice"
        );
        let error = query("colour=red").unwrap().only(&["limit"]).unwrap_err();
        assert_eq!(error.fields[0].field, "colour");
    }

    #[test]
    fn the_limit_is_bounded() {
        assert_eq!(query("").unwrap().limit().unwrap(), PAGE_OBJECTS_DEFAULT);
        assert_eq!(query("limit=1000").unwrap().limit().unwrap(), 1000);
        for bad in ["0", "1001", "-1", "9223372036854775808", "ten", "1.5", ""] {
            assert!(
                query(&format!("limit={bad}")).unwrap().limit().is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn parameters_are_counted() {
        assert!(query(&"a=1&".repeat(PARAMETERS_MAX)).is_ok());
        assert!(query(&"a=1&".repeat(PARAMETERS_MAX + 1)).is_err());
    }
}
