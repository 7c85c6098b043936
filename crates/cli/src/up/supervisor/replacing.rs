//! One program takes over from another without a gap: the successor is started beside it, and only when it is ready the
//! old one is told to retire. A successor that does not become ready is killed, and the old one goes on.

use super::{Event, Launch, Part, Program, State, Supervisor, in_words, signal_group};
use rustix::process::Signal;
use std::{
    future::Future,
    io,
    pin::Pin,
    process::ExitStatus,
    task::{Context, Poll},
};
use tokio::{process::Child, sync::mpsc, time::Instant};

/// Ready when the program with this process id serves; the error says why it does not.
pub(super) type Probe = Box<dyn Fn(u32) -> Pin<Box<dyn Future<Output = Result<(), String>>>>>;

/// What replacing needs, and how far it is.
pub(super) struct Replacing {
    wishes: mpsc::UnboundedReceiver<()>,
    probe: Probe,
    successor: Option<Successor>,
    retiring: Vec<Child>,
}

struct Successor {
    child: Child,
    since: Instant,
    ready: Pin<Box<dyn Future<Output = Result<(), String>>>>,
}

/// What there is to do.
pub(super) enum Step {
    Wished,
    Ready(Result<(), String>),
    Ended(io::Result<ExitStatus>),
    Retired(usize, io::Result<ExitStatus>),
}

impl Replacing {
    /// The next thing to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        for (index, child) in self.retiring.iter_mut().enumerate() {
            if let Poll::Ready(status) = std::pin::pin!(child.wait()).poll(cx) {
                return Poll::Ready(Step::Retired(index, status));
            }
        }
        if let Some(successor) = &mut self.successor {
            if let Poll::Ready(status) = std::pin::pin!(successor.child.wait()).poll(cx) {
                return Poll::Ready(Step::Ended(status));
            }
            return successor.ready.as_mut().poll(cx).map(Step::Ready);
        }
        match self.wishes.poll_recv(cx) {
            Poll::Ready(Some(())) => Poll::Ready(Step::Wished),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Those that retire, when everything ends.
    pub(super) fn take_all(&mut self) -> Vec<Child> {
        let mut all = std::mem::take(&mut self.retiring);
        all.extend(self.successor.take().map(|successor| successor.child));
        all
    }
}

impl<L: Launch> Supervisor<L> {
    /// From now on each wish replaces the proxy.
    pub(in crate::up) fn replace_proxy_at(&mut self, wishes: mpsc::UnboundedReceiver<()>, probe: Probe) {
        self.replacing = Some(Replacing { wishes, probe, successor: None, retiring: Vec::new() });
    }

    pub(super) fn replace(&mut self, step: Step) {
        match step {
            Step::Wished => self.begin_replacing(),
            Step::Ready(Ok(())) => self.take_over(),
            Step::Ready(Err(why)) => self.give_up(why),
            Step::Ended(status) => self.give_up(format!("it ended with {}", in_words(&status))),
            Step::Retired(index, status) => {
                let Some(replacing) = &mut self.replacing else { return };
                drop(replacing.retiring.swap_remove(index));
                (self.tell)(Event::Retired { program: Program::Proxy, how: in_words(&status) });
            }
        }
    }

    fn begin_replacing(&mut self) {
        if self.proxy().is_none_or(|part| part.pid().is_none()) {
            return self.not_replaced("it does not run now; it is started again by itself".to_owned());
        }
        let launched = self.launch.renew().and_then(|()| self.launch.launch(Program::Proxy));
        let child = match launched {
            Ok(child) => child,
            Err(error) => return self.not_replaced(error.to_string()),
        };
        let Some(replacing) = &mut self.replacing else { return };
        let ready = (replacing.probe)(child.id().unwrap_or_default());
        replacing.successor = Some(Successor { child, since: Instant::now(), ready });
    }

    fn take_over(&mut self) {
        let Some(Replacing { successor, .. }) = &mut self.replacing else { return };
        let Some(Successor { child, since, .. }) = successor.take() else { return };
        let pid = child.id().unwrap_or_default();
        let Some(part) = self.parts.iter_mut().find(|part| part.program == Program::Proxy) else { return };
        let running = State::Running { child: Box::new(child), since, replaced_by: None };
        let before = std::mem::replace(&mut part.state, running);
        part.ran_before = true;
        self.pids.borrow_mut().insert(Program::Proxy, pid);
        let mut retiring = None;
        if let (State::Running { child, .. }, Some(replacing)) = (before, &mut self.replacing) {
            retiring = child.id();
            signal_group(retiring, Signal::QUIT);
            replacing.retiring.push(*child);
        }
        (self.tell)(Event::Replaced { program: Program::Proxy, pid, retiring });
    }

    fn give_up(&mut self, why: String) {
        if let Some(successor) = self.replacing.as_mut().and_then(|replacing| replacing.successor.take()) {
            signal_group(successor.child.id(), Signal::KILL);
            tokio::spawn(reap(successor.child));
        }
        self.not_replaced(why);
    }

    fn not_replaced(&mut self, why: String) {
        (self.tell)(Event::NotReplaced { program: Program::Proxy, why });
    }

    fn proxy(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.program == Program::Proxy)
    }
}

async fn reap(mut child: Child) {
    // What SIGKILL has ended has nothing to say.
    let _ = child.wait().await.is_ok();
}
