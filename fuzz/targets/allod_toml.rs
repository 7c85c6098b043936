//! `allod.toml`, in both of its readings.
#![no_main]

use allod_apps::check_spec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(written) = allod_appspec::parse(text) else { return };
    for environment in written.environments() {
        let once = written.resolve(&environment);
        let twice = written.resolve(&environment);
        match (once, twice) {
            (Ok(once), Ok(twice)) => {
                assert_eq!(once.spec, twice.spec, "the same text means two things");
                // What the client sends must be what the server takes.
                assert_eq!(check_spec(&once.spec), Ok(()), "the server refuses what the file may say");
            }
            (Err(once), Err(twice)) => {
                assert!(once.iter().count() > 0);
                assert_eq!(once.iter().count(), twice.iter().count());
            }
            _ => panic!("the same text is right and wrong"),
        }
    }
});
