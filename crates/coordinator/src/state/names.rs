//! Names of nodes: DNS labels, made from what a host calls itself.

/// Bytes of a label (RFC 1035).
const LABEL: usize = 63;

/// Whether it is a label as this network has them: lower-case letters, digits and inner hyphens.
#[must_use]
pub fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether it is a tag: `tag:` and a label that begins with a letter.
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    tag.strip_prefix("tag:")
        .is_some_and(|name| is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase()))
}

/// The label nearest to what a host calls itself: its first label, everything else a hyphen.
pub(super) fn to_label(host: &str) -> String {
    let first = host.split('.').next().unwrap_or_default();
    let mut label = String::new();
    for character in first.chars() {
        let next = character.to_ascii_lowercase();
        let is_plain = next.is_ascii_lowercase() || next.is_ascii_digit();
        if is_plain {
            label.push(next);
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.truncate(LABEL);
    let label = label.trim_matches('-');
    if label.is_empty() { "node".to_owned() } else { label.to_owned() }
}

/// `wanted`, or with the lowest number after it that makes it free.
pub(super) fn free(wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(wanted) {
        return wanted.to_owned();
    }
    for number in 1_u64..u64::MAX {
        let end = format!("-{number}");
        let room = LABEL.saturating_sub(end.len()).min(wanted.len());
        let name = format!("{}{end}", wanted.get(..room).unwrap_or("node").trim_end_matches('-'));
        if !is_taken(&name) {
            return name;
        }
    }
    wanted.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_label_is_refused() {
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        for bad in ["web", "tag:", "tag:9a", "tag:-", "tag:A", "Tag:a"] {
            assert!(!is_tag(bad), "{bad}");
        }
        assert!(is_label("web-1") && is_tag("tag:web-1"));
    }

    #[test]
    fn a_hosts_name_becomes_a_label() {
        for (host, label) in [
            ("Jane's MacBook.local", "jane-s-macbook"),
            ("..", "node"),
            ("", "node"),
            ("<script>", "script"),
            ("WEB1", "web1"),
        ] {
            assert_eq!(to_label(host), label);
        }
    }

    #[test]
    fn a_taken_name_gets_a_number_and_stays_a_label() {
        let long = "a".repeat(63);
        let taken = ["web".to_owned(), "web-1".to_owned(), long.clone()];
        let is_taken = |name: &str| taken.iter().any(|other| other == name);
        assert_eq!(free("web", is_taken), "web-2");
        assert!(is_label(&free(&long, is_taken)));
    }

    proptest! {
        #[test]
        fn every_text_becomes_a_label(host in any::<String>()) {
            prop_assert!(is_label(&to_label(&host)));
        }
    }
}
