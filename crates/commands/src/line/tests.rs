use super::*;
use proptest::prelude::*;

fn refused(request: impl AsRef<[u8]>) -> LineRefused {
    let request = request.as_ref();
    parse(request).expect_err(&escape(request))
}

fn run_of(request: &str) -> CommandRun {
    match parse(request.as_bytes()) {
        Ok(Line::Run(run)) => run,
        other => panic!("{request}: {other:?}"),
    }
}

/// The one line that asks for this: its words in the order of their keys.
fn printed(run: &CommandRun) -> String {
    let first = if run.detach { format!("detach {}", run.name) } else { run.name.clone() };
    run.params.iter().fold(first, |line, (key, value)| format!("{line} {key}={value}"))
}

#[test]
fn x1_options_and_words_that_are_no_parameter_are_refused() {
    use LineRefused::{Key, Name, Option, Positional, Value};
    for (request, why) in [
        ("deploy --force", Option(2)),
        ("deploy -f", Option(2)),
        ("deploy --", Option(2)),
        ("deploy -", Option(2)),
        ("deploy site=a --force=yes", Option(3)),
        ("deploy force", Positional(2)),
        ("deploy ./x", Positional(2)),
        ("deploy site=-rf", Value(2)),
        ("deploy site=--index-url=http://evil", Value(2)),
        ("deploy site=", Value(2)),
        ("deploy =x", Key(2)),
        ("deploy Site=x", Key(2)),
        ("deploy si-te=x", Key(2)),
        ("deploy site.x=x", Key(2)),
        ("-deploy", Name),
        ("--help", Name),
        ("pip_install_-r/etc/shadow", Name),
        ("pip_install_--index-url=http://evil", Name),
        ("pip_install_git+https://evil/x", Name),
        ("pip_install_./x", Name),
        ("pip_install_a@file:///etc/shadow", Name),
        ("git+https://evil/x", Name),
        ("./x", Name),
        ("/bin/sh", Name),
        ("a@file:///etc/shadow", Name),
        ("help me", Positional(2)),
        ("help --all", Option(2)),
    ] {
        assert_eq!(refused(request), why, "{request}");
    }
}

#[test]
fn x2_what_means_something_to_a_shell_is_in_no_name_no_key_and_no_value() {
    let signs = "$`;&|<>(){}[]*?~!#'\"\\^";
    for sign in signs.chars() {
        assert_eq!(refused(format!("deploy{sign}id")), LineRefused::Name, "{sign}");
        assert_eq!(refused(format!("{sign}deploy")), LineRefused::Name, "{sign}");
        assert_eq!(refused(format!("deploy si{sign}te=a")), LineRefused::Key(2), "{sign}");
        assert_eq!(refused(format!("deploy site=a{sign}")), LineRefused::Value(2), "{sign}");
    }
    for request in
        ["deploy $(id)", "deploy `id`", "deploy ;id", "deploy && id", "deploy *", "deploy $IFS$9id"]
    {
        assert_eq!(refused(request), LineRefused::Positional(2), "{request}");
    }
    for request in [" deploy", "deploy ", "deploy  site=a", " ", "   "] {
        assert_eq!(refused(request), LineRefused::Spaces, "{request:?}");
    }
}

#[test]
fn x3_line_ends_of_every_kind_are_refused_at_the_end_too() {
    for end in ["\n", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}", "\u{c}", "\t"] {
        for request in
            [format!("deploy{end}"), format!("deploy{end}rm site=a"), format!("{end}deploy"), end.to_owned()]
        {
            assert!(matches!(refused(&request), LineRefused::Byte { .. }), "{request:?}");
        }
    }
    assert_eq!(refused("deploy\n"), LineRefused::Byte { at: 7, byte: b'\n' });
}

#[test]
fn x4_bytes_that_are_no_plain_letters_and_letters_that_look_like_others_are_refused() {
    for request in [
        &b"deploy\0"[..],
        b"deploy\0--force",
        b"\0",
        b"deploy\xff",
        b"deploy \xc0\xafx=y",
        b"deploy\x7f",
        b"\x1b[2Jdeploy",
        "d\u{435}ploy".as_bytes(),
        "deploy\u{200b}".as_bytes(),
        "de\u{301}ploy".as_bytes(),
        "deploy\u{202e}".as_bytes(),
        "\u{feff}deploy".as_bytes(),
        "deploy site=größe".as_bytes(),
    ] {
        assert!(matches!(refused(request), LineRefused::Byte { .. }), "{}", escape(request));
    }
    for request in ["Deploy", "DEPLOY", "dePloy", "1deploy", "_deploy", "HELP"] {
        assert_eq!(refused(request), LineRefused::Name, "{request}");
    }
}

#[test]
fn x5_a_request_over_4_kib_is_refused_by_its_length_and_one_of_that_length_by_its_words() {
    let full: String = (0..16).map(|n| format!(" p{n:02}={}", "v".repeat(250))).collect();
    let line = format!("deploy{full}");
    let fits = format!("{line} q={}", "v".repeat(REQUEST_LINE - line.len() - 3));
    assert_eq!((fits.len(), run_of(&fits).params.len()), (REQUEST_LINE, 17));
    assert_eq!(refused(format!("{fits}v")), LineRefused::TooLong(REQUEST_LINE + 1));
    for length in [128 * 1024, 131_067, 200_000, 256 * 1024] {
        assert_eq!(refused("a".repeat(length)), LineRefused::TooLong(length));
    }
    assert_eq!(refused("a".repeat(REQUEST_LINE)), LineRefused::Name);
    assert_eq!(refused(format!("deploy site={}", "a".repeat(VALUE + 1))), LineRefused::Value(2));
    let many: String = (0..=PARAMS).map(|n| format!(" p{n}=v")).collect();
    assert_eq!(refused(format!("deploy{many}")), LineRefused::TooMany);
}

#[test]
fn a_key_that_stands_there_twice_is_refused_with_the_same_value_too() {
    assert_eq!(refused("deploy site=a site=b"), LineRefused::Twice(3));
    assert_eq!(refused("deploy site=a x=1 site=a"), LineRefused::Twice(4));
}

#[test]
fn every_refusal_says_why_and_repeats_nothing_of_the_request() {
    for request in
        ["\u{1b}]0;x\u{7}", "$(id)", "deploy $(id)", "deploy --id", "deploy x=$(id)", "deploy $=id"]
    {
        let fault = Fault::from(refused(request));
        assert_eq!(fault.code, FaultCode::Invalid);
        assert!(fault.message.starts_with("refused: ") && !fault.message.contains("id)"), "{fault:?}");
        assert!(fault.message.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{fault:?}");
    }
}

#[test]
fn a_name_with_its_parameters_is_what_it_says() {
    assert_eq!(parse(b"").unwrap(), Line::Nothing);
    assert_eq!(parse(b"help").unwrap(), Line::Help);
    let run = run_of("deploy-site site=blog url=https://a.example/x%20y");
    assert_eq!((run.name.as_str(), run.stdin.as_ref(), run.detach), ("deploy-site", None, false));
    let params: Vec<_> = run.params.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(params, [("site", "blog"), ("url", "https://a.example/x%20y")]);
    assert_eq!(
        run_of("pip_install_requests").name,
        "pip_install_requests",
        "the slot is found where it is decided"
    );
}

#[test]
fn a_reserved_word_is_followed_by_what_belongs_to_it_and_nothing_else() {
    for request in [
        "watch",
        "watch run-1",
        "watch run-0123456789ab x",
        "watch run-0123456789AB",
        "watch deploy",
        "watch x=y",
    ] {
        assert_eq!(refused(request), LineRefused::Watch, "{request}");
    }
    assert_eq!(refused("watch  run-0123456789ab"), LineRefused::Spaces);
    assert_eq!(refused("detach"), LineRefused::Detach);
    assert_eq!(refused("detach "), LineRefused::Spaces);
    assert_eq!(refused("detach --x"), LineRefused::Name);
    assert_eq!(refused("detach deploy x"), LineRefused::Positional(3));
    assert_eq!(refused("runs x"), LineRefused::Positional(2));
    assert_eq!(parse(b"runs").unwrap(), Line::Runs);
    assert_eq!(parse(b"watch run-0123456789ab").unwrap(), Line::Watch("run-0123456789ab".parse().unwrap()));
    let run = run_of("detach deploy site=blog");
    assert_eq!((run.name.as_str(), run.params["site"].as_str(), run.detach), ("deploy", "blog", true));
}

#[test]
fn values_may_have_the_signs_of_versions_paths_times_and_addresses() {
    for value in
        ["1.2.3", "a/b", "2026-01-02T03:04:05+01:00", "a@b.example", "50%", "a=b", "a,b", "_x", "=", "+"]
    {
        assert!(value_is_sound(value), "{value}");
        assert_eq!(run_of(&format!("deploy x={value}")).params["x"], value);
    }
    for value in ["", "-", "-x", "a b", "a\n", "é", "a'b", "a\\b", "?"] {
        assert!(!value_is_sound(value), "{value:?}");
    }
}

#[test]
fn x11_what_is_recorded_is_one_line_of_printable_letters_that_can_be_read_in_one_way_only() {
    assert_eq!(escape(b"deploy site=a"), "deploy site=a");
    assert_eq!(escape(b"a\nb\r\x1b[2J\xff\0\\x41"), "a\\x0ab\\x0d\\x1b[2J\\xff\\x00\\x5cx41");
    assert_eq!(
        escape(b"\",\"decision\":\"allow"),
        "\",\"decision\":\"allow",
        "JSON's own quoting is the record's"
    );
    let whole = "a".repeat(ESCAPED);
    assert_eq!(escape(whole.as_bytes()), whole);
    assert_eq!(escape(format!("{whole}b").as_bytes()), format!("{whole}\\... of {} bytes", ESCAPED + 1));
    let long = escape(&[b'\n'; 100_000]);
    assert!(long.ends_with("\\... of 100000 bytes") && long.len() < ESCAPED + 40, "{long}");
    assert!(escape(b"\\... of 9 bytes").starts_with("\\x5c..."), "a request can't say that it was cut");
}

proptest! {
    #[test]
    fn parsing_never_panics_and_what_it_accepts_prints_back_as_the_same_bytes(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[a-z=. _-]{0,60}".prop_map(String::into_bytes),
            "(detach |watch )?(run-[0-9a-f]{12}|[a-z][a-z0-9_-]{0,20})( [a-z]{1,3}=[A-Za-z0-9._:,@%/+=-]{1,20}){0,5}".prop_map(String::into_bytes),
        ]
    ) {
        match parse(&bytes) {
            Ok(Line::Nothing) => prop_assert!(bytes.is_empty()),
            Ok(Line::Help) => prop_assert_eq!(&bytes, b"help"),
            Ok(Line::Runs) => prop_assert_eq!(&bytes, b"runs"),
            Ok(Line::Watch(run)) => prop_assert_eq!(bytes, format!("watch {run}").into_bytes()),
            Ok(Line::Run(run)) => {
                // Words have no order: the ones that came, sorted, are the ones that are printed.
                let text = String::from_utf8(bytes).unwrap();
                let asked = if run.detach { text.strip_prefix("detach ").unwrap() } else { &text };
                let (name, rest) = asked.split_once(' ').unwrap_or((asked, ""));
                let mut words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
                words.sort_by_key(|word| word.split_once('=').map(|(key, _)| key));
                let first = if run.detach { format!("detach {name}") } else { name.to_owned() };
                let sorted = words.iter().fold(first, |line, word| format!("{line} {word}"));
                prop_assert_eq!(printed(&run), sorted);
                prop_assert_eq!(printed(&run).len(), text.len());
                prop_assert!(run.params.values().all(|value| value_is_sound(value)));
                prop_assert_eq!(parse(printed(&run).as_bytes()), Ok(Line::Run(run)));
            }
            Err(refused) => prop_assert!(!refused.to_string().is_empty()),
        }
    }

    #[test]
    fn an_escaped_request_is_bounded_printable_and_tells_every_byte_apart(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = escape(&bytes);
        prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.len() <= ESCAPED + 40);
        if !text.contains("\\...") {
            let mut again = Vec::new();
            let mut rest = text.as_str();
            while let Some(first) = rest.chars().next() {
                let (byte, length) = match first {
                    '\\' => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                    plain => (u8::try_from(plain).unwrap(), 1),
                };
                again.push(byte);
                rest = &rest[length..];
            }
            prop_assert_eq!(again, bytes);
        }
    }
}
