use super::*;
use allod_proto::{Role, messages::app::AppStatusGet, messages::keys::KeysList};
use allod_signing::AppPattern;
use proptest::prelude::*;

fn patterns(texts: &[&str]) -> Option<Vec<AppPattern>> {
    Some(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn status_of(app: &str) -> Command {
    Command::AppStatus(AppStatusGet { app: app.parse().unwrap() })
}

#[test]
fn a_lower_role_is_denied_and_told_which_it_takes() {
    let caller = Caller::fixture(Role::Deployer, None, None);
    let denied = authorize(&caller, &Command::KeysList(KeysList {})).unwrap_err();
    assert_eq!(
        denied,
        Denied::Role { have: Role::Deployer, needs: Role::Operator, command: CommandName::KeysList }
    );
}

#[test]
fn a_key_narrowed_to_an_app_sees_no_other() {
    let caller = Caller::fixture(Role::Owner, patterns(&["blog/*"]), None);
    assert!(authorize(&caller, &status_of("blog/staging")).is_ok());
    assert!(matches!(authorize(&caller, &status_of("shop")), Err(Denied::App { .. })));
    assert!(matches!(authorize(&caller, &Command::KeysList(KeysList {})), Err(Denied::Whole { .. })));
}

#[test]
fn a_key_narrowed_to_a_command_may_call_nothing_else() {
    let caller = Caller::fixture(Role::Owner, None, Some(vec!["app.status".to_owned()]));
    assert!(authorize(&caller, &status_of("blog")).is_ok());
    assert!(matches!(authorize(&caller, &Command::KeysList(KeysList {})), Err(Denied::Command { .. })));
}

#[test]
fn the_role_of_a_machine_may_only_look_at_itself() {
    let caller = Caller::fixture(Role::Caller, None, None);
    let may: Vec<_> = CommandName::ALL
        .iter()
        .filter(|name| allowed(&caller, **name, None).is_ok())
        .map(|n| n.as_str())
        .collect();
    assert_eq!(
        may,
        [
            "hello",
            "server_info",
            "keys.can",
            "command.run",
            "command.output",
            "command.cancel",
            "command.runs",
            "command.list"
        ]
    );
}

proptest! {
    /// Row M13: for every command, role and app, listed if and only if accepted.
    #[test]
    fn what_is_listed_is_what_is_enforced(role in 0usize..5, narrowed in any::<bool>(), own in any::<bool>()) {
        let caller = Caller::fixture(Role::ALL[role], if narrowed { patterns(&["blog"]) } else { None }, None);
        let app: AppRef = if own { "blog" } else { "shop" }.parse().unwrap();
        for name in CommandName::ALL {
            let listed = allowed(&caller, *name, None).is_ok();
            let accepted = allowed(&caller, *name, Some(&app)).is_ok();
            if name.scope() == Scope::App && name.kind() != Kind::Probe {
                prop_assert_eq!(accepted, listed && (!narrowed || own));
            } else if own || !narrowed {
                prop_assert_eq!(accepted, listed);
            }
        }
    }
}
