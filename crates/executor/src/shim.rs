//! The program `allod shim`: one for each instance, as the app's user. It holds pid, log and exit status, so that every
//! other program may die and come back. It has no runtime and few threads, and it knows secrets only until its program
//! has them.

mod command;
mod control;
mod keep;
mod launch;
pub mod launcher;
mod log;
mod notify;
mod once;
pub(crate) mod order;
pub(crate) mod pass;
mod program;
mod reap;
mod setup;
mod state;
pub(crate) mod tree;

use keep::Keeper;
use launcher::Launcher;
use order::{Answer, LARGEST_ORDER, Order, Task};
use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::DirBuilderExt as _, net::UnixListener},
    },
    process::ExitCode,
    thread::{Builder, JoinHandle},
    time::Duration,
};
use zeroize::Zeroizing;

/// What each thread may use of stack: none of them calls deeply.
const STACK: usize = 256 * 1024;

/// The pipes to the starter, and the control socket: they come as the three standard descriptors, which are the only
/// ones that a program may take without `unsafe`.
struct Starter {
    /// The order; it ends when nobody waits for the answer any more.
    order: File,
    answer: File,
    listener: OwnedFd,
}

/// Runs the shim: an order from standard input, an answer to standard output, the listening control socket as standard
/// error. Its arguments and environment mean nothing.
#[must_use]
pub fn main() -> ExitCode {
    setup::close_inherited();
    let Ok(mut starter) = take_starter() else { return ExitCode::FAILURE };
    match obey(&mut starter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = starter.answer.write_all(&line(&Answer::Error(why)));
            ExitCode::FAILURE
        }
    }
}

fn take_starter() -> io::Result<Starter> {
    Ok(Starter {
        order: io::stdin().as_fd().try_clone_to_owned()?.into(),
        answer: io::stdout().as_fd().try_clone_to_owned()?.into(),
        listener: io::stderr().as_fd().try_clone_to_owned()?,
    })
}

fn obey(starter: &mut Starter) -> Result<(), String> {
    let launcher = prepare(starter).map_err(|error| format!("can't prepare: {error}"))?;
    launcher.wait_with(&starter.order)?;
    let mut order =
        read_order(&mut starter.order).map_err(|error| format!("can't read the order: {error}"))?;
    match &order.task {
        Task::Command(_) => command::run(starter, &mut order, launcher),
        Task::Keep { log } => {
            make_temporary(&order)?;
            let log = log.clone();
            keep(starter, &mut order, launcher, log)
        }
        Task::Once { timeout_ms, log } => {
            make_temporary(&order)?;
            let (timeout, log) = (Duration::from_millis(*timeout_ms), log.clone());
            let lifeline =
                starter.order.try_clone().map_err(|error| format!("can't watch the starter: {error}"))?;
            let launched = launcher.launch(&mut order, &[])?;
            let ran = once::finish(launched, &order, timeout, log, lifeline)?;
            // If nobody reads it, nobody waits for it.
            let _ = starter.answer.write_all(&line(&Answer::Ran(ran)));
            Ok(())
        }
    }
}

/// What can be done before there is an order. The starter has put this shim into the program's control group when it lets it
/// go on, and takes it out again when it hears that the launcher is there: no thread is started before that.
fn prepare(starter: &mut Starter) -> io::Result<Launcher> {
    setup::close_to_inspection()?;
    setup::let_go_of_stdio()?;
    setup::confine()?;
    starter.order.read_exact(&mut [0])?;
    let launcher = Launcher::start()?;
    starter.answer.write_all(&line(&Answer::Ready {}))?;
    Ok(launcher)
}

fn make_temporary(order: &Order) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&order.tmp)
        .map_err(|error| format!("can't make the folder for temporary files: {error}"))
}

fn keep(
    starter: &mut Starter,
    order: &mut Order,
    launcher: Launcher,
    log: std::path::PathBuf,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("can't keep the instance: {error}");
    let listener = UnixListener::from(starter.listener.try_clone().map_err(failed)?);
    // Where abstract names are filtered away, an app that doesn't wait for readiness still runs.
    let notify = notify::Notify::bind().ok();
    order.notify = notify.as_ref().map(notify::Notify::variable);
    let launched = launcher.launch(order, &[])?;
    let running = launched.running;
    let keeper = Keeper::begin(launched, log, notify, listener, order).map_err(|error| {
        Keeper::abandon(running);
        failed(error)
    })?;
    // The starter may have died since; another one finds the control socket.
    let _ = starter.answer.write_all(&line(&Answer::Started(running)));
    let null = || File::open("/dev/null");
    if let (Ok(order), Ok(answer)) = (null(), null()) {
        (starter.order, starter.answer) = (order, answer);
    }
    keeper.stay(order);
    Ok(())
}

/// An order: its length as eight bytes, little end first, then its JSON. Read at once, so that nothing of it is copied.
fn read_order(source: &mut impl Read) -> io::Result<Order> {
    let mut length = [0; 8];
    source.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_ORDER {
        return Err(io::Error::other("it is too large"));
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut json = Zeroizing::new(vec![0; length]);
    source.read_exact(&mut json)?;
    serde_json::from_slice(&json).map_err(|_| io::Error::other("it is not one that this version knows"))
}

fn line(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap_or_else(|_| b"{\"error\":\"unknown\"}".to_vec());
    line.push(b'\n');
    line
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).stack_size(STACK).spawn(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(json: &str) -> Vec<u8> {
        [&u64::try_from(json.len()).unwrap().to_le_bytes(), json.as_bytes()].concat()
    }

    #[test]
    fn an_order_that_is_cut_too_large_or_unknown_is_refused_without_being_shown() {
        let torn = framed("{\"canary\":1}");
        for end in 0..torn.len() {
            assert!(read_order(&mut torn.get(..end).unwrap()).is_err());
        }
        let error = read_order(&mut framed("{\"canary\":1}").as_slice()).unwrap_err();
        assert!(!error.to_string().contains("canary"));
        assert!(read_order(&mut u64::MAX.to_le_bytes().as_slice()).is_err());
    }
}
