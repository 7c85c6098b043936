//! How Go writes what JSON has no word for: times, addresses with ports, bytes. For `#[serde(with = …)]`.

use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// Whether Go's `omitempty` leaves it out.
pub(crate) fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A text that may be null.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    Option::deserialize(deserializer)
}

/// `time.Time` in RFC 3339; the year 1 is "never", `None`. A time before 1970 reads as 1970.
pub mod time {
    use allod_proto::Timestamp;
    use serde::{Deserializer, Serializer, de, ser};

    const NEVER: &str = "0001-01-01T00:00:00Z";
    const NEVER_SECONDS: i64 = -62_135_596_800;

    /// Writes it.
    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(Timestamp(milliseconds)) = *time else { return serializer.serialize_str(NEVER) };
        let time = i64::try_from(milliseconds).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let time = time.ok_or_else(|| ser::Error::custom("a time past the year 9999"))?;
        serializer.collect_str(&time)
    }

    /// Reads it; null is "never" too.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = super::text(deserializer)? else { return Ok(None) };
        let time = parse(&text).ok_or_else(|| de::Error::custom("not a time of RFC 3339"))?;
        if time.as_second() == NEVER_SECONDS && time.subsec_nanosecond() == 0 {
            return Ok(None);
        }
        Ok(Some(Timestamp(u64::try_from(time.as_millisecond()).unwrap_or(0))))
    }

    /// The last hours of the year 9999 are past what can be counted here, and stand for "as late as can be".
    fn parse(text: &str) -> Option<jiff::Timestamp> {
        let last = || {
            let time: jiff::civil::DateTime = text.strip_suffix('Z')?.parse().ok()?;
            (time.year() == 9999).then_some(jiff::Timestamp::MAX)
        };
        text.parse().ok().or_else(last)
    }
}

/// `[]netip.AddrPort`: `203.0.113.9:41641`, `[2001:db8::1]:41641`. A zone is left out, an empty text too.
pub mod endpoints {
    use super::one_endpoint;
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::{borrow::Cow, net::SocketAddr};

    /// Writes them.
    pub fn serialize<S: Serializer>(all: &[SocketAddr], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(ToString::to_string))
    }

    /// Reads them; one that is no address refuses the message, as in Go.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
        let texts: Vec<Cow<'de, str>> = Vec::deserialize(deserializer)?;
        let kept = texts.iter().filter(|text| !text.is_empty());
        kept.map(|text| one_endpoint(text).ok_or_else(|| de::Error::custom("not an address with a port")))
            .collect()
    }
}

/// As [`endpoints`], where absence means "unchanged".
pub mod maybe_endpoints {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::net::SocketAddr;

    /// Writes them.
    pub fn serialize<S: Serializer>(all: &Option<Vec<SocketAddr>>, serializer: S) -> Result<S::Ok, S::Error> {
        super::endpoints::serialize(all.as_deref().unwrap_or_default(), serializer)
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<SocketAddr>>, D::Error> {
        #[derive(Deserialize)]
        struct All(#[serde(with = "super::endpoints")] Vec<SocketAddr>);
        Ok(Option::<All>::deserialize(d)?.map(|All(all)| all))
    }
}

/// `[]netip.Prefix`; an empty text is left out.
pub mod prefixes {
    use crate::prefix::Prefix;
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::borrow::Cow;

    /// Writes them.
    pub fn serialize<S: Serializer>(all: &[Prefix], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all)
    }

    /// Reads them; one that is no prefix refuses the message, as in Go.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Prefix>, D::Error> {
        let texts: Vec<Cow<'de, str>> = Vec::deserialize(deserializer)?;
        texts
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(de::Error::custom))
            .collect()
    }
}

/// As [`prefixes`], where absence is not emptiness.
pub mod maybe_prefixes {
    use crate::prefix::Prefix;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes them.
    pub fn serialize<S: Serializer>(all: &Option<Vec<Prefix>>, serializer: S) -> Result<S::Ok, S::Error> {
        super::prefixes::serialize(all.as_deref().unwrap_or_default(), serializer)
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Prefix>>, D::Error> {
        #[derive(Deserialize)]
        struct All(#[serde(with = "super::prefixes")] Vec<Prefix>);
        Ok(Option::<All>::deserialize(deserializer)?.map(|All(all)| all))
    }
}

/// `netip.Addr`; an empty text is none.
pub mod address {
    use serde::{Deserializer, Serializer, de};
    use std::net::IpAddr;

    /// Writes it.
    pub fn serialize<S: Serializer>(address: &Option<IpAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
        let Some(text) = super::text(deserializer)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| de::Error::custom("not an address"))
    }
}

/// `[]byte`: standard base64.
pub mod bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserializer, Serializer, de};

    /// Writes them.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = super::text(deserializer)?.unwrap_or_default();
        STANDARD.decode(text.as_bytes()).map_err(|_| de::Error::custom("not base64"))
    }
}

fn one_endpoint(text: &str) -> Option<std::net::SocketAddr> {
    if let Ok(endpoint) = text.parse() {
        return Some(endpoint);
    }
    let (address, rest) = text.split_once('%')?;
    let (_, port) = rest.rsplit_once("]:")?;
    format!("{address}]:{port}").parse().ok()
}
