//! Starting the program: exactly the declared environment, its own process group, and no descriptor but its three
//! standard ones and, if it has secrets, the sealed memory with them.

use super::{
    order::{Order, Running},
    tree,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use command_fds::{CommandFdExt as _, FdMapping};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::{
    fs::File,
    io::{self, PipeReader, Seek as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use zeroize::Zeroizing;

/// The descriptor that the secrets are on.
const SECRETS_FD: i32 = 3;

/// What runs, and the two streams of what it prints.
pub(super) struct Launched {
    pub(super) running: Running,
    pub(super) out: PipeReader,
    pub(super) err: PipeReader,
}

/// Starts the program of an order. What is secret in it is wiped, whatever comes of it.
///
/// # Errors
/// A sentence that names the program and says why it can't run.
pub(super) fn launch(order: &mut Order, notify: Option<&str>) -> Result<Launched, String> {
    let name = order.argv.first().cloned().unwrap_or_default();
    let program = find(order)?;
    let secrets = secrets_descriptor(order).map_err(|error| format!("can't hand over secrets: {error}"))?;
    let pipes = || -> io::Result<_> { Ok((io::pipe()?, io::pipe()?)) };
    let ((out, out_end), (err, err_end)) = pipes().map_err(|error| format!("can't make pipes: {error}"))?;
    #[expect(clippy::disallowed_methods, reason = "here an app's program truly begins")]
    let mut command = Command::new(&program);
    command
        .arg0(&name)
        .args(order.argv.iter().skip(1))
        .current_dir(&order.cwd)
        .env_clear()
        .envs(&order.env)
        .envs(order.secret_env.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .env("TMPDIR", &order.tmp)
        .stdin(Stdio::null())
        .stdout(out_end)
        .stderr(err_end)
        .process_group(0);
    if let Some(notify) = notify {
        command.env("NOTIFY_SOCKET", notify);
    }
    if let Some(parent_fd) = secrets {
        command.env("ALLOD_SECRETS_FD", SECRETS_FD.to_string());
        command
            .fd_mappings(vec![FdMapping { parent_fd, child_fd: SECRETS_FD }])
            .map_err(|error| format!("can't hand over secrets: {error}"))?;
    }
    order.secrets.clear();
    order.secret_env.clear();
    let child = command.spawn().map_err(|error| why(&name, &program, order, &error))?;
    let pid = child.id();
    // It can't have been collected yet: only this program does that, and not before this returns.
    let start = tree::stat(pid).map_or(0, |stat| stat.start);
    Ok(Launched { running: Running { pid, start }, out, err })
}

/// The program's file: below the release's folder when its name has a `/`, in `PATH` otherwise.
fn find(order: &Order) -> Result<PathBuf, String> {
    let name = order.argv.first().filter(|name| !name.is_empty()).ok_or("there is no program to start")?;
    if !order.cwd.is_dir() {
        return Err("the release's folder is not there".to_owned());
    }
    if name.contains('/') {
        let relative = Path::new(name);
        let climbs = relative.components().any(|part| part == std::path::Component::ParentDir);
        if relative.is_absolute() || climbs {
            return Err(format!("{name}: a program with a / in its name must be below the release's folder"));
        }
        let path = order.cwd.join(relative);
        return match std::fs::metadata(&path) {
            Ok(facts) if !facts.is_file() => Err(format!("{name} is not a file")),
            Ok(_) if !tree::is_program(&path) => {
                Err(format!("{name} is not executable: chmod +x it before deploying"))
            }
            Ok(_) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{name} was not found in the release"))
            }
            Err(error) => Err(format!("{name}: {error}")),
        };
    }
    let search = order.env.get("PATH").map_or("", String::as_str);
    let mut places =
        search.split(':').filter(|place| place.starts_with('/')).map(|place| Path::new(place).join(name));
    places.find(|path| tree::is_program(path)).ok_or_else(|| {
        format!(
            "{name} was not found on this server (looked in {search}); write ./{name} for one in the release"
        )
    })
}

/// What an error of the start means.
fn why(name: &str, program: &Path, order: &Order, error: &io::Error) -> String {
    const ENOEXEC: i32 = 8;
    match (error.kind(), error.raw_os_error()) {
        (_, Some(ENOEXEC)) => {
            format!(
                "{name} is not a program for this machine ({}), or a script without a #! line",
                std::env::consts::ARCH
            )
        }
        // The file is there, so what is missing is what the system needs to run it.
        (io::ErrorKind::NotFound, _) => format!(
            "{name} can't run: {} is not on this server",
            interpreter(program).unwrap_or_else(|| "the loader it was linked for".to_owned())
        ),
        (io::ErrorKind::PermissionDenied, _) => format!("{name} may not be run by the app's user ({error})"),
        (io::ErrorKind::ArgumentListTooLong, _) => "arguments and environment are too large".to_owned(),
        (io::ErrorKind::InvalidInput, _) => format!("{name}: an argument or a variable has a NUL byte"),
        _ => format!("{name} can't be started in {}: {error}", order.cwd.display()),
    }
}

/// The interpreter that a script's first line names.
fn interpreter(program: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut head = Vec::new();
    File::open(program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).split_ascii_whitespace().next()?.to_owned())
}

/// Sealed memory with the secrets as one JSON object; `None` when there are none.
fn secrets_descriptor(order: &Order) -> io::Result<Option<OwnedFd>> {
    if order.secrets.is_empty() {
        return Ok(None);
    }
    let json = secrets_json(order)?;
    let memory = memfd_create("secrets", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(&json)?;
    file.rewind()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(Some(file.into()))
}

/// `{"NAME":"text"}`, or `{"NAME":{"base64":"…"}}` for a value that is not UTF-8.
fn secrets_json(order: &Order) -> io::Result<Zeroizing<Vec<u8>>> {
    // Never grows: text in JSON is at most six times as long.
    let most: usize =
        order.secrets.values().map(|value| value.len().saturating_mul(6).saturating_add(100)).sum();
    let mut json = Zeroizing::new(Vec::with_capacity(most));
    let mut open = b'{';
    for (name, encoded) in &order.secrets {
        json.push(open);
        open = b',';
        serde_json::to_writer(&mut *json, name)?;
        json.push(b':');
        let value = Zeroizing::new(STANDARD.decode(encoded.as_bytes()).map_err(io::Error::other)?);
        match std::str::from_utf8(&value) {
            Ok(text) => serde_json::to_writer(&mut *json, text)?,
            Err(_) => {
                json.extend_from_slice(b"{\"base64\":\"");
                json.extend_from_slice(encoded.as_bytes());
                json.extend_from_slice(b"\"}");
            }
        }
    }
    json.push(b'}');
    Ok(json)
}
