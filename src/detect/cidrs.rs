//! Sets of networks. Public block lists have ten thousand entries, nearly all of one length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ahash::AHashSet;
use ipnet::IpNet;

/// Networks, one hash set per prefix length: a look-up costs the number of *lengths*.
#[derive(Debug, Default)]
pub struct CidrSet {
    v4: Vec<(u8, AHashSet<u32>)>,
    v6: Vec<(u8, AHashSet<u128>)>,
}

impl CidrSet {
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(super) fn insert(&mut self, net: IpNet) {
        match net.trunc() {
            IpNet::V4(net) => add(&mut self.v4, net.prefix_len(), net.addr().to_bits()),
            IpNet::V6(net) => add(&mut self.v6, net.prefix_len(), net.addr().to_bits()),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.contains_v4(address),
            IpAddr::V6(address) => self.contains_v6(address),
        }
    }

    fn contains_v4(&self, address: Ipv4Addr) -> bool {
        let bits = address.to_bits();
        let masked = |length: u8| bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        self.v4.iter().any(|(length, nets)| nets.contains(&masked(*length)))
    }

    fn contains_v6(&self, address: Ipv6Addr) -> bool {
        let bits = address.to_bits();
        let masked =
            |length: u8| bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        self.v6.iter().any(|(length, nets)| nets.contains(&masked(*length)))
    }
}

fn add<T: Eq + std::hash::Hash>(sets: &mut Vec<(u8, AHashSet<T>)>, length: u8, bits: T) {
    match sets.iter_mut().find(|(each, _)| *each == length) {
        Some((_, nets)) => {
            nets.insert(bits);
        }
        None => sets.push((length, AHashSet::from([bits]))),
    }
}

/// A network, or one address. IPv4-mapped IPv6 is IPv4, as in events.
pub(super) fn read_net(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let net: IpNet = text.parse().map_err(|_| {
        let text = super::words::clip(text);
        format!("expected an address or a network (10.0.0.0/8, fd00::/8), found `{text}`")
    })?;
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
    {
        return IpNet::new(v4.into(), length).map_err(|error| error.to_string());
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_from_none_to_all() {
        let mut set = CidrSet::default();
        for net in ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1", "::ffff:198.51.100.0/120"] {
            set.insert(read_net(net).expect("a network"));
        }
        let has = |text: &str| set.contains(text.parse().expect("an address"));
        assert!(has("10.255.0.1") && has("192.0.2.7") && has("2001:db8:1::9") && has("::1"));
        assert!(has("::ffff:10.0.0.1") && has("198.51.100.200"));
        assert!(!has("11.0.0.1") && !has("192.0.2.8") && !has("2001:db9::") && !has("::2"));
        let mut all = CidrSet::default();
        all.insert(read_net("0.0.0.0/0").expect("a network"));
        assert!(all.contains("8.8.8.8".parse().expect("an address")));
        assert!(!all.contains("::1".parse().expect("an address")));
    }
}
