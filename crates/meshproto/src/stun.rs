//! STUN (RFC 8489), so far as a mesh needs it: a binding request and its answer, both ends.
//!
//! Stock servers (derper, Headscale) answer only requests that end as theirs do, with SOFTWARE `tailnode` and a FINGERPRINT. A server
//! of ours answers plain ones too. A dual-stack server may write IPv4 as a mapped IPv6 address; it is read as IPv4.

use crate::limits;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const HEAD: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const SOFTWARE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const NAME: &[u8; 8] = b"tailnode";
/// Head, SOFTWARE, FINGERPRINT.
const REQUEST: usize = HEAD + 12 + 8;

/// Twelve random bytes that tie an answer to its request.
pub type Transaction = [u8; 12];

/// Why a datagram is not the message that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// It is not STUN, or STUN of another kind.
    #[error("not a message of STUN of this kind")]
    NotStun,
    /// Its attributes do not fit into it, or its length is not its own.
    #[error("a broken message of STUN")]
    Broken,
    /// Its FINGERPRINT is wrong, or not the last attribute.
    #[error("a message of STUN with a wrong fingerprint")]
    Fingerprint,
    /// An answer without an address.
    #[error("an answer of STUN without an address")]
    NoAddress,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// That of the request. Whoever does not compare it believes anybody.
    pub transaction: Transaction,
    /// Where the request came from, as the server saw it.
    pub source: SocketAddr,
}

/// Whether a datagram is STUN rather than disco or WireGuard.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first_chunk::<HEAD>(), Some([0..=0x3f, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..]))
}

/// A request that every server answers.
#[must_use]
pub fn request(transaction: Transaction) -> Vec<u8> {
    let mut bytes = head(BINDING_REQUEST, REQUEST, transaction);
    bytes.extend(SOFTWARE.to_be_bytes());
    bytes.extend([0, 8]);
    bytes.extend(NAME);
    let fingerprint = crc32(&bytes) ^ FINGERPRINT_XOR;
    bytes.extend(FINGERPRINT.to_be_bytes());
    bytes.extend([0, 4]);
    bytes.extend(fingerprint.to_be_bytes());
    bytes
}

/// Reads a request, with FINGERPRINT or without.
pub fn read_request(datagram: &[u8]) -> Result<Transaction, StunError> {
    read(datagram, BINDING_REQUEST, |_, _| {})
}

/// The answer: XOR-MAPPED-ADDRESS, IPv4 as family 1 also when the socket says it as a mapped address. Never longer than 44 bytes,
/// so a forged source gets no more than the 40 that a stock request has, and four.
#[must_use]
pub fn answer(transaction: Transaction, source: SocketAddr) -> Vec<u8> {
    let port = (source.port() ^ u16::from_be_bytes([0x21, 0x12])).to_be_bytes();
    let ip: Vec<u8> = match source.ip().to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let family = if ip.len() == 4 { 1 } else { 2 };
    let value = 4_usize.saturating_add(ip.len());
    let mut bytes = head(BINDING_SUCCESS, HEAD.saturating_add(4).saturating_add(value), transaction);
    bytes.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    bytes.extend(u16::try_from(value).unwrap_or_default().to_be_bytes());
    bytes.extend([0, family]);
    bytes.extend(port);
    bytes.extend(ip.iter().zip(mask(transaction)).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Reads an answer.
pub fn read_answer(datagram: &[u8]) -> Result<Answer, StunError> {
    let (mut plain, mut xored) = (None, None);
    let transaction = read(datagram, BINDING_SUCCESS, |kind, value| match kind {
        XOR_MAPPED_ADDRESS => xored = xored.or(Some(value)),
        MAPPED_ADDRESS => plain = plain.or(Some(value)),
        _ => {}
    })?;
    let source = match (xored, plain) {
        (Some(value), _) => address(value, mask(transaction)),
        (None, Some(value)) => address(value, [0; 16]),
        (None, None) => None,
    };
    source.map(|source| Answer { transaction, source }).ok_or(StunError::NoAddress)
}

fn head(kind: [u8; 2], length: usize, transaction: Transaction) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(kind);
    bytes.extend(u16::try_from(length.saturating_sub(HEAD)).unwrap_or_default().to_be_bytes());
    bytes.extend(COOKIE);
    bytes.extend(transaction);
    bytes
}

/// Reads the head and hands over each attribute.
fn read<'a>(
    datagram: &'a [u8],
    kind: [u8; 2],
    mut attribute: impl FnMut(u16, &'a [u8]),
) -> Result<Transaction, StunError> {
    let (head, mut rest) = datagram.split_first_chunk::<HEAD>().ok_or(StunError::NotStun)?;
    let [k1, k2, l1, l2, c1, c2, c3, c4, transaction @ ..] = *head;
    if [k1, k2] != kind || [c1, c2, c3, c4] != COOKIE || datagram.len() > limits::STUN_MESSAGE {
        return Err(StunError::NotStun);
    }
    if usize::from(u16::from_be_bytes([l1, l2])) != rest.len() {
        return Err(StunError::Broken);
    }
    while let Some(([t1, t2, l1, l2], body)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*l1, *l2]));
        let value = body.get(..length).ok_or(StunError::Broken)?;
        let kind = u16::from_be_bytes([*t1, *t2]);
        if kind == FINGERPRINT {
            let before = datagram.len().saturating_sub(rest.len());
            check_fingerprint(datagram.get(..before).unwrap_or_default(), body)?;
        }
        attribute(kind, value);
        rest = body.get(length.next_multiple_of(4)..).ok_or(StunError::Broken)?;
    }
    if rest.is_empty() { Ok(transaction) } else { Err(StunError::Broken) }
}

/// It covers all before it and is the last attribute: what follows its head is its four bytes and nothing else.
fn check_fingerprint(before: &[u8], body: &[u8]) -> Result<(), StunError> {
    let told: [u8; 4] = body.try_into().map_err(|_| StunError::Fingerprint)?;
    let right = crc32(before) ^ FINGERPRINT_XOR;
    if u32::from_be_bytes(told) == right { Ok(()) } else { Err(StunError::Fingerprint) }
}

fn mask(transaction: Transaction) -> [u8; 16] {
    let mut mask = [0; 16];
    mask.iter_mut().zip(COOKIE.into_iter().chain(transaction)).for_each(|(to, from)| *to = from);
    mask
}

fn address(value: &[u8], mask: [u8; 16]) -> Option<SocketAddr> {
    let ([_, family, p1, p2], ip) = value.split_first_chunk::<4>()?;
    let [m1, m2, ..] = mask;
    let port = u16::from_be_bytes([p1 ^ m1, p2 ^ m2]);
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(ip.iter().zip(mask)).for_each(|(to, (byte, mask))| *to = byte ^ mask);
    let ip = match (family, ip.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk()?)),
        (2, 16) => Ipv6Addr::from(bytes).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// CRC-32 as in ITU V.42, of a few dozen bytes: a table would be longer than what it saves.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: Transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn hex(text: &str) -> Vec<u8> {
        let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        text.split_whitespace().flat_map(|word| word.as_bytes().chunks(2).map(digit)).collect()
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        let good = request(ID);
        assert_eq!(read_request(&good), Ok(ID));
        for end in 0..good.len() {
            assert!(read_request(&good[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(read_request(&answer(ID, "192.0.2.1:9".parse().unwrap())), Err(StunError::NotStun));
        let mut long = good.clone();
        long.resize(limits::STUN_MESSAGE + 1, 0);
        assert_eq!(read_request(&long), Err(StunError::NotStun));
    }

    #[test]
    fn a_byte_that_was_changed_breaks_the_fingerprint() {
        let good = request(ID);
        // But for the two that say that there is one: without it, this is a plain request.
        for at in (0..good.len()).filter(|at| !(32..34).contains(at)) {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(read_request(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_plain_request_is_answered_too() {
        assert_eq!(read_request(&head(BINDING_REQUEST, HEAD, ID)), Ok(ID));
    }

    #[test]
    fn a_request_has_the_bytes_that_stock_servers_want() {
        let bytes = request(ID);
        assert_eq!(bytes.len(), REQUEST);
        assert_eq!(bytes[..8], [0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(bytes[20..32], *b"\x80\x22\x00\x08tailnode");
        assert_eq!(bytes[32..36], [0x80, 0x28, 0, 4]);
    }

    #[test]
    fn the_checksum_is_that_of_its_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_answers_of_rfc_5769_are_read() {
        // Sections 2.2 and 2.3, without the integrity and fingerprint that follow the address.
        let v4 = hex("0101 0024 2112a442 b7e7a701bc34d686fa87dfae
             8022 000b 7465737420766563746f7220
             0020 0008 0001 a147 e112a643");
        let mut v4 = v4;
        let length = u16::try_from(v4.len() - HEAD).unwrap().to_be_bytes();
        v4[2..4].copy_from_slice(&length);
        let read = read_answer(&v4).unwrap();
        assert_eq!(read, Answer { transaction: ID, source: "192.0.2.1:32853".parse().unwrap() });
        let v6 = hex("0101 0018 2112a442 b7e7a701bc34d686fa87dfae
             0020 0014 0002 a147 0113a9faa5d3f179bc25f4b5bed2b9d9");
        let source = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(read_answer(&v6).unwrap().source, source);
    }

    #[test]
    fn a_mapped_address_is_ipv4_both_ways() {
        let mapped: SocketAddr = "[::ffff:203.0.113.9]:41641".parse().unwrap();
        let plain: SocketAddr = "203.0.113.9:41641".parse().unwrap();
        assert_eq!(answer(ID, mapped), answer(ID, plain));
        assert_eq!(answer(ID, mapped).get(20..26), Some(&[0, 0x20, 0, 8, 0, 1][..]));
        // As a dual-stack server writes it.
        let mut bytes = head(BINDING_SUCCESS, HEAD + 24, ID);
        bytes.extend([0, 0x20, 0, 20, 0, 2]);
        bytes.extend((41641_u16 ^ 0x2112).to_be_bytes());
        let ip = Ipv4Addr::new(203, 0, 113, 9).to_ipv6_mapped().octets();
        bytes.extend(ip.iter().zip(mask(ID)).map(|(byte, mask)| byte ^ mask));
        assert_eq!(read_answer(&bytes).unwrap().source, plain);
    }

    #[test]
    fn an_answer_without_an_address_is_refused() {
        assert_eq!(read_answer(&head(BINDING_SUCCESS, HEAD, ID)), Err(StunError::NoAddress));
        for value in [&[0, 1, 0, 0, 1, 2, 3][..], &[0, 2, 0, 0, 1, 2, 3, 4], &[0, 3, 0, 0], &[]] {
            let padded = value.len().next_multiple_of(4);
            let mut bytes = head(BINDING_SUCCESS, HEAD + 4 + padded, ID);
            bytes.extend([0, 0x20, 0, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value);
            bytes.resize(HEAD + 4 + padded, 0);
            assert_eq!(read_answer(&bytes), Err(StunError::NoAddress), "{value:?}");
        }
    }

    #[test]
    fn stun_is_told_from_what_shares_its_socket() {
        assert!(is_stun(&request(ID)));
        assert!(!is_stun(b"TS\xf0\x9f\x92\xac and a disco message behind it"));
        assert!(!is_stun(&[4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn what_is_answered_is_what_is_read(id in any::<[u8; 12]>(), ip in any::<[u8; 16]>(), port in any::<u16>()) {
            let source = SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port);
            let bytes = answer(id, source);
            prop_assert!(bytes.len() <= 44 && is_stun(&bytes));
            prop_assert_eq!(read_answer(&bytes), Ok(Answer { transaction: id, source }));
        }

        #[test]
        fn no_bytes_are_a_panic(kind in 0..2_u8, body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let kind = if kind == 0 { BINDING_REQUEST } else { BINDING_SUCCESS };
            let mut bytes = head(kind, HEAD + body.len(), ID);
            bytes.extend(&body);
            let _ = (read_request(&bytes), read_answer(&bytes), read_answer(&body), is_stun(&body));
        }
    }
}
