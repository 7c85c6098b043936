use super::*;
use allod_proto::NamedCommandName;
use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn definition(program: &Path, more: &str) -> Definition {
    let text = format!("summary = \"s\"\nexec = [{:?}]\n{more}", program.display().to_string());
    allod_commands::registry::parse(&NamedCommandName::new("x").unwrap(), &text).unwrap()
}

fn real(program: &str) -> PathBuf {
    std::fs::canonicalize(program).unwrap()
}

fn digest_of(program: &Program) -> Digest {
    let file = program.script.as_ref().unwrap_or(&program.executed);
    let mut bytes = Vec::new();
    File::from(file.try_clone().unwrap()).read_to_end(&mut bytes).unwrap();
    Digest::of(&bytes)
}

#[test]
fn a_script_without_an_interpreter_and_an_interpreter_that_is_a_script_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    executable(&script, "#!/bin/sh\ntrue\n");
    let why = take(&definition(&script, "")).unwrap_err();
    assert!(why.message.contains("no interpreter is named"), "{why}");
    let through = format!("interpreter = [{:?}]", script.display().to_string());
    assert!(take(&definition(&script, &through)).unwrap_err().message.contains("itself a script"));
    let shell = format!("interpreter = [{:?}]", real("/bin/sh").display().to_string());
    assert!(take(&definition(&script, &shell)).unwrap().script.is_some());
}

#[test]
fn a_file_that_is_not_the_declared_one_is_refused_with_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    executable(&program, "one");
    let declared = format!("digest = \"sha256:{}\"", Digest::of("one"));
    assert!(take(&definition(&program, &declared)).is_ok());
    executable(&program, "two");
    let why = take(&definition(&program, &declared)).unwrap_err();
    assert_eq!(why.code, FaultCode::Untrusted);
    assert!(why.message.contains(&Digest::of("two").to_string()));
}

#[test]
fn what_is_not_executable_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, "one").unwrap();
    assert!(take(&definition(&program, "")).unwrap_err().message.contains("not executable"));
}

/// X9: swapped by rename and edited in place, as fast as it goes. What was digested is what there is to run, every time.
#[test]
fn x9_ten_thousand_swaps_and_not_one_wrong_program() {
    let folder = tempfile::tempdir().unwrap();
    let (program, other) = (folder.path().join("program"), folder.path().join("other"));
    executable(&program, "good");
    let declared = definition(&program, &format!("digest = \"{}\"", Digest::of("good")));
    let stop = AtomicBool::new(false);
    let (mut right, mut refusals) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                executable(&other, "evil");
                std::fs::rename(&other, &program).unwrap();
                executable(&program, "good and more");
                executable(&other, "good");
                std::fs::rename(&other, &program).unwrap();
            }
        });
        for _ in 0..10_000 {
            match take(&declared) {
                Ok(program) => {
                    assert_eq!(program.digest, Digest::of("good"));
                    assert_eq!(digest_of(&program), Digest::of("good"));
                    right += 1;
                }
                Err(_) => refusals += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(right + refusals, 10_000);
    assert!(right > 0, "it was never there whole");
}

#[test]
fn a_sealed_program_can_not_be_written_and_runs() {
    let program = take(&definition(&real("/bin/echo"), "")).unwrap();
    let mut again = std::fs::OpenOptions::new();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program.executed));
    if let Ok(mut file) = again.write(true).open(&path) {
        assert!(file.write_all(b"x").is_err(), "sealed memory was written");
    }
    #[expect(clippy::disallowed_methods, reason = "the test runs what was sealed")]
    let output = Command::new(&path).arg("said").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, b"said\n");
}
