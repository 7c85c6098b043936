use super::*;
use crate::fixture::{intent, note, outcome};
use proptest::prelude::*;

fn line(entry: Entry) -> Line {
    Line { prev: Digest::of("before"), seq: 7, at: Timestamp(1_700_000_000_000), boot: 12, entry }
}

fn text(entry: Entry) -> String {
    String::from_utf8(line(entry).to_bytes().unwrap()).unwrap()
}

#[test]
fn text_that_is_no_line_is_refused() {
    let good = text(note(1));
    for bad in [
        String::new(),
        "\n".to_owned(),
        "{}".to_owned(),
        good.replace("\"prev\":\"", "\"prev\": \""),
        good.replacen("\"seq\":7", "\"seq\":07", 1),
        good.replacen("\"seq\":7", "\"seq\":-7", 1),
        good.replacen("\"seq\":7", "\"seq\":99999999999999999999", 1),
        good.replacen("\"seq\":7", "\"seq\":\"7\"", 1),
        good.replacen("\"entry\":\"note\"", "\"entry\":\"from_the_future\"", 1),
        good.replacen("}\n", ",\"seq\":8}\n", 1),
        format!("{}{}", good.trim_end(), good),
        good.trim_end().trim_end_matches('}').to_owned(),
        format!(" {good}"),
    ] {
        assert!(Line::parse(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn an_entry_that_is_too_long_is_refused_before_it_waits() {
    let long = Entry::note("long", "\u{7f}".repeat(LONGEST / 6));
    assert_eq!(tail(&long).unwrap_err(), LineError::TooLong);
    assert!(tail(&Entry::note("long", "x".repeat(LONGEST / 2))).is_ok());
}

#[test]
fn no_caller_can_write_a_second_line_or_a_second_field() {
    let corpus = [
        "a\nb",
        "a\r\nb",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{1b}[2J\u{1b}[31mred",
        "\u{9b}31m",
        "\u{7f}\u{8}\u{8}",
        "\u{202e}txt.exe",
        "\u{2066}x\u{2069}",
        "\u{200b}\u{feff}",
        "\u{e0041}\u{e0042}",
        "\0",
        "\t",
        "\",\"decision\":\"allow",
        "\"}\n{\"prev\":\"",
        "\\",
        "\\\"",
        "\\u000a",
        "é ü 漢字 🦀",
        "</script>",
    ];
    for hostile in corpus {
        let mut entry = intent(hostile);
        if let Entry::Intent(intent) = &mut entry {
            intent.who.name = hostile.to_owned();
            intent.command = hostile.to_owned();
            intent.target = Some(hostile.to_owned());
            intent.params = serde_json::json!({ hostile: [hostile, {"deep": hostile}] });
        }
        let text = text(entry.clone());
        assert_eq!(text.matches('\n').count(), 1, "{hostile:?}");
        assert!(text.ends_with("}\n"));
        assert!(!text.trim_end().chars().any(|c| c.is_control() || is_unsafe(c)), "{text:?}");
        assert!(!text.contains("\"decision\":\"allow"), "{text:?}");
        assert_eq!(Line::parse(&text).unwrap(), line(entry), "{hostile:?}");
    }
}

#[test]
fn readable_text_stays_readable() {
    assert!(text(Entry::note("x", "é ü 漢字 🦀 \"quoted\"")).contains(r#"é ü 漢字 🦀 \"quoted\""#));
    assert!(text(Entry::note("x", "\u{202e}\u{e0041}")).contains(r"\u202e\udb40\udc41"));
}

#[test]
fn the_place_comes_first_and_the_rest_in_its_order() {
    let text = text(note(1));
    let prev = Digest::of("before");
    assert_eq!(
        text,
        format!(
            "{{\"prev\":\"{prev}\",\"seq\":7,\"at\":1700000000000,\"boot\":12,\"entry\":\"note\",\"what\":\"test\",\"detail\":\"note 1\"}}\n"
        )
    );
}

#[test]
fn every_kind_of_entry_reads_back_as_it_was() {
    use crate::{Ending, Read, Refusals, Start, fixture::who};
    let entries = [
        Entry::Start(Start { program: "executor".to_owned(), version: "0.1.0".to_owned(), epoch: None }),
        intent("0123456789abcdef"),
        outcome(Head { seq: 3, hash: Digest::ZERO }),
        Entry::Read(Box::new(Read {
            request: "r".to_owned(),
            who: who("anna"),
            command: "app.list".to_owned(),
            app: None,
            asked: None,
            said: None,
            registry: None,
            result: Ending::Failed,
            code: Some(allod_proto::FaultCode::NotAllowed),
            took_ms: 3,
        })),
        Entry::Counted(crate::Counted {
            from_minute: Timestamp(60_000),
            key: None,
            name: "anna".to_owned(),
            source: None,
            count: 7,
        }),
        Entry::Refusals(Refusals {
            from_minute: Timestamp(60_000),
            source: "203.0.113.9".to_owned(),
            reason: "unsigned".to_owned(),
            count: 4_000_000_000,
        }),
        note(1),
    ];
    for entry in entries {
        let text = text(entry.clone());
        assert_eq!(Line::parse(&text).unwrap(), line(entry));
        assert_eq!(Line::parse(text.trim_end()).unwrap().to_bytes().unwrap(), text.as_bytes());
    }
}

proptest! {
    #[test]
    fn any_text_is_one_escaped_line_that_reads_back(what in any::<String>(), detail in any::<String>()) {
        let entry = Entry::note(what, detail);
        let text = text(entry.clone());
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert!(!text.trim_end().chars().any(char::is_control));
        let read = Line::parse(&text).unwrap();
        prop_assert_eq!(read.to_bytes().unwrap(), text.as_bytes());
        prop_assert_eq!(read, line(entry));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Link::of_whole_line(&bytes);
        let _ = Line::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_link_is_what_was_written(seq in 1_u64.., at in any::<u64>(), boot in any::<u64>()) {
        let mut bytes = Vec::new();
        let place = Place { prev: Digest::of(seq.to_string()), seq, at: Timestamp(at), boot };
        let head = write_line(&mut bytes, &place, &tail(&note(1)).unwrap());
        prop_assert_eq!(Link::of_whole_line(&bytes), Some(Link { prev: place.prev, seq }));
        prop_assert_eq!(head, Head { seq, hash: Digest::of(&bytes) });
    }
}

#[test]
fn a_number_that_a_careless_reader_changes_stays_as_it_is() {
    let text = format!(
        "{{\"prev\":\"{}\",\"seq\":7,\"at\":1,\"boot\":1,\"entry\":\"outcome\",\"intent\":6,\"result\":\"ok\",\
         \"reply\":{{\"x\":7.777777777777778e+40}},\"took_ms\":1}}\n",
        Digest::ZERO
    );
    assert_eq!(String::from_utf8(Line::parse(&text).unwrap().to_bytes().unwrap()).unwrap(), text);
}
