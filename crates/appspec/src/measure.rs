//! Spans of time and sizes as people write them: `500ms`, `10s`, `2m`, `1h`; `64KB`, `128MB`, `2GB`.

/// Milliseconds of `500ms`, `10s`, `2m` or `1h`.
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn milliseconds(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "not a span of time; write 500ms, 10s, 2m or 1h";
    let (number, unit) = split(text).ok_or(FORM)?;
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(FORM),
    };
    let milliseconds = number.checked_mul(scale).ok_or(FORM)?;
    if milliseconds <= 86_400_000 { Ok(milliseconds) } else { Err("longer than a day") }
}

/// The least memory that something may be bounded to: less is none to begin with.
pub const LEAST_MEMORY: u64 = 4 << 20;

/// Bytes of `64KB`, `128MB` or `2GB`; the units are powers of 1024.
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn bytes(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "not a size; write 64KB, 128MB or 2GB";
    let (number, unit) = split(text).ok_or(FORM)?;
    let scale: u64 = match unit {
        "B" => 1,
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return Err(FORM),
    };
    number.checked_mul(scale).filter(|bytes| *bytes <= 1 << 50).ok_or(FORM)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_without_unit_or_out_of_range_is_refused() {
        for bad in
            ["", "10", "s", "-1s", "1.5s", "10 sec", "25h", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(milliseconds(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "10", "MB", "1mb", "1.5MB", "18446744073709551615GB", "99999999GB"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn measures_mean_what_people_expect() {
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("2m"), Ok(120_000));
        assert_eq!(milliseconds("24h"), Ok(86_400_000));
        assert_eq!(bytes("64KB"), Ok(65_536));
        assert_eq!(bytes("2 GB"), Ok(2_147_483_648));
    }
}
