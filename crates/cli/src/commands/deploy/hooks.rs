//! The commands around a deploy: one before anything is sent, one after every server serves the release.

use super::here::{self, Ended, Here};
use crate::failure::{AFTER_FAILED, COMMAND_FAILED, Failure};
use allod_appspec::Hooks;
use allod_proto::FaultCode;

/// Runs `before_deploy`, if there is one.
///
/// # Errors
/// [`Failure`] when it does not end well: then nothing is deployed.
pub(super) async fn before(here: &Here<'_>, hooks: &Hooks) -> Result<(), Failure> {
    let Some(hook) = &hooks.before else { return Ok(()) };
    run(here, hooks, "before_deploy", hook, COMMAND_FAILED, "nothing was deployed").await
}

/// Runs `after_deploy`, if there is one.
///
/// # Errors
/// [`Failure`] when it does not end well: the release serves all the same.
pub(super) async fn after(here: &Here<'_>, hooks: &Hooks) -> Result<(), Failure> {
    let Some(hook) = &hooks.after else { return Ok(()) };
    run(here, hooks, "after_deploy", hook, AFTER_FAILED, "the release serves").await
}

async fn run(
    here: &Here<'_>,
    hooks: &Hooks,
    name: &str,
    hook: &[String],
    exit: u8,
    became: &str,
) -> Result<(), Failure> {
    let shown = hook.join(" ");
    here.session.output.note(&format!("{name}: {shown}"));
    let how = match here::run(here, hook, Some(hooks.timeout)).await {
        Ok(Ended::Well) => return Ok(()),
        Ok(Ended::Interrupted) => {
            return Err(Failure::interrupted(format!("interrupted during {name}; {became}")));
        }
        Ok(Ended::Badly(how)) => how,
        Err(error) => error.to_string(),
    };
    let failure = Failure::new(FaultCode::Internal, format!("{name} {shown:?} failed: {how}; {became}"));
    Err(Failure { exit, ..failure.hint("it runs here, in the folder of allod.toml; what it said is above") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::deploy::here::tests::Stage;
    use std::time::Duration;

    fn hooks(script: &str, timeout: Duration) -> Hooks {
        let hook: Vec<String> = ["sh", "-c", script].map(str::to_owned).into();
        Hooks { before: Some(hook.clone()), after: Some(hook), timeout }
    }

    #[tokio::test]
    async fn each_has_an_exit_code_of_its_own_and_says_what_became_of_the_deploy() {
        let stage = Stage::new();
        let failing = hooks("exit 3", Duration::from_secs(60));
        let before = before(&stage.here(), &failing).await.unwrap_err();
        assert_eq!(before.exit, COMMAND_FAILED);
        assert!(before.fault.message.contains("exit status: 3; nothing was deployed"), "{before:?}");
        let after = after(&stage.here(), &failing).await.unwrap_err();
        assert_eq!(after.exit, AFTER_FAILED);
        assert!(after.fault.message.contains("exit status: 3; the release serves"), "{after:?}");
    }

    #[tokio::test]
    async fn one_that_hangs_or_is_not_there_fails() {
        let stage = Stage::new();
        let slow = before(&stage.here(), &hooks("sleep 1000", Duration::from_millis(50))).await.unwrap_err();
        assert!(slow.fault.message.contains("longer than 50ms"), "{slow:?}");
        let nowhere =
            Hooks { before: Some(vec!["./nowhere".to_owned()]), ..hooks("", Duration::from_secs(9)) };
        assert_eq!(before(&stage.here(), &nowhere).await.unwrap_err().exit, COMMAND_FAILED);
    }

    #[tokio::test]
    async fn none_is_no_failure() {
        let stage = Stage::new();
        let none = Hooks { before: None, after: None, timeout: Duration::ZERO };
        before(&stage.here(), &none).await.unwrap();
        after(&stage.here(), &none).await.unwrap();
    }
}
