//! The request line of the ssh door. What is accepted has one reading and prints back as the bytes that came; what goes to the record is
//! one line of printable letters.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/commands/src/line.rs"]
mod line;
use line::{ESCAPED, Line, RESERVED, escape, parse, value_is_sound};

fuzz_target!(|bytes: &[u8]| {
    let recorded = escape(bytes);
    assert!(recorded.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && recorded.len() <= ESCAPED + 40);
    match parse(bytes) {
        Ok(Line::Nothing) => assert!(bytes.is_empty()),
        Ok(Line::Help) => assert_eq!(bytes, b"help"),
        Ok(Line::Runs) => assert_eq!(bytes, b"runs"),
        Ok(Line::Watch(run)) => assert_eq!(bytes, format!("watch {run}").as_bytes()),
        Ok(Line::Run(run)) => {
            let text = std::str::from_utf8(bytes).expect("it was accepted");
            assert!(!RESERVED.contains(&text), "a reserved word alone is no command");
            let asked = if run.detach { format!("detach {}", run.name) } else { run.name.clone() };
            let printed = run.params.iter().fold(asked, |line, (key, value)| format!("{line} {key}={value}"));
            let sorted = |text: &str| {
                let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                words.sort();
                words
            };
            assert_eq!(sorted(&printed), sorted(text), "it says something else");
            assert_eq!(printed.split(' ').next(), text.split(' ').next(), "another command");
            assert!(run.params.values().all(|value| value_is_sound(value)));
            assert_eq!(parse(printed.as_bytes()), Ok(Line::Run(run)));
        }
        Err(refused) => assert!(refused.to_string().is_ascii()),
    }
});
