//! Networks of IP addresses. No I/O.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::error::Error;

/// A network of IP addresses, such as `10.0.0.0/8` or `2001:db8::/32`.
///
/// An address alone is a network of one. Bits behind the prefix are ignored, and networks of IPv4 in
/// IPv6 (`::ffff:10.0.0.0/104`) are IPv4. An IPv6 network never contains an IPv4 address.
///
/// ```
/// use nano::Network;
///
/// let network: Network = "10.1.2.3/8".parse()?;
/// assert_eq!(network.to_string(), "10.0.0.0/8");
/// assert!(network.contains("10.9.9.9".parse().unwrap()));
/// assert!(network.contains("::ffff:10.9.9.9".parse().unwrap()));
/// # Ok::<(), nano::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The first address.
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the network contains an address. IPv4 in IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (first, last) = self.bounds();
        number(ip).is_some_and(|ip| (first..=last).contains(&ip))
            && ip.to_canonical().is_ipv4() == self.address.is_ipv4()
    }

    /// The first and the last address as numbers.
    fn bounds(&self) -> (u128, u128) {
        let first = number(self.address).unwrap_or_default();
        let free = width(self.address) - u32::from(self.prefix);
        // A shift by all 128 bits overflows.
        let rest = u128::MAX.checked_shr(128 - free).unwrap_or_default();
        (first, first | rest)
    }

    fn new(ip: IpAddr, prefix: u32) -> Option<Self> {
        let (ip, prefix) = match (ip, ip.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if prefix >= 96 => (v4, prefix - 96),
            _ => (ip, prefix),
        };
        let free = width(ip).checked_sub(prefix)?;
        let mask = u128::MAX.checked_shl(free).unwrap_or_default();
        let address = match ip {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask as u32)),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask)),
        };
        Some(Self {
            address,
            prefix: u8::try_from(prefix).ok()?,
        })
    }
}

/// The bits of an address.
fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// An address as a number within its family.
fn number(ip: IpAddr) -> Option<u128> {
    Some(match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    })
}

impl From<IpAddr> for Network {
    fn from(ip: IpAddr) -> Self {
        let address = ip.to_canonical();
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::bad_request(format!("not a network such as 10.0.0.0/8: {text:?}"));
        let Some((ip, prefix)) = text.split_once('/') else {
            return text.parse().map(IpAddr::into).map_err(|_| wrong());
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        if !prefix.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let prefix = prefix.parse().map_err(|_| wrong())?;
        Self::new(ip, prefix).ok_or_else(wrong)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Many networks, searched in logarithmic time.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkSet {
    networks: Vec<Network>,
    /// First and last address of each range, sorted, without overlaps.
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl NetworkSet {
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let ranges = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(ip) = number(ip) else {
            return false;
        };
        let after = ranges.partition_point(|(first, _)| *first <= ip);
        after > 0 && ip <= ranges[after - 1].1
    }

    pub(crate) fn networks(&self) -> &[Network] {
        &self.networks
    }
}

impl FromIterator<Network> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let mut networks: Vec<_> = networks.into_iter().collect();
        networks.sort_unstable();
        networks.dedup();
        let ranges = |v4: bool| {
            let of_family = networks.iter().filter(|it| it.address.is_ipv4() == v4);
            let mut merged: Vec<(u128, u128)> = Vec::new();
            for (first, last) in of_family.map(Network::bounds) {
                match merged.last_mut() {
                    Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
                    _ => merged.push((first, last)),
                }
            }
            merged
        };
        let (v4, v6) = (ranges(true), ranges(false));
        Self { networks, v4, v6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_one_canonical_form() {
        for (text, canonical) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("255.255.255.255/1", "128.0.0.0/1"),
            ("::/0", "::/0"),
            ("2001:db8:ffff::1/33", "2001:db8:8000::/33"),
            ("::1", "::1/128"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ] {
            assert_eq!(network(text).to_string(), canonical, "{text}");
        }
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "::/129",
            "/8",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "localhost",
            "10.0.0.0 /8",
            "10.0.0.0/٣",
            "[::1]/128",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/99999999999999999999",
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.message().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_set_contains_what_one_of_its_networks_does() {
        let texts = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "11.0.0.0/8",
            "192.168.1.7",
            "255.255.255.255",
            "2001:db8::/32",
            "::1",
            "fe80::/10",
        ];
        let set: NetworkSet = texts.into_iter().map(network).collect();
        for (text, contained) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.200.0.1", true),
            ("11.255.255.255", true),
            ("12.0.0.0", false),
            ("192.168.1.6", false),
            ("192.168.1.7", true),
            ("::ffff:192.168.1.7", true),
            ("192.168.1.8", false),
            ("255.255.255.255", true),
            ("2001:db8::", true),
            ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::2", false),
            ("febf::1", true),
            ("fec0::1", false),
        ] {
            assert_eq!(set.contains(ip(text)), contained, "{text}");
            let one_by_one = texts.iter().any(|it| network(it).contains(ip(text)));
            assert_eq!(one_by_one, contained, "{text}");
        }
        assert!(!NetworkSet::default().contains(ip("::1")));
    }

    #[test]
    fn all_of_one_family_is_nothing_of_the_other() {
        let v6: NetworkSet = [network("::/0")].into_iter().collect();
        let v4: NetworkSet = [network("0.0.0.0/0")].into_iter().collect();
        for (address, is_v4) in [
            ("1.2.3.4", true),
            ("0.0.0.0", true),
            ("::ffff:1.2.3.4", true),
            ("::1", false),
            ("::", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ] {
            assert_eq!(v4.contains(ip(address)), is_v4, "{address}");
            assert_eq!(v6.contains(ip(address)), !is_v4, "{address}");
            assert_eq!(network("::/0").contains(ip(address)), !is_v4, "{address}");
        }
    }
}
