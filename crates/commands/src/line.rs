//! The alphabet that every value of a parameter is in, whichever door it came by.

use allod_proto::named::VALUE;

/// Whether a value can be one argument and nothing else: no space, quote, control or shell character, and no `-` at its
/// beginning, so that no program takes it for an option.
#[must_use]
pub fn value_is_sound(value: &str) -> bool {
    (1..=VALUE).contains(&value.len())
        && !value.starts_with('-')
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:,@%/+=-".contains(&byte))
}

/// Bytes as they may stand in the record: printable ASCII as it is, everything else and `\\` as `\\xNN`, cut.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    const LONGEST: usize = 512;
    let mut text = String::new();
    for byte in bytes {
        if text.len() >= LONGEST {
            text.push('…');
            break;
        }
        match byte {
            b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            byte => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}
