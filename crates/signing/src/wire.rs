//! The SSH wire encoding (RFC 4251 section 5), read strictly: every length is bounded by what is there, nothing may
//! follow, and a number has one form only.

/// Why bytes are not what they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WireError(pub(crate) &'static str);

const SHORT: WireError = WireError("it ends too early");

/// Reads from the front of a slice.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `string`: a length and as many bytes.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.u32()?).map_err(|_| SHORT)?;
        self.take(length)
    }

    /// A `string` that must be UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.string()?).map_err(|_| WireError("a text in it is not UTF-8"))
    }

    /// An `mpint` above zero in its one minimal form, without the sign byte.
    pub(crate) fn positive(&mut self) -> Result<&'a [u8], WireError> {
        match self.string()? {
            [] => Err(WireError("a number in it is zero")),
            [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => Ok(rest),
            [0, ..] => Err(WireError("a number in it has needless zeros")),
            [first, ..] if first & 0x80 != 0 => Err(WireError("a number in it is negative")),
            number => Ok(number),
        }
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what follows.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError("something follows its end")) }
    }
}

/// Appends a `string`. Longer than 4 GiB cannot be said in this encoding; nothing here comes near.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends an unsigned big-endian number as an `mpint`.
pub(crate) fn put_positive(out: &mut Vec<u8>, number: &[u8]) {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = number.get(start..).unwrap_or_default();
    if digits.first().is_some_and(|byte| byte & 0x80 != 0) {
        let mut signed = vec![0];
        signed.extend_from_slice(digits);
        put_string(out, &signed);
    } else {
        put_string(out, digits);
    }
}

/// The number in exactly `size` bytes, or nothing if it is larger.
pub(crate) fn left_padded(number: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut padded = vec![0; size.checked_sub(number.len())?];
    padded.extend_from_slice(number);
    Some(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, 1]).string(), Err(SHORT));
        assert_eq!(Reader::new(&[255, 255, 255, 255, 1]).string(), Err(SHORT));
        assert_eq!(Reader::new(&[0, 0]).u32(), Err(SHORT));
    }

    #[test]
    fn a_number_has_one_form() {
        for bad in [&[][..], &[0], &[0, 1], &[0x80], &[0, 0, 0x80]] {
            let mut bytes = Vec::new();
            put_string(&mut bytes, bad);
            assert!(Reader::new(&bytes).positive().is_err(), "{bad:?}");
        }
        for number in [&[1][..], &[0x7f, 0], &[0x80], &[0xff, 0, 1]] {
            let mut bytes = Vec::new();
            put_positive(&mut bytes, number);
            assert_eq!(Reader::new(&bytes).positive().unwrap(), number);
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let mut reader = Reader::new(&[0, 0, 0, 1, 7, 9]);
        assert_eq!(reader.string().unwrap(), [7]);
        assert!(!reader.is_empty());
        assert!(reader.finish().is_err());
    }
}
