//! Points in time: local for people, ISO 8601 in UTC for programs.

use allod_proto::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::time::Duration;

fn instant(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()
}

/// `2026-03-01 14:05:09`, in the time zone of this machine.
#[must_use]
pub fn local(at: Timestamp) -> String {
    in_zone(at, TimeZone::system())
}

/// The same in a given time zone.
#[must_use]
pub fn in_zone(at: Timestamp, zone: TimeZone) -> String {
    match instant(at) {
        Some(instant) => instant.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("{} ms after 1970", at.0),
    }
}

/// `2026-03-01T13:05:09.120Z`.
#[must_use]
pub fn iso(at: Timestamp) -> Option<String> {
    instant(at).map(|instant| format!("{instant:.3}"))
}

/// `12 s`, `3 min`, `5 h`, `2 d`.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `0.4 s`, `12.3 s`: how long something took.
#[must_use]
pub fn took(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// Turns every point in time of a document into ISO 8601: numbers under `at`, `now`, `last` and names that end in
/// `_at`.
pub fn iso_times(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(iso_times),
        Value::Object(fields) => {
            for (name, value) in fields {
                let number = value.as_u64().filter(|_| is_time(name));
                match number.and_then(|number| iso(Timestamp(number))) {
                    Some(text) => *value = Value::String(text),
                    None => iso_times(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_time(name: &str) -> bool {
    matches!(name, "at" | "now" | "last" | "server_time") || name.ends_with("_at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_the_calendar_is_still_shown() {
        assert!(local(Timestamp(u64::MAX)).ends_with("after 1970"));
        assert_eq!(iso(Timestamp(u64::MAX)), None);
    }

    #[test]
    fn times_are_iso_in_documents_and_other_numbers_stay() {
        let mut value = serde_json::json!({"at": 1000, "seq": 1000, "apps": [{"made_at": 0}], "flat": 5});
        iso_times(&mut value);
        let expected = serde_json::json!({
            "at": "1970-01-01T00:00:01.000Z", "seq": 1000, "apps": [{"made_at": "1970-01-01T00:00:00.000Z"}], "flat": 5
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn spans_have_one_unit() {
        assert_eq!(span(Duration::from_secs(59)), "59 s");
        assert_eq!(span(Duration::from_secs(7200)), "2 h");
        assert_eq!(took(12_345), "12.3 s");
    }
}
