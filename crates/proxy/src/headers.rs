//! Which requests are refused for their head, and which headers pass. Hop-by-hop headers end here (RFC 9110, 7.6.1), what
//! a client says about its own origin is believed only of trusted hops, and a name with `_` passes nobody, because many
//! programs can't tell it from one with `-`.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
        TE, TRANSFER_ENCODING, UPGRADE,
    },
};
use std::{borrow::Cow, net::IpAddr};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The host of a request without its port and final dot, lower-case; `None` only for HTTP/1.0 without one.
pub(crate) fn host_of<B>(request: &Request<B>) -> Result<Option<Cow<'_, str>>, &'static str> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err("the method is not for a reverse proxy");
    }
    if !request.uri().path().starts_with('/') {
        return Err("the target is not a path");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err("more than one Host header");
    }
    let header =
        header.map(|value| value.to_str().map_err(|_| "the Host header is malformed")).transpose()?;
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    let host = match (target, header) {
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            return Err("the target and the Host header name different hosts");
        }
        (_, Some(host)) | (Some(host), None) => host,
        (None, None) if request.version() == Version::HTTP_10 => return Ok(None),
        (None, None) => return Err("the Host header is missing"),
    };
    bare_host(host).map(Some).ok_or("the Host header is malformed")
}

fn bare_host(text: &str) -> Option<Cow<'_, str>> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (
                text.get(..address.len() + 2)?,
                if after.is_empty() { None } else { Some(after.strip_prefix(':')?) },
            )
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if port.is_some_and(|port| port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || host.len() > 253 || !(host.starts_with('[') || host.bytes().all(good)) {
        return None;
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(host.to_ascii_lowercase().into());
    }
    Some(host.into())
}

/// Whether the client asks to leave HTTP on this connection (RFC 9110, 7.8). Going to HTTP/2 that way is not offered.
pub(crate) fn wants_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().get(UPGRADE).is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && tokens(request.headers(), &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Takes off what belongs to this hop only. The upgrade pair is for the caller to put back.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // Naming these would change what the request is, not how it travels.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
}

/// Who sent a request, as the instance is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) ip: IpAddr,
    pub(crate) is_trusted: bool,
    pub(crate) scheme: &'static str,
}

/// Whether the body is chunked and nothing besides. Others are taken off nowhere on the way, so that the instance would
/// take the coded bytes for the body.
pub(crate) fn is_chunked_only(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let only = codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    only && codings.next().is_none()
}

/// Whether a hop says that the client spoke https with it.
pub(crate) fn was_https(headers: &HeaderMap) -> bool {
    headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Makes the client's headers into those that the instance gets. `host` is the authority as the client wrote it.
pub(crate) fn prepare(headers: &mut HeaderMap, sender: Sender, host: Option<HeaderValue>, ids: &RequestIds) {
    let takes_trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    remove_hop_by_hop(headers);
    headers.remove(EXPECT);
    remove_underscores(headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
    if let Some(host) = host {
        if !sender.is_trusted || !headers.contains_key(X_FORWARDED_HOST) {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        headers.insert(HOST, host);
    }
    if !sender.is_trusted {
        headers.remove(FORWARDED);
    }
    if !sender.is_trusted || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(sender.scheme));
    }
    let ip = sender.ip.to_canonical().to_string();
    let real_ip_is_known = sender.is_trusted && headers.contains_key(X_REAL_IP);
    let chain = match headers.get(X_FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        Some(before) if sender.is_trusted => format!("{before}, {ip}"),
        _ => ip.clone(),
    };
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    if !real_ip_is_known {
        headers.remove(X_REAL_IP);
    }
    if !headers.get(REQUEST_ID).is_some_and(is_request_id) {
        headers.insert(REQUEST_ID, ids.next());
    }
}

fn remove_underscores(headers: &mut HeaderMap) {
    let has_underscore = |name: &&HeaderName| memchr::memchr(b'_', name.as_str().as_bytes()).is_some();
    while let Some(name) = headers.keys().find(has_underscore).cloned() {
        headers.remove(name);
    }
}

/// HTTP/2 clients may send several cookie headers; HTTP/1.1 has one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// A client's own request id is kept if it can't confuse a log.
fn is_request_id(value: &HeaderValue) -> bool {
    (1..=128).contains(&value.len())
        && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:=/+".contains(b))
}

/// Makes request ids: unique among processes and workers by a random start, within one by counting.
#[derive(Debug)]
pub(crate) struct RequestIds {
    start: u64,
    count: std::cell::Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let random = || RandomState::new().hash_one(0_u8);
        Self { start: random(), count: std::cell::Cell::new(random()) }
    }

    fn next(&self) -> HeaderValue {
        let count = self.count.get().wrapping_add(1);
        self.count.set(count);
        let mut text = [0_u8; 32];
        write_hex(&mut text, (u128::from(self.start) << 64) | u128::from(count));
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none"))
    }
}

fn write_hex(text: &mut [u8; 32], number: u128) {
    for (at, byte) in text.iter_mut().rev().enumerate() {
        let nibble = (number >> (at * 4)) & 0xf;
        *byte = b"0123456789abcdef".get(usize::try_from(nibble).unwrap_or(0)).copied().unwrap_or(b'0');
    }
}

#[cfg(test)]
mod tests;
