//! The build command: runs here, in the app's folder, with its output on stderr.

use crate::{failure::Failure, session::Session};
use allod_proto::FaultCode;
use std::{path::Path, process::Stdio};

/// Runs it to its end.
pub(super) async fn run(session: &Session, folder: &Path, build: &[String]) -> Result<(), Failure> {
    let shown = build.join(" ");
    let Some((program, arguments)) = build.split_first() else { return Ok(()) };
    session.output.note(&format!("building: {shown}"));
    // A program of the folder is meant from the folder, wherever this command was started.
    let program = match program.contains('/') {
        true => std::path::absolute(folder.join(program)).unwrap_or_else(|_| program.into()),
        false => program.into(),
    };
    let mut command = tokio::process::Command::new(program);
    // stdout is for the result of the deploy.
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .kill_on_drop(true);
    let status = command.status().await.map_err(|error| {
        Failure::usage(format!("the build command {shown:?} can't be run: {error}"))
            .hint("it runs here, in the folder of allod.toml; is the program installed?")
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(
        FaultCode::Internal,
        format!("the build command {shown:?} failed: {status}; nothing was deployed"),
    )
    .hint("what it said is above"))
}

#[cfg(test)]
mod tests {
    use crate::{
        arguments::Globals,
        output::{Output, Surroundings},
        session::Session,
        settings::Settings,
    };
    use std::sync::Arc;

    async fn built(build: &[&str]) -> Result<(), crate::failure::Failure> {
        let home = tempfile::tempdir().unwrap();
        let settings =
            Settings::from_lookup(|name| (name == "ALLOD_HOME").then(|| home.path().into())).unwrap();
        let output =
            Output::to(false, Surroundings::default(), Box::new(std::io::sink()), Box::new(std::io::sink()));
        let session = Session::new(settings, Globals::default(), Arc::new(output));
        std::fs::write(home.path().join("here"), "").unwrap();
        let build: Vec<String> = build.iter().map(|&word| word.to_owned()).collect();
        super::run(&session, home.path(), &build).await
    }

    #[tokio::test]
    async fn a_build_that_fails_ends_the_deploy_and_names_the_command() {
        let failed = built(&["sh", "-c", "exit 7"]).await.unwrap_err();
        assert_eq!(failed.exit, 1);
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
