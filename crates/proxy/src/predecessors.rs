//! The proxies from which this one took over, as long as they live. What the agent asks here they are asked too: their
//! kept connections must follow the same routes, and a drain is over only when they have nothing in flight there either.
//! Each is reached by a second name of its control socket, which its successor gives it before taking the first.

use crate::{Control, ControlError};
use allod_proto::routes::{PausedApp, ProxyAnswer, ProxyAsk};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long one may take beyond what the ask itself waits for.
const PATIENCE: Duration = Duration::from_secs(4);

/// The control sockets of those that may still live.
#[derive(Debug, Default)]
pub(crate) struct Predecessors(Mutex<Vec<PathBuf>>);

impl Predecessors {
    /// Whoever answers at the control socket's path, before it is bound anew, and those that went before.
    pub(crate) async fn find(control: &Path) -> Self {
        if let Ok(ProxyAnswer::Status(status)) = Control::ask_once(control, &ProxyAsk::Status, PATIENCE).await
            && let Err(error) = fs::hard_link(control, second_name(control, status.pid))
        {
            tracing::warn!(%error, "the proxy of before can't be reached from now on");
        }
        let mut alive = Vec::new();
        for path in second_names(control) {
            match Control::connect(&path).await {
                Ok(_) => alive.push(path),
                Err(_) => forget(&path),
            }
        }
        Self(Mutex::new(alive))
    }

    /// The apps that they hold back.
    pub(crate) async fn pauses(&self) -> Vec<PausedApp> {
        match self.ask(&ProxyAsk::Status, Duration::ZERO).await {
            Ok(answers) => {
                answers
                    .into_iter()
                    .filter_map(|answer| {
                        if let ProxyAnswer::Status(status) = answer { Some(status.paused) } else { None }
                    })
                    .flatten()
                    .collect()
            }
            Err(error) => {
                tracing::warn!(error, "a proxy of before does not tell which apps are paused");
                Vec::new()
            }
        }
    }

    /// Passes an ask on to all at once. One that has ended has no say, as nothing that it served is left.
    pub(crate) async fn ask(&self, ask: &ProxyAsk, waits: Duration) -> Result<Vec<ProxyAnswer>, String> {
        let paths = self.lock().clone();
        let mut asking: Vec<_> = paths
            .into_iter()
            .map(|path| Box::pin(async move { (one(&path, ask, waits).await, path) }))
            .collect();
        let mut answers = Vec::new();
        // They wait side by side: each is polled while the first is awaited.
        while !asking.is_empty() {
            let (at, (answer, path)) = first_of(&mut asking).await;
            drop(asking.swap_remove(at));
            match answer? {
                Some(answer) => answers.push(answer),
                None => {
                    self.lock().retain(|known| *known != path);
                    forget(&path);
                }
            }
        }
        Ok(answers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn first_of<F: Future + Unpin>(futures: &mut [F]) -> (usize, F::Output) {
    std::future::poll_fn(|cx| {
        for (at, future) in futures.iter_mut().enumerate() {
            if let std::task::Poll::Ready(done) = std::pin::Pin::new(future).poll(cx) {
                return std::task::Poll::Ready((at, done));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// The answer of one; `None` when it has ended.
async fn one(path: &Path, ask: &ProxyAsk, waits: Duration) -> Result<Option<ProxyAnswer>, String> {
    match Control::ask_once(path, ask, waits.saturating_add(PATIENCE)).await {
        Ok(ProxyAnswer::Failed { message }) => Err(format!("the proxy that is retiring: {message}")),
        Ok(answer) => Ok(Some(answer)),
        Err(ControlError::Socket { source, .. }) if has_ended(&source) => Ok(None),
        Err(error) => Err(format!("the proxy that is retiring: {error}")),
    }
}

fn has_ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotFound | UnexpectedEof)
}

fn second_name(control: &Path, pid: u32) -> PathBuf {
    let mut name = control.as_os_str().to_owned();
    name.push(format!(".{pid}"));
    name.into()
}

/// The second names that there are, whoever has them.
fn second_names(control: &Path) -> Vec<PathBuf> {
    let folder = control.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let name = control.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_second = |file: &fs::DirEntry| {
        let file = file.file_name();
        let rest = file.to_str().and_then(|file| file.strip_prefix(&name)?.strip_prefix('.'));
        rest.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
    };
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter(is_second).map(|file| file.path()).collect()
}

fn forget(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "the socket of a proxy that has ended is still there");
    }
}
