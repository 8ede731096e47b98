//! Addresses as they are written in configurations and told to others.

use std::net::Ipv6Addr;

/// Whether `text` is `host:port`: a name or an address, IPv6 in brackets, and a port that is not 0.
pub fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_is_fine = match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
            !host.is_empty() && host.len() <= 253 && host.bytes().all(plain)
        }
    };
    host_is_fine && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port() {
        for good in ["10.0.0.1:8444", "[::1]:1", "controller-1.example:65535"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in [
            "",
            ":1",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "::1:1",
            "[a]:1",
            "a b:1",
            "http://a:1",
            "a/b:1",
        ] {
            assert!(!is_host_port(bad), "{bad}");
        }
    }
}
