use super::*;
use std::{cell::RefCell, pin::Pin, process::Stdio, rc::Rc};
use tokio::sync::mpsc;

/// Starts shell scripts.
struct Scripts {
    of: fn(Program) -> &'static str,
    starts: Rc<RefCell<Vec<Program>>>,
    /// What lacks something.
    without: Rc<RefCell<Vec<Program>>>,
}

impl Launch for Scripts {
    fn renew(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn may_start(&self, program: Program) -> bool {
        !self.without.borrow().contains(&program)
    }

    #[expect(clippy::disallowed_methods, reason = "the test runs real processes")]
    fn launch(&mut self, program: Program) -> io::Result<Child> {
        self.starts.borrow_mut().push(program);
        let script = (self.of)(program);
        if script.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut command = std::process::Command::new("/bin/sh");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.args(["-c", script]).stdin(Stdio::null());
        tokio::process::Command::from(command).kill_on_drop(true).spawn()
    }
}

type Seen<T> = Rc<RefCell<Vec<T>>>;

fn supervise(of: fn(Program) -> &'static str) -> (Supervisor<Scripts>, Seen<Program>, Seen<Event>) {
    let (starts, events) = (Seen::<Program>::default(), Seen::<Event>::default());
    let launch = Scripts { of, starts: Rc::clone(&starts), without: Rc::default() };
    let seen = Rc::clone(&events);
    let tell = move |event| seen.borrow_mut().push(event);
    (Supervisor::new(launch, &Program::WITHOUT_NODES, tell), starts, events)
}

async fn until(done: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(60), async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it happens within a minute");
}

fn count(starts: &Seen<Program>, program: Program) -> usize {
    starts.borrow().iter().filter(|started| **started == program).count()
}

fn kill(supervisor: &Supervisor<Scripts>, program: Program) {
    let part = supervisor.parts.iter().find(|part| part.program == program).unwrap();
    part.signal(Signal::KILL);
}

fn pid(supervisor: &Supervisor<Scripts>, program: Program) -> u32 {
    supervisor.running().into_iter().find(|(running, _)| *running == program).unwrap().1
}

/// Whether this process has come as far as to catch or ignore it: `SigCgt` and `SigIgn` in proc(5).
fn hears(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let sets =
        status.lines().filter_map(|line| line.strip_prefix("SigCgt:").or(line.strip_prefix("SigIgn:")));
    let bit = 1_u64 << (signal.as_raw() - 1);
    sets.map(|set| u64::from_str_radix(set.trim(), 16).unwrap()).any(|set| set & bit != 0)
}

const SLEEP: &str = "exec sleep 1000";

#[tokio::test]
async fn a_program_that_cannot_be_started_does_not_keep_the_others_from_running() {
    let (mut supervisor, starts, events) =
        supervise(|program| if program == Program::Hub { "" } else { SLEEP });
    supervisor.run_until(until(|| count(&starts, Program::Hub) >= 3)).await;
    let could_not = |event: &Event| matches!(event, Event::CouldNotStart { program: Program::Hub, .. });
    assert!(events.borrow().iter().filter(|event| could_not(event)).count() >= 3);
    assert_eq!(supervisor.running().len(), 3);
}

#[tokio::test]
async fn a_crashed_program_is_started_again_and_the_others_are_left_alone() {
    let (mut supervisor, starts, events) = supervise(|_| SLEEP);
    supervisor.run_until(until(|| starts.borrow().len() == 4)).await;
    assert_eq!(*starts.borrow(), Program::WITHOUT_NODES);
    kill(&supervisor, Program::Proxy);
    supervisor.run_until(until(|| starts.borrow().len() == 5)).await;
    assert_eq!(count(&starts, Program::Proxy), 2);
    let ended = Event::Ended {
        program: Program::Proxy,
        how: "signal 9".to_owned(),
        again_in: Duration::from_millis(100),
    };
    assert!(events.borrow().contains(&ended), "{:?}", events.borrow());
}

#[tokio::test]
async fn when_the_executor_dies_the_agent_is_started_anew_after_it() {
    let (mut supervisor, starts, _) = supervise(|_| SLEEP);
    supervisor.run_until(until(|| starts.borrow().len() == 4)).await;
    kill(&supervisor, Program::Executor);
    supervisor.run_until(until(|| starts.borrow().len() == 6)).await;
    assert_eq!(starts.borrow().get(4..), Some(&[Program::Executor, Program::Agent][..]));
}

#[tokio::test]
async fn an_agent_that_ignores_the_wish_to_end_is_killed_when_its_executor_died() {
    let (mut supervisor, starts, _) = supervise(|program| match program {
        Program::Agent => "trap '' TERM; while :; do sleep 0.1; done",
        _ => SLEEP,
    });
    supervisor.run_until(until(|| starts.borrow().len() == 4)).await;
    let agent = pid(&supervisor, Program::Agent);
    supervisor.run_until(until(|| hears(agent, Signal::TERM))).await;
    kill(&supervisor, Program::Executor);
    supervisor.run_until(until(|| count(&starts, Program::Agent) == 2)).await;
}

#[tokio::test]
async fn what_lacks_something_is_not_started_before_it_is_there() {
    let (mut supervisor, starts, events) = supervise(|_| SLEEP);
    let without = Rc::clone(&supervisor.launch.without);
    without.borrow_mut().push(Program::Hub);
    supervisor.run_until(until(|| starts.borrow().len() == 3)).await;
    assert_eq!(count(&starts, Program::Hub), 0);
    assert!(!events.borrow().iter().any(|event| matches!(event, Event::CouldNotStart { .. })));
    without.borrow_mut().clear();
    supervisor.run_until(until(|| count(&starts, Program::Hub) == 1)).await;
}

#[tokio::test]
async fn everything_is_stopped_in_order() {
    let (mut supervisor, starts, events) = supervise(|_| SLEEP);
    supervisor.run_until(until(|| starts.borrow().len() == 4)).await;
    let (_raise, interrupts) = Interrupts::by_hand();
    events.borrow_mut().clear();
    supervisor.stop(&interrupts).await;
    let order = Program::LAST_TO_FIRST.into_iter().filter(|program| Program::WITHOUT_NODES.contains(program));
    let order: Vec<_> = order.map(|program| Event::Stopping { program }).collect();
    assert_eq!(*events.borrow(), order);
    assert!(supervisor.running().is_empty());
}

#[tokio::test]
async fn a_second_interrupt_kills_what_does_not_end() {
    let (mut supervisor, starts, events) = supervise(|program| match program {
        Program::Executor => "trap '' TERM; while :; do sleep 0.1; done",
        _ => SLEEP,
    });
    supervisor.run_until(until(|| starts.borrow().len() == 4)).await;
    let executor = pid(&supervisor, Program::Executor);
    supervisor.run_until(until(|| hears(executor, Signal::TERM))).await;
    let (raise, interrupts) = Interrupts::by_hand();
    raise.send_replace(2);
    supervisor.stop(&interrupts).await;
    assert!(events.borrow().contains(&Event::Killed { program: Program::Executor }));
    assert!(supervisor.running().is_empty());
}

const RETIRES: &str = "trap 'exit 0' QUIT; while :; do sleep 0.05; done";

fn is_proxy(program: Program) -> &'static str {
    if program == Program::Proxy { RETIRES } else { SLEEP }
}

fn not_replaced(events: &Seen<Event>) -> usize {
    events.borrow().iter().filter(|event| matches!(event, Event::NotReplaced { .. })).count()
}

#[tokio::test]
async fn a_successor_that_does_not_become_ready_is_killed_and_the_old_one_goes_on() {
    let (mut supervisor, starts, events) = supervise(is_proxy);
    let (wish, wishes) = mpsc::unbounded_channel();
    let tried = Seen::<u32>::default();
    let seen = Rc::clone(&tried);
    let probe = move |pid| {
        seen.borrow_mut().push(pid);
        Box::pin(async { Err("no answer".to_owned()) }) as Pin<Box<dyn Future<Output = _>>>
    };
    supervisor.replace_proxy_at(wishes, Box::new(probe));
    supervisor.run_until(until(|| starts.borrow().len() == 4)).await;
    let before = supervisor.running();
    wish.send(()).unwrap();
    supervisor.run_until(until(|| not_replaced(&events) == 1)).await;
    assert_eq!(supervisor.running(), before);
    let pid = Pid::from_raw(i32::try_from(tried.borrow()[0]).unwrap()).unwrap();
    supervisor.run_until(until(|| rustix::process::test_kill_process(pid).is_err())).await;
    let why = Event::NotReplaced { program: Program::Proxy, why: "no answer".to_owned() };
    assert!(events.borrow().contains(&why), "{:?}", events.borrow());
}

#[tokio::test]
async fn a_successor_that_is_ready_takes_the_place_and_the_old_one_retires() {
    let (mut supervisor, starts, events) = supervise(is_proxy);
    let (wish, wishes) = mpsc::unbounded_channel();
    supervisor.replace_proxy_at(wishes, Box::new(|_| Box::pin(async { Ok(()) })));
    supervisor.run_until(until(|| starts.borrow().len() == 4)).await;
    let (before, proxy) = (supervisor.running(), pid(&supervisor, Program::Proxy));
    // Its script must have come as far as to hear the signal.
    supervisor.run_until(until(|| hears(proxy, Signal::QUIT))).await;
    wish.send(()).unwrap();
    let retired = |event: &Event| matches!(event, Event::Retired { program: Program::Proxy, .. });
    supervisor.run_until(until(|| events.borrow().iter().any(retired))).await;
    let after = supervisor.running();
    let of = |all: &[(Program, u32)], program| all.iter().find(|(p, _)| *p == program).map(|(_, pid)| *pid);
    assert_ne!(of(&before, Program::Proxy), of(&after, Program::Proxy));
    assert_eq!(of(&before, Program::Agent), of(&after, Program::Agent));
    assert!(!events.borrow().iter().any(|event| matches!(event, Event::Ended { .. })));
    assert_eq!(count(&starts, Program::Proxy), 2);
}
