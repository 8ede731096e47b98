//! Where a controller's API is reached.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The port of the API where none is given.
const PORT_DEFAULT: u16 = 8443;
/// Endpoints taken from one answer.
const LEARNED_MAX: usize = 32;

/// `https://host:port` of a controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Text that names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no endpoint: write https://host:port")]
pub struct EndpointError(String);

impl Endpoint {
    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `https://host:port`; scheme and port may be left out, anything else may not follow.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refuse = || EndpointError(text.chars().take(128).collect());
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest,
            Some(_) => return Err(refuse()),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(refuse)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?;
                let port = after.strip_prefix(':');
                if port.is_none() && !after.is_empty() {
                    return Err(refuse());
                }
                (host, port)
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_host) {
            return Err(refuse());
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0),
            None => Some(PORT_DEFAULT),
        };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port: port.ok_or_else(refuse)?,
        })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;
    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}
impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// The controllers' endpoints that an answer tells: `endpoints` of a login or of `whoami`. What is no
/// endpoint is left out: an older client must survive a newer answer.
pub fn learned(data: &Value) -> Vec<Endpoint> {
    let told = data.get("endpoints").and_then(Value::as_array);
    let mut found = Vec::new();
    for endpoint in told.into_iter().flatten().take(LEARNED_MAX) {
        if let Some(endpoint) = endpoint.as_str().and_then(|text| text.parse().ok())
            && !found.contains(&endpoint)
        {
            found.push(endpoint);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_endpoint() {
        for (text, expected) in [
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
            ("https://C1.example.org:1/", "https://c1.example.org:1"),
            ("10.0.0.1:9000", "https://10.0.0.1:9000"),
            ("c1", "https://c1:8443"),
            ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
            ("[::1]", "https://[::1]:8443"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), expected, "{text}");
            assert_eq!(endpoint.to_string().parse(), Ok(endpoint), "{text}");
        }
        for text in [
            "",
            "http://10.0.0.1:8443",
            "https://",
            "https://10.0.0.1:0",
            "https://10.0.0.1:65536",
            "https://10.0.0.1:8443/api",
            "https://me:secret@10.0.0.1:8443",
            "https://[10.0.0.1]:8443",
            "https://[::1]8443",
            "fd00::1:2",
            "a b",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn endpoints_are_learned_once_each() {
        let data =
            serde_json::json!({"endpoints": ["10.0.0.1:8443", 7, "a b", "10.0.0.1:8443", "c2:1"]});
        let texts: Vec<String> = learned(&data).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["https://10.0.0.1:8443", "https://c2:1"]);
        assert!(learned(&Value::Null).is_empty());
    }
}
