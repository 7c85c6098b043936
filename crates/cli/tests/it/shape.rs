//! What holds for every command there is.

use allod_cli::arguments::Arguments;
use clap::{Command, CommandFactory as _};

fn every(command: &Command, path: &str, look: &mut impl FnMut(&Command, &str)) {
    look(command, path);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        every(sub, &format!("{path} {}", sub.get_name()), look);
    }
}

#[test]
fn every_command_says_what_it_does_and_gives_an_example() {
    every(&Arguments::command(), "allod", &mut |command, path| {
        assert!(command.get_about().is_some(), "{path} has no sentence");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("Example"), "{path} has no example");
    });
}

#[test]
fn every_flag_says_what_it_does() {
    every(&Arguments::command(), "allod", &mut |command, path| {
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            assert!(argument.get_help().is_some(), "{path}: {} has no sentence", argument.get_id());
        }
    });
}

#[test]
fn the_command_line_is_consistent() {
    Arguments::command().debug_assert();
}
