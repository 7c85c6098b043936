//! Whether a runtime that an app needs is on this server, looked at as the agent's own user: the program in `PATH`, and
//! what it answers to `--version`. What is missing is said with how to get it.

use allod_proto::{
    messages::app::Obstacle,
    spec::{RuntimeSpec, SEARCH_PATH},
};
use std::{
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of what it tells is read.
const ANSWER: usize = 4096;
/// The longest name of a runtime.
const NAME: usize = 64;

/// The version of the runtime that is here. Blocking, for as long as [`PATIENCE`].
///
/// # Errors
/// An [`Obstacle`] about `runtime`: it is not here, does not answer, or has another version.
pub(crate) fn check(runtime: &RuntimeSpec) -> Result<String, Obstacle> {
    check_in(runtime, SEARCH_PATH, PATIENCE)
}

fn check_in(runtime: &RuntimeSpec, search: &str, patience: Duration) -> Result<String, Obstacle> {
    let name = &runtime.name;
    if !is_name(name) {
        return Err(obstacle(
            "the runtime's name is not that of a program".to_owned(),
            "write it like node@22",
        ));
    }
    let fix = how_to_install(name);
    let Some(program) = find(name, search) else {
        return Err(obstacle(format!("{name} is not on this server (looked in {search})"), &fix));
    };
    let said = match ask(&program, search, patience) {
        Ok(said) => said,
        Err(why) => {
            return Err(obstacle(format!("{} does not tell its version: {why}", program.display()), &fix));
        }
    };
    let Some(found) = version_in(&said) else {
        return Err(obstacle(format!("{} does not tell its version", program.display()), &fix));
    };
    match &runtime.version {
        Some(wanted) if !matches(&found, wanted) => Err(obstacle(
            format!("{name} {wanted} is wanted; this server has {found} at {}", program.display()),
            &fix,
        )),
        _ => Ok(found),
    }
}

fn obstacle(message: String, fix: &str) -> Obstacle {
    Obstacle { about: "runtime".to_owned(), message, fix: Some(fix.to_owned()) }
}

/// A name comes from a caller's file: it may name a program in `PATH` and nothing else.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+');
    name.len() <= NAME
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

fn find(name: &str, search: &str) -> Option<PathBuf> {
    let places = search.split(':').filter(|place| place.starts_with('/'));
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.mode() & 0o111 != 0)
    };
    places.map(|place| Path::new(place).join(name)).find(is_program)
}

/// What the program says of itself. It gets nothing of the agent's environment, and is killed when it takes too long.
#[expect(
    clippy::disallowed_methods,
    reason = "asking a runtime for its version is the one program the agent runs"
)]
fn ask(program: &Path, search: &str, patience: Duration) -> Result<String, String> {
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("PATH", search)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdout = child.stdout.take().ok_or("it has no output")?;
    match wait(&mut child, patience) {
        Some(status) if status.success() => {
            let mut said = vec![0; ANSWER];
            // Without waiting: a child of its own may hold the pipe open for ever.
            rustix::io::ioctl_fionbio(&stdout, true).map_err(|error| error.to_string())?;
            let size = stdout.read(&mut said).map_err(|error| error.to_string())?;
            said.truncate(size);
            Ok(String::from_utf8_lossy(&said).into_owned())
        }
        Some(status) => Err(status.to_string()),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(format!("it took longer than {patience:?}"))
        }
    }
}

/// How a program ended, if it did in time. One that prints more than a pipe holds does not.
fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    while begun.elapsed() < patience {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(pause);
        pause = pause.saturating_mul(2).min(Duration::from_millis(50));
    }
    None
}

/// The first word that looks like a version: `v22.3.1`, `3.12.4`, `go1.22`.
fn version_in(said: &str) -> Option<String> {
    said.split_ascii_whitespace().find_map(|word| {
        let version = word.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let version: String = version
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '+'))
            .collect();
        let numbered = version.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        (numbered && version.len() <= NAME).then_some(version)
    })
}

/// `22` is matched by `22.3.1` and not by `220`.
fn matches(found: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_start_matches('v');
    let rest = found.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// How to get a runtime on Debian.
fn how_to_install(name: &str) -> String {
    let package = match name {
        "node" | "npm" | "npx" => "nodejs npm",
        "python" | "python3" | "pip" | "pip3" => "python3 python3-venv",
        "php" => "php-cli",
        "ruby" | "bundle" => "ruby ruby-bundler",
        "java" => "default-jre-headless",
        "go" => "golang-go",
        "bun" => {
            return "install bun for all users, as /usr/local/bin/bun (Debian has no package of it)"
                .to_owned();
        }
        "deno" => {
            return "install deno for all users, as /usr/local/bin/deno (Debian has no package of it)"
                .to_owned();
        }
        other => return format!("install {other} on the server, in one of the folders of {SEARCH_PATH}"),
    };
    format!("on the server, as root: apt install {package}; another version goes to /usr/local/bin")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn runtime(name: &str, version: &str) -> RuntimeSpec {
        RuntimeSpec { name: name.to_owned(), version: Some(version.to_owned()) }
    }

    fn with_program(name: &str, text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let search = format!("relative:{}:/bin", folder.path().display());
        (folder, search)
    }

    #[test]
    fn a_name_that_leads_out_of_the_search_path_is_refused() {
        for name in ["", "../bin/sh", "/bin/sh", "-c", ".", "..", "a b", "no\nde", &"a".repeat(65)] {
            let obstacle = check(&runtime(name, "1")).unwrap_err();
            assert!(obstacle.message.contains("not that of a program"), "{name:?}: {obstacle:?}");
        }
    }

    #[test]
    fn what_is_missing_fails_hangs_or_says_nothing_is_an_obstacle_with_a_fix() {
        let missing = check(&runtime("no-such-runtime", "1")).unwrap_err();
        assert!(missing.message.contains("not on this server") && missing.fix.is_some(), "{missing:?}");
        for (text, reason) in [
            ("#!/bin/sh\nexit 3\n", "exit status: 3"),
            ("#!/bin/sh\necho hello\n", "does not tell its version"),
            ("#!/bin/sh\nexec sleep 1000\n", "took longer"),
            ("#!/nowhere\n", "does not tell its version"),
        ] {
            let (_folder, search) = with_program("node", text);
            let short = Duration::from_millis(300);
            let obstacle = check_in(&runtime("node", "22"), &search, short).unwrap_err();
            assert!(obstacle.message.contains(reason), "{obstacle:?}");
            assert!(obstacle.fix.unwrap().contains("apt install nodejs"));
        }
    }

    #[test]
    fn the_version_must_begin_as_wanted_and_end_a_number_there() {
        let (_folder, search) = with_program("node", "#!/bin/sh\necho v22.3.1\necho more\n");
        let check = |version: &str| check_in(&runtime("node", version), &search, Duration::from_secs(20));
        for good in ["22", "v22", "22.3", "22.3.1"] {
            assert_eq!(check(good).unwrap(), "22.3.1");
        }
        for bad in ["2", "20", "22.30", "22.3.1.1", "222"] {
            let obstacle = check(bad).unwrap_err();
            assert!(obstacle.message.contains(bad) && obstacle.message.contains("22.3.1"), "{obstacle:?}");
        }
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("Python 3.12.4", Some("3.12.4")),
            ("go version go1.22.1 linux/amd64", Some("1.22.1")),
            ("1.1.8\n", Some("1.1.8")),
            ("ruby 3.3.0p0 (2023-12-25)", Some("3.3.0p0")),
            ("nothing here", None),
            ("", None),
        ] {
            assert_eq!(version_in(said).as_deref(), version, "{said}");
        }
    }
}
