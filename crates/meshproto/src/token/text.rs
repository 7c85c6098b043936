//! The line that a token is: `allod-join-1.` and base64url of the root key, the URLs and the join key, each with its length, and
//! the first bytes of their SHA-256. The sum finds slips of the hand; it keeps nobody from making a token.

use super::{JoinToken, RootKey, TokenError, URL_LENGTH};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

pub(super) const BEGINNING: &str = "allod-join-";
const VERSION: &str = "1.";
const SUM: usize = 6;
/// More than the longest token there can be.
const MOST: usize = 2_048;

pub(super) fn write(token: &JoinToken) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(token.root().as_bytes().to_vec());
    bytes.push(u8::try_from(token.urls().len()).unwrap_or(u8::MAX));
    for part in token.urls().iter().map(String::as_str).chain([token.join_key()]) {
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(part.as_bytes());
    }
    let sum = sum(&bytes);
    bytes.extend_from_slice(&sum);
    let body = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
    Zeroizing::new([BEGINNING, VERSION, &body].concat())
}

pub(super) fn parse(line: &str) -> Result<JoinToken, TokenError> {
    let rest = line.strip_prefix(BEGINNING).ok_or(TokenError::NotAToken)?;
    let Some(body) = rest.strip_prefix(VERSION) else {
        let is_version = rest.split_once('.').is_some_and(|(version, _)| version.parse::<u32>().is_ok());
        return Err(if is_version { TokenError::Version } else { TokenError::NotAToken });
    };
    if body.len() > MOST {
        return Err(TokenError::Damaged);
    }
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Damaged)?);
    let (bytes, claimed) = bytes.split_last_chunk::<SUM>().ok_or(TokenError::Damaged)?;
    if sum(bytes) != *claimed {
        return Err(TokenError::Damaged);
    }
    let (root, rest) = bytes.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
    let (count, mut rest) = rest.split_first().ok_or(TokenError::Damaged)?;
    let mut urls = Vec::new();
    for _ in 0..*count {
        urls.push(part(&mut rest)?.to_owned());
    }
    let join_key = Zeroizing::new(part(&mut rest)?.to_owned());
    if !rest.is_empty() {
        return Err(TokenError::Damaged);
    }
    JoinToken::new(urls, RootKey::new(*root), join_key)
}

fn part<'b>(rest: &mut &'b [u8]) -> Result<&'b str, TokenError> {
    let (length, after) = rest.split_first().ok_or(TokenError::Damaged)?;
    let (part, after) = after.split_at_checked(usize::from(*length)).ok_or(TokenError::Damaged)?;
    *rest = after;
    std::str::from_utf8(part).map_err(|_| TokenError::Damaged)
}

fn sum(bytes: &[u8]) -> [u8; SUM] {
    digest(&SHA256, bytes).as_ref().first_chunk().copied().unwrap_or_default()
}

/// Scheme, host and perhaps a port: no user, path, query or fragment.
pub(super) fn is_url(url: &str) -> bool {
    let Some(authority) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return false;
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", after.strip_prefix(':').or_else(|| (!after.is_empty()).then_some("")))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let good_host = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && host.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    let good_port = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    url.len() <= URL_LENGTH && good_host && good_port
}
