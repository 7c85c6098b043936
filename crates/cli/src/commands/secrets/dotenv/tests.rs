use super::*;

fn read(text: &str) -> Vec<(String, Vec<u8>)> {
    let values = parse(text.as_bytes()).unwrap();
    values.into_iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect()
}

fn one(text: &str) -> String {
    let mut values = read(text);
    assert_eq!(values.len(), 1, "{text:?}");
    String::from_utf8(values.remove(0).1).unwrap()
}

#[test]
fn every_bad_line_is_told_with_its_number_and_without_a_value() {
    let text = "A=ok\nhush\n\nlower=hush\nB='x' hush\nC=\"hush\\q\"\nA=hush\nD=\"hush\nE=hush\n";
    let complaints = parse(text.as_bytes()).unwrap_err();
    let lines: Vec<&str> = complaints.iter().map(|complaint| complaint.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 2", "line 4", "line 5", "line 6", "line 7", "line 8"], "{complaints:?}");
    assert!(!complaints.concat().contains("hush"), "{complaints:?}");
    assert!(complaints[4].contains("first in line 1"), "{complaints:?}");
}

#[test]
fn a_quote_that_is_never_closed_is_refused() {
    assert!(parse(b"A='x\nB=y\n").unwrap_err()[0].starts_with("line 1: "));
    assert!(parse(b"A=\"x\\").is_err());
}

#[test]
fn bare_values_end_at_the_line_or_a_comment() {
    assert_eq!(one("A = a b \t\r\n"), "a b");
    assert_eq!(one("A=a#b # not this"), "a#b");
    assert_eq!(one("A=# all comment"), "");
    assert_eq!(one("A="), "");
    assert_eq!(one("export A=x=y"), "x=y");
    assert_eq!(one("A=C:\\new$x"), "C:\\new$x");
}

#[test]
fn quotes_keep_what_is_in_them() {
    assert_eq!(one("A='a \\n \"$x\" # b'"), "a \\n \"$x\" # b");
    assert_eq!(one("A=\"a\\n\\t\\\"\\\\\\$\\`b\" # c"), "a\n\t\"\\$`b");
    assert_eq!(one("A=\"line 1\nline 2\n\""), "line 1\nline 2\n");
    assert_eq!(one("A=' x '"), " x ");
}

#[test]
fn lines_after_a_value_of_several_lines_keep_their_numbers() {
    let complaints = parse(b"A=\"1\n2\n3\"\n\nbad\n").unwrap_err();
    assert!(complaints[0].starts_with("line 5: "), "{complaints:?}");
}

#[test]
fn comments_blanks_and_a_byte_order_mark_say_nothing() {
    let values = read("\u{feff}# a\n\n  \nA=1\n  # b\nB=2");
    assert_eq!(values, [("A".to_owned(), b"1".to_vec()), ("B".to_owned(), b"2".to_vec())]);
}

#[test]
fn what_is_written_reads_back_as_it_was() {
    let name = SecretName::new("A").unwrap();
    for value in
        [&b""[..], b"plain", b"it's", b"'\"\\$`\n\r\n\t", b"\\n", b" # ", b"\xff\xfe", b"a\nb\n", b"'\\"]
    {
        let text = line(&name, value);
        let read = parse(&text).unwrap();
        assert_eq!((read.len(), read[0].1.as_slice()), (1, value), "{text:?}");
    }
}
