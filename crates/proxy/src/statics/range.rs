//! Conditional and partial answers: one byte range (RFC 9110, 14), entity tags, HTTP dates.

use http::HeaderValue;
use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything: no range, several, or one in a form unknown here. A server may ignore the header.
    Whole,
    /// These bytes, at least one.
    Bytes(Range<u64>),
    /// None of the file's bytes: 416.
    Outside,
}

pub(crate) fn parse(value: &HeaderValue, length: u64) -> Part {
    let spec = value.to_str().ok().and_then(|text| text.trim().strip_prefix("bytes="));
    let Some((first, last)) =
        spec.filter(|spec| !spec.contains(',')).and_then(|spec| spec.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    match (first.is_empty(), last.is_empty(), number(first), number(last)) {
        (true, false, _, Some(0)) => Part::Outside,
        (true, false, _, Some(_)) if length == 0 => Part::Outside,
        (true, false, _, Some(suffix)) => Part::Bytes(length.saturating_sub(suffix)..length),
        (false, true, Some(from), _) if from < length => Part::Bytes(from..length),
        (false, false, Some(from), Some(to)) if from > to => Part::Whole,
        (false, false, Some(from), Some(to)) if from < length => {
            Part::Bytes(from..to.saturating_add(1).min(length))
        }
        (false, true, Some(_), _) | (false, false, Some(_), Some(_)) => Part::Outside,
        _ => Part::Whole,
    }
}

/// Whether an `If-None-Match` value names this tag. Weak comparison.
pub(crate) fn matches_etag(value: &HeaderValue, etag: &str) -> bool {
    let Ok(text) = value.to_str() else { return false };
    text.trim() == "*" || text.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, for seconds since 1970 (RFC 9110, 5.6.7).
pub(crate) fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS.iter().cycle().nth(usize::try_from(days % 7).unwrap_or(0)).unwrap_or(&"Thu");
    // Days to a date by eras of 400 years that begin in March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let name = MONTHS.get(usize::try_from(month).unwrap_or(0)).unwrap_or(&"Jan");
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{weekday}, {day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &'static str, length: u64) -> Part {
        parse(&HeaderValue::from_static(text), length)
    }

    #[test]
    fn a_range_outside_the_file_is_told_and_a_senseless_one_ignored() {
        assert_eq!(part("bytes=10-", 10), Part::Outside);
        assert_eq!(part("bytes=10-20", 10), Part::Outside);
        assert_eq!(part("bytes=-0", 10), Part::Outside);
        assert_eq!(part("bytes=-5", 0), Part::Outside);
        for ignored in
            ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=+1-2"]
        {
            assert_eq!(part(ignored, 10), Part::Whole, "{ignored}");
        }
    }

    #[test]
    fn a_range_is_cut_to_the_file() {
        assert_eq!(part("bytes=0-0", 10), Part::Bytes(0..1));
        assert_eq!(part("bytes=2-", 10), Part::Bytes(2..10));
        assert_eq!(part("bytes=-3", 10), Part::Bytes(7..10));
        assert_eq!(part("bytes=-30", 10), Part::Bytes(0..10));
        assert_eq!(part("bytes=0-18446744073709551615", 10), Part::Bytes(0..10));
    }

    #[test]
    fn dates_are_those_of_the_standard() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(1_709_210_096), "Thu, 29 Feb 2024 12:34:56 GMT");
        assert_eq!(http_date(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
    }

    #[test]
    fn an_etag_matches_itself_weakly_in_a_list_or_by_star() {
        let matches = |text: &'static str| matches_etag(&HeaderValue::from_static(text), "\"a\"");
        assert!(matches("W/\"a\"") && matches("\"b\", \"a\"") && matches("*"));
        assert!(!matches("\"b\"") && !matches("a"));
    }
}
