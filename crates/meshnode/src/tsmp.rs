//! The one question of TSMP (IP protocol 99) that is answered: whether the tunnel is up. Stock clients ask it with `tailscale ping
//! --tsmp`; what else there is of it is passed over.

use crate::packet::Packet;
use std::net::IpAddr;

/// The protocol's number.
const TSMP: u8 = 99;
const PING: u8 = b'p';
const PONG: u8 = b'o';

/// The answer to a packet, if it is such a question: `o`, the eight bytes that came, and no port of a peer API. `header` is what was
/// read of the packet.
pub(crate) fn answer(packet: &[u8], header: &Packet) -> Option<Vec<u8>> {
    let start = if header.source.is_ipv4() { 20 } else { 40 };
    let [kind, mark @ ..] = *packet.get(start..)?.first_chunk::<9>()?;
    if header.protocol != TSMP || kind != PING {
        return None;
    }
    let mut answer = match (header.target, header.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut head = vec![0x45, 0, 0, 31, 0, 0, 0, 0, 64, TSMP, 0, 0];
            head.extend(from.octets().into_iter().chain(to.octets()));
            let sum = checksum(&head);
            head.splice(10..12, sum);
            head
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut head = vec![0x60, 0, 0, 0, 0, 11, TSMP, 64];
            head.extend(from.octets().into_iter().chain(to.octets()));
            head
        }
        _ => return None,
    };
    answer.push(PONG);
    answer.extend(mark);
    answer.extend([0, 0]);
    Some(answer)
}

/// Of an IPv4 head (RFC 1071).
fn checksum(head: &[u8]) -> [u8; 2] {
    let words = head
        .chunks_exact(2)
        .map(|pair| u32::from(pair.iter().fold(0_u16, |word, byte| (word << 8) | u16::from(*byte))));
    let sum = words.fold(0_u32, u32::saturating_add);
    let folded = (sum & 0xffff).saturating_add(sum >> 16);
    let folded = (folded & 0xffff).saturating_add(folded >> 16);
    let [_, _, high, low] = (!folded).to_be_bytes();
    [high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 100.64.0.2 to 100.64.0.1, as a stock client sends it.
    fn question(kind: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let length = u8::try_from(21 + rest.len()).unwrap();
        let mut packet =
            vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0, 100, 64, 0, 2, 100, 64, 0, 1, kind];
        packet.extend(rest);
        packet
    }

    fn answered(packet: &[u8]) -> Option<Vec<u8>> {
        answer(packet, &Packet::parse(packet).unwrap())
    }

    #[test]
    fn whatever_else_it_says_is_passed_over() {
        assert_eq!(answered(&question(b'o', TSMP, b"12345678")), None);
        assert_eq!(answered(&question(b'a', TSMP, &[7; 32])), None);
        assert_eq!(answered(&question(b'p', TSMP, b"1234567")), None);
        assert_eq!(answered(&question(b'p', 98, b"12345678")), None);
    }

    #[test]
    fn a_ping_is_answered_with_its_mark() {
        let reply = answered(&question(b'p', TSMP, b"12345678")).unwrap();
        let header = Packet::parse(&reply).unwrap();
        assert_eq!((header.source, header.target), ([100, 64, 0, 1].into(), [100, 64, 0, 2].into()));
        assert_eq!(&reply[20..], b"o12345678\0\0");
        // RFC 1071: over a head with its checksum, the checksum is zero.
        assert_eq!(checksum(&reply[..20]), [0, 0]);
    }

    #[test]
    fn over_ipv6_it_is_answered_too() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 9, TSMP, 64];
        packet.extend([0xfd; 16].into_iter().chain([0xfe; 16]));
        packet.extend(b"p12345678");
        let reply = answered(&packet).unwrap();
        assert_eq!(Packet::parse(&reply).unwrap().target, IpAddr::from([0xfd; 16]));
        assert_eq!(&reply[40..], b"o12345678\0\0");
    }
}
