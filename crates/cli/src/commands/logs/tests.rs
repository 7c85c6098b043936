use super::*;

fn line(text: &str) -> LogLine {
    serde_json::from_value(serde_json::json!({
        "at": 1, "instance": "web-0011aabb", "release": "aaaaaaaaaaaa", "stream": "err", "text": text
    }))
    .unwrap()
}

#[test]
fn what_an_app_writes_can_not_move_the_cursor() {
    assert_eq!(harmless("a\tb\u{1b}[2J\u{7f}\u{9b}\r"), "a\tb\\u{1b}[2J\\u{7f}\\u{9b}\\u{d}");
    let shown = format_line(Some("web1"), &line("x\ny\u{202e}z"), Style::new(false));
    assert!(shown.ends_with(" web1 web-0011aabb ! x\\u{a}y\\u{202e}z\n"), "{shown:?}");
    assert_eq!(shown.lines().count(), 1);
}

#[test]
fn a_server_is_named_only_where_there_are_several() {
    let shown = format_line(None, &line("hello"), Style::new(false));
    assert!(shown.contains(" web-0011aabb ! hello") && !shown.contains("web1"), "{shown:?}");
}
