//! The program of an instance: exactly the declared environment, and no descriptor but its three standard ones and, if it has
//! secrets, the sealed memory with them.

use super::{
    order::Order,
    program::{PASSED_FD, Program},
    tree,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The program of an order takes this one's place.
///
/// # Errors
/// Returns only a sentence that names the program and says why it can't run.
pub(super) fn take_over(order: &Order, out: &OwnedFd, err: &OwnedFd) -> String {
    let name = order.argv.first().map_or("", String::as_str);
    let path = match find(order) {
        Ok(path) => path,
        Err(why) => return why,
    };
    let prepared = File::open("/dev/null").and_then(|null| Ok((null, secrets_descriptor(order)?)));
    let (null, passed) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return format!("can't hand over secrets: {error}"),
    };
    let number = PASSED_FD.to_string();
    let plain = order.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let secret = order.secret_env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut env: BTreeMap<&str, &str> = plain.chain(secret).collect();
    env.extend(order.tmp.to_str().map(|tmp| ("TMPDIR", tmp)));
    env.extend(order.notify.as_deref().map(|notify| ("NOTIFY_SOCKET", notify)));
    env.extend(passed.as_ref().map(|_| ("ALLOD_SECRETS_FD", number.as_str())));
    let program = Program {
        path: &path,
        argv: order.argv.iter().map(String::as_str).collect(),
        env,
        directory: &order.cwd,
        user: None,
        stdin: null.into(),
        passed,
    };
    why(name, &path, order, &program.take_over(out, err))
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
    match (error.kind(), error.raw_os_error()) {
        (_, Some(code)) if code == Errno::NOEXEC.raw_os_error() => {
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
