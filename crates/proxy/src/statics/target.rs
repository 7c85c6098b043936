//! From a request's path to names below the folder. Decoded once; what could mean anything but a plain name is refused.

use std::path::PathBuf;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Relative, plain names only; empty for the folder itself.
    pub(crate) path: PathBuf,
    /// Whether it ends with a slash, and so means a folder.
    pub(crate) is_folder: bool,
}

/// `None` for a path that must not be answered.
pub(crate) fn parse(path: &str) -> Option<Wanted> {
    let rest = path.strip_prefix('/')?;
    let mut names = PathBuf::new();
    let mut is_folder = true;
    for segment in rest.split('/') {
        is_folder = segment.is_empty();
        if is_folder {
            continue;
        }
        let name = decode(segment)?;
        let is_hidden = name.starts_with('.') && name != ".well-known";
        if is_hidden || name.bytes().any(|b| b < 0x20 || matches!(b, b'/' | b'\\' | 0x7f)) {
            return None;
        }
        names.push(name);
    }
    Some(Wanted { path: names, is_folder })
}

fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push(high << 4 | low);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_plain_names_is_refused() {
        for bad in [
            "",
            "a",
            "/..",
            "/../etc/passwd",
            "/a/../../b",
            "/%2e%2e/x",
            "/.%2e/x",
            "/%2E%2E%2Fx",
            "/a%2fb",
            "/a%5c..%5cb",
            "/a\\b",
            "/.git/config",
            "/a/.env",
            "/%2eenv",
            "/a%00b",
            "/a%0ab",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
            "/.",
            "/.well-known-not/x",
            "/...",
            "/%c0%ae%c0%ae/",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_plain_path_is_decoded_once() {
        let wanted =
            |path: &str| parse(path).map(|w| (w.path.to_str().unwrap().to_owned(), w.is_folder)).unwrap();
        assert_eq!(wanted("/"), (String::new(), true));
        assert_eq!(wanted("/a%20b.txt"), ("a b.txt".to_owned(), false));
        assert_eq!(wanted("/%252e%252e/x"), ("%2e%2e/x".to_owned(), false));
        assert_eq!(wanted("//a//b/"), ("a/b".to_owned(), true));
        assert_eq!(wanted("/.well-known/acme"), (".well-known/acme".to_owned(), false));
    }
}
