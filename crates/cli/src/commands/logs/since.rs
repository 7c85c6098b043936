//! `--since`: so long ago, or a point in time.

use allod_proto::Timestamp;
use std::{str::FromStr, time::Duration};

/// When lines begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// So long ago.
    Ago(Duration),
    /// At this time.
    At(Timestamp),
}

impl Since {
    /// The point in time.
    pub(super) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(span) => now.minus(span),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(span) = ago(text) {
            return Ok(Self::Ago(span));
        }
        let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            // Without a zone it is this machine's.
            text.parse::<jiff::civil::DateTime>()
                .ok()?
                .to_zoned(jiff::tz::TimeZone::system())
                .ok()
                .map(|at| at.timestamp())
        });
        let at = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
        at.map(|at| Self::At(Timestamp(at))).ok_or_else(|| {
            "write 90s, 10m, 2h or 3d, or a time as 2030-12-31T23:59:00Z; without Z it is this machine's time".to_owned()
        })
    }
}

fn ago(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let scale = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(digits.parse::<u64>().ok()?.checked_mul(scale)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_span_nor_time_is_refused() {
        for bad in [
            "",
            "m",
            "10",
            "10 m",
            "-10m",
            "+10m",
            "10w",
            "10min",
            "1.5h",
            "yesterday",
            "99999999999999999999d",
        ] {
            assert!(bad.parse::<Since>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spans_count_back_from_now() {
        let now = Timestamp(1_000_000_000);
        let back = |text: &str| text.parse::<Since>().unwrap().before(now).0;
        assert_eq!(back("90s"), 1_000_000_000 - 90_000);
        assert_eq!(back("10m"), 1_000_000_000 - 600_000);
        assert_eq!(back("2h"), 1_000_000_000 - 7_200_000);
        assert_eq!(back("3d"), 1_000_000_000 - 259_200_000);
        assert_eq!(back("9999999d"), 0);
    }

    #[test]
    fn a_time_with_its_zone_is_that_time() {
        let at = |text: &str| text.parse::<Since>().unwrap().before(Timestamp(0)).0;
        assert_eq!(at("1970-01-01T00:00:05Z"), 5000);
        assert_eq!(at("1970-01-01T02:00:05+02:00"), 5000);
        assert!("2030-12-31T23:59:00".parse::<Since>().is_ok());
    }
}
