//! What holds for every command there is.

use allod_cli::arguments::Arguments;
use clap::{Command, CommandFactory as _};

fn every(command: &Command, path: &str, look: &mut impl FnMut(&Command, &str)) {
    look(command, path);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
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

/// Clap keeps one value for an id: `allod keys add KEY` once ended in a panic, because the global `--key` had its id.
#[test]
fn no_command_has_an_argument_with_the_id_of_a_global_one() {
    let root = Arguments::command();
    let globals: Vec<_> =
        root.get_arguments().filter(|it| it.is_global_set()).map(clap::Arg::get_id).collect();
    assert!(!globals.is_empty());
    every(&root, "allod", &mut |command, path| {
        for argument in command.get_arguments().filter(|it| !it.is_global_set()) {
            assert!(
                !globals.contains(&argument.get_id()),
                "{path}: {} is also a global's",
                argument.get_id()
            );
        }
    });
}
