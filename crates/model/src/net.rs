//! Addresses and blocks of them: one form in text, and one fixed length in bytes, so that ranges of both
//! families compare as bytes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The IPv6 block that IPv4 addresses are mapped into.
const MAPPED: u128 = 0xffff << 32;

/// An IPv4 or IPv6 address. An IPv4 address has one form only: its IPv6-mapped one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(IpAddr);

impl Address {
    /// An IPv4 address.
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    }
    /// As the number that it is in IPv6; IPv4 as `::ffff:a.b.c.d`.
    pub fn number(self) -> u128 {
        match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }
    /// The address with that number.
    pub fn from_number(number: u128) -> Self {
        Self(Ipv6Addr::from_bits(number).to_canonical())
    }
    /// Sixteen bytes whose order is the order of the addresses.
    pub fn bytes(self) -> [u8; 16] {
        self.number().to_be_bytes()
    }
    /// True for IPv4.
    pub const fn is_v4(self) -> bool {
        self.0.is_ipv4()
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Address {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number().cmp(&other.number())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("`{text}` is no address such as 10.1.0.7 or 2001:db8::7"))?;
        match address {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(format!(
                "`{text}` is an IPv4 address within IPv6: write it as {}",
                v6.to_canonical()
            )),
            plain => Ok(Self(plain)),
        }
    }
}

/// A block of addresses, written with its first one: `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// The IPv4 block of that prefix (at most 32 bits) around an address.
    pub fn v4(octets: [u8; 4], prefix: u8) -> Self {
        let block = Ipv4Net::new(octets.into(), prefix.min(32)).unwrap_or_default();
        Self(IpNet::V4(block.trunc()))
    }
    /// The lowest address.
    pub fn first(self) -> Address {
        Address(self.0.network())
    }
    /// The highest address.
    pub fn last(self) -> Address {
        Address(self.0.broadcast())
    }
    /// True if the address lies within it.
    pub fn contains(self, address: Address) -> bool {
        self.0.contains(&address.0)
    }
    /// True if the other lies within it, whole.
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }
    /// The addresses that no machine may have: that of the network itself, and in IPv4 that for all of its
    /// machines. Blocks of one or two addresses have none.
    pub fn special(self) -> Vec<Address> {
        let host_bits = self.0.max_prefix_len() - self.0.prefix_len();
        match (host_bits, self.0) {
            (0 | 1, _) => Vec::new(),
            (_, IpNet::V4(_)) => vec![self.first(), self.last()],
            (_, IpNet::V6(_)) => vec![self.first()],
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let block: IpNet = text
            .parse()
            .map_err(|_| format!("`{text}` is no block such as 10.1.0.0/16 or 2001:db8::/48"))?;
        if block != block.trunc() {
            return Err(format!(
                "`{text}` has bits behind its prefix: the block is written as {}",
                block.trunc()
            ));
        }
        if let IpNet::V6(v6) = block
            && v6.network().to_bits() <= MAPPED + u128::from(u32::MAX)
            && v6.broadcast().to_bits() >= MAPPED
        {
            return Err(format!(
                "`{text}` holds IPv4 addresses within IPv6: write an IPv4 block"
            ));
        }
        Ok(Self(block))
    }
}

macro_rules! as_text {
    ($ty:ident, $schema:tt) => {
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(d)?;
                text.parse().map_err(de::Error::custom)
            }
        }
        impl JsonSchema for $ty {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($ty).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

as_text!(Address, {
    "type": "string",
    "description": "An IPv4 or IPv6 address.",
    "examples": ["10.1.0.7", "2001:db8::7"],
});
as_text!(Cidr, {
    "type": "string",
    "description": "A block of IPv4 or IPv6 addresses, written with its first one and the length of its prefix.",
    "examples": ["10.1.0.0/16", "2001:db8::/48"],
});

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn the_bytes_of_both_families_have_one_length_and_the_order_of_the_addresses() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 0, 7];
        assert_eq!(address("10.1.0.7").bytes(), mapped);
        let mut doc = [0; 16];
        (doc[0], doc[1], doc[2], doc[3], doc[15]) = (0x20, 0x01, 0x0d, 0xb8, 7);
        assert_eq!(address("2001:db8::7").bytes(), doc);
        let rising = [
            "9.255.255.255",
            "10.0.0.0",
            "10.0.1.0",
            "2001:db8::1",
            "2001:db8::ff",
        ];
        for pair in rising.windows(2) {
            let [low, high] = [address(pair[0]), address(pair[1])];
            assert!(low < high && low.bytes() < high.bytes(), "{pair:?}");
        }
        for text in rising {
            let there = address(text);
            assert_eq!(Address::from_number(there.number()).to_string(), text);
        }
    }

    #[test]
    fn what_is_written_in_two_ways_is_taken_in_one() {
        let told = |text: &str| text.parse::<Address>().unwrap_err();
        assert!(told("::ffff:10.0.0.1").contains("write it as 10.0.0.1"));
        assert!(told("10.0.0").contains("no address"));
        let told = |text: &str| text.parse::<Cidr>().unwrap_err();
        assert!(told("10.0.0.5/24").contains("10.0.0.0/24"));
        assert!(told("10.0.0.0").contains("no block"));
        assert!(told("::/0").contains("IPv4"));
        assert!(told("::ffff:a00:0/104").contains("IPv4"));
        assert!("2001:db8::/48".parse::<Cidr>().is_ok());
    }

    #[test]
    fn special_addresses_are_those_of_the_network_and_of_all() {
        let of = |text: &str| {
            let cidr: Cidr = text.parse().unwrap();
            cidr.special()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("10.0.0.0/24"), ["10.0.0.0", "10.0.0.255"]);
        assert_eq!(of("10.0.0.0/30"), ["10.0.0.0", "10.0.0.3"]);
        assert_eq!(of("10.0.0.0/31"), [] as [&str; 0]);
        assert_eq!(of("10.0.0.1/32"), [] as [&str; 0]);
        assert_eq!(of("2001:db8::/64"), ["2001:db8::"]);
    }

    #[test]
    fn a_block_covers_what_lies_within_it_whole() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let whole = cidr("10.0.0.0/16");
        assert!(whole.covers(cidr("10.0.255.0/24")) && whole.covers(whole));
        assert!(!whole.covers(cidr("10.1.0.0/24")) && !whole.covers(cidr("10.0.0.0/8")));
        assert!(!whole.covers(cidr("2001:db8::/64")));
        assert!(whole.contains(address("10.0.0.0")) && !whole.contains(address("10.1.0.0")));
        assert_eq!(
            (whole.first(), whole.last()),
            (address("10.0.0.0"), address("10.0.255.255"))
        );
    }
}
