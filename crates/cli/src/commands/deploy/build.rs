//! The build command: runs here, in the app's folder, with its output on stderr.

use super::here::{self, Ended, Here};
use crate::failure::{COMMAND_FAILED, Failure};
use allod_proto::FaultCode;

/// Runs it to its end.
pub(super) async fn run(here: &Here<'_>, build: &[String]) -> Result<(), Failure> {
    let shown = build.join(" ");
    here.session.output.note(&format!("building: {shown}"));
    match here::run(here, build, None).await {
        Ok(Ended::Well) => Ok(()),
        Ok(Ended::Badly(how)) => {
            let message = format!("the build command {shown:?} failed: {how}; nothing was deployed");
            let failure = Failure::new(FaultCode::Internal, message).hint("what it said is above");
            Err(Failure { exit: COMMAND_FAILED, ..failure })
        }
        Ok(Ended::Interrupted) => {
            Err(Failure::interrupted("interrupted during the build; nothing was deployed"))
        }
        Err(error) => Err(Failure::usage(format!("the build command {shown:?} can't be run: {error}"))
            .hint("it runs here, in the folder of allod.toml; is the program installed?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::deploy::here::tests::Stage;

    async fn built(build: &[&str]) -> Result<(), Failure> {
        let stage = Stage::new();
        let build: Vec<String> = build.iter().map(|&word| word.to_owned()).collect();
        run(&stage.here(), &build).await
    }

    #[tokio::test]
    async fn a_build_that_fails_ends_the_deploy_with_a_code_of_its_own_and_names_the_command() {
        let failed = built(&["sh", "-c", "exit 7"]).await.unwrap_err();
        assert_eq!(failed.exit, COMMAND_FAILED);
        assert!(
            failed.fault.message.contains("sh -c exit 7") && failed.fault.message.contains('7'),
            "{failed:?}"
        );
        assert_eq!(built(&["no-such-program-here"]).await.unwrap_err().exit, 2);
    }

    #[tokio::test]
    async fn it_runs_in_the_folder_of_the_app() {
        built(&["test", "-f", "here"]).await.unwrap();
    }
}
