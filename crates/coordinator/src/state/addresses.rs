//! Addresses are counted off, and the count never goes back: an address that was given is never given again. Left out are those
//! that clients use themselves: 100.100.0.0/24 and 100.100.100.0/24 (the resolver of MagicDNS), 100.115.92.0/23 (ChromeOS).

use std::net::{Ipv4Addr, Ipv6Addr};

const V4: u32 = u32::from_be_bytes([100, 64, 0, 0]);
const V4_COUNT: u32 = 1 << 22;
const V6: u128 = 0xfd7a_115c_a1e0_0000 << 64;
/// Where nodes' IPv6 addresses begin: past those that clients use themselves (`::53` is the resolver).
const V6_FIRST: u128 = 1 << 32;

/// The addresses of the first count from `from` on that has any, and the count after it.
pub(super) fn next(from: u32) -> Option<(Ipv4Addr, Ipv6Addr, u32)> {
    let mut count = from.max(1);
    while is_left_out(count) {
        count = count.checked_add(1)?;
    }
    if count >= V4_COUNT {
        return None;
    }
    let v6 = V6.checked_add(V6_FIRST)?.checked_add(count.into())?;
    Some((V4.checked_add(count)?.into(), v6.into(), count.checked_add(1)?))
}

fn is_left_out(count: u32) -> bool {
    let [_, second, third, fourth] = V4.saturating_add(count).to_be_bytes();
    let ends = fourth == 0 || fourth == 255;
    ends || (second == 100 && (third == 0 || third == 100)) || (second == 115 && (third == 92 || third == 93))
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_meshproto::Prefix;

    #[test]
    fn none_is_given_past_the_end() {
        assert_eq!(next(V4_COUNT), None);
        assert_eq!(next(u32::MAX), None);
        assert_eq!(next(V4_COUNT - 1), None, "the last one ends with 255");
    }

    #[test]
    fn none_is_given_twice_and_all_are_in_the_networks_own_range() {
        let (mesh4, mesh6): (Prefix, Prefix) =
            ("100.64.0.0/10".parse().unwrap(), "fd7a:115c:a1e0::/48".parse().unwrap());
        let mut before: Option<(Ipv4Addr, Ipv6Addr)> = None;
        let mut count = 0;
        for _ in 0..100_000 {
            let (v4, v6, after) = next(count).unwrap();
            assert!(mesh4.contains(v4.into()) && mesh6.contains(v6.into()));
            assert!(before.is_none_or(|(former4, former6)| former4 < v4 && former6 < v6));
            (before, count) = (Some((v4, v6)), after);
        }
        assert_eq!(next(0).unwrap().0, Ipv4Addr::new(100, 64, 0, 1));
    }

    #[test]
    fn what_clients_use_themselves_is_left_out() {
        let resolver = u32::from(Ipv4Addr::new(100, 100, 100, 100)) - V4;
        assert_eq!(next(resolver).unwrap().0, Ipv4Addr::new(100, 100, 101, 1));
        let chrome = u32::from(Ipv4Addr::new(100, 115, 92, 1)) - V4;
        assert_eq!(next(chrome).unwrap().0, Ipv4Addr::new(100, 115, 94, 1));
    }
}
