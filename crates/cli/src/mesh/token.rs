//! What lets a machine in, as it comes from a file or from standard input: one line.

use crate::failure::Failure;
use std::io::Read;
use zeroize::Zeroizing;

/// The longest that is read.
const LONGEST: u64 = 4096;

/// The one line; `what` names where it comes from.
///
/// # Errors
/// [`Failure`] when it can't be read or isn't one line.
pub fn read_token(from: impl Read, what: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    from.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("{what}: {error}")))?;
    match text.trim() {
        token if !token.is_empty() && !token.contains(char::is_whitespace) => {
            Ok(Zeroizing::new(token.to_owned()))
        }
        _ => Err(Failure::usage(format!("{what} holds no token: one line is wanted"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_one_line_is_no_token() {
        for bad in [&b""[..], b"\n \n", b"one\ntwo\n", b"one two", b"\xff\n"] {
            assert!(read_token(bad, "here").unwrap_err().fault.message.starts_with("here"), "{bad:?}");
        }
        assert_eq!(*read_token(&b" allod-join-1.x\n"[..], "here").unwrap(), "allod-join-1.x");
    }
}
