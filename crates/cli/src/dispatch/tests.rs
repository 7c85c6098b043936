use super::*;

fn explained(line: &[&str]) -> Failure {
    let error = Arguments::try_parse_from(line).unwrap_err();
    usage(&error)
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_fault_of_one_line() {
    let failure = explained(&["allod", "servers", "frobnicate"]);
    assert_eq!(failure.exit, 2);
    assert_eq!(failure.fault.message, "unrecognized subcommand 'frobnicate'");
    assert!(!failure.fault.hint.as_deref().unwrap_or_default().contains('\n'));
    let failure = explained(&["allod", "servers", "remove"]);
    assert!(
        failure.fault.message.starts_with("the following required arguments were not provided"),
        "{failure:?}"
    );
}
