//! Text from elsewhere made harmless for a terminal: what could move the cursor, hide or reorder words is shown as an
//! escape.

use std::fmt::Write as _;

/// The text on one line, with control characters and marks that reorder or hide text shown as `\u{…}`.
#[must_use]
pub fn safe(text: &str) -> String {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            c if c.is_control() || is_invisible(c) => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Marks of direction, joiners, separators and tags: invisible, and able to make one text look like another.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_fool_a_terminal_is_shown_as_an_escape() {
        assert_eq!(safe("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(safe("a\u{9b}2Jb\r\n"), "a\\u{9b}2Jb\\u{d}\\u{a}");
        assert_eq!(safe("ab\u{202e}dc"), "ab\\u{202e}dc");
    }

    #[test]
    fn words_of_all_languages_stay() {
        assert_eq!(safe("größe 日本 ✓"), "größe 日本 ✓");
    }
}
