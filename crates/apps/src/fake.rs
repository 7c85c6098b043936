//! A site for tests: scripted instances, faults at any call, cancellation at any call. It keeps account of where requests
//! may go, and remembers every instance that was drained or stopped while they still could.

use crate::{
    probe::{Probe, Tried},
    routes::routes_of,
    site::Site,
};
use allod_proto::{
    AppRef, Digest, Fault, FaultCode, InstanceId, ReleaseId, Timestamp, UnitName,
    executor::{Instance, Release},
    operation::Happening,
    routes::{Route, RoutePattern, RouteTarget},
    spec::{AppSpec, HealthSpec, ProcessSpec, ResourceSpec, StaticSpec, UnitKind, UnitSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How an instance behaves.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub(crate) well_after: Option<Duration>,
    pub(crate) ends_after: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) listens_on: Option<u16>,
    /// Another program answers on its port.
    pub(crate) impostor: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            well_after: Some(Duration::from_millis(300)),
            ends_after: None,
            status: 200,
            location: None,
            listens_on: None,
            impostor: false,
        }
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is not done.
    NotDone,
    /// It is done, and the answer is lost.
    AnswerLost,
}

#[derive(Debug)]
struct Life {
    instance: Instance,
    begun: Instant,
    behaviour: Behaviour,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<String>,
    happened: Vec<Happening>,
    lives: BTreeMap<InstanceId, Life>,
    /// What the proxy serves.
    routes: Vec<Route>,
    /// Where requests may go, as far as anybody outside can know.
    may_go: BTreeSet<SocketAddr>,
    violations: Vec<String>,
    wrong: BTreeMap<usize, Wrong>,
    cancel_at: Option<usize>,
    promoted: bool,
    started: usize,
}

pub(crate) struct Fake {
    state: Mutex<State>,
    cancel: watch::Sender<bool>,
    behaviours: BTreeMap<usize, Behaviour>,
    pub(crate) release_exit: String,
}

pub(crate) fn app() -> AppRef {
    "shop".parse().unwrap()
}

pub(crate) fn unit(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

pub(crate) fn process(instances: u32, health: HealthSpec) -> UnitKind {
    UnitKind::Process(ProcessSpec {
        start: vec!["node".to_owned()],
        instances,
        runtime: None,
        health,
        health_timeout_ms: 30_000,
        drain_ms: 5_000,
        stop_grace_ms: 2_000,
        resources: ResourceSpec::default(),
    })
}

pub(crate) fn http() -> HealthSpec {
    HealthSpec::Http { path: "/health".to_owned(), host: None }
}

fn unit_spec(kind: UnitKind, routes: &[&str]) -> UnitSpec {
    UnitSpec {
        kind,
        routes: routes.iter().map(|route| RoutePattern::parse(route).unwrap()).collect(),
        strip_prefix: false,
        limits: allod_proto::routes::RouteLimits::default(),
    }
}

/// Two `web`, one `worker` and a static `site`.
pub(crate) fn spec() -> AppSpec {
    let units = [
        (unit("web"), unit_spec(process(2, http()), &["shop.example.com"])),
        (unit("worker"), unit_spec(process(1, HealthSpec::Running { for_ms: 2_000 }), &[])),
        (
            unit("site"),
            unit_spec(
                UnitKind::Static(StaticSpec { root: "public".to_owned(), fallback: None }),
                &["example.com"],
            ),
        ),
    ];
    AppSpec {
        app: app(),
        units: units.into_iter().collect(),
        vars: BTreeMap::new(),
        secrets: BTreeMap::new(),
        release_command: Some(vec!["./migrate".to_owned()]),
        keep_releases: 5,
    }
}

pub(crate) fn release(digit: char, spec: AppSpec) -> Release {
    let id: String = std::iter::repeat_n(digit, 12).collect();
    Release {
        files: PathBuf::from("/var/lib/allod/releases").join(&id),
        id: ReleaseId::new(id).unwrap(),
        manifest: Digest::ZERO,
        spec,
        version: None,
        secrets: BTreeMap::new(),
        made_at: Timestamp(0),
        by: "owner".to_owned(),
    }
}

pub(crate) fn instance(of: &str, number: u32, release: &Release) -> Instance {
    let port = u16::try_from(20_000 + number).unwrap();
    Instance {
        id: InstanceId::new(format!("{of}-{number:08x}")).unwrap(),
        app: app(),
        unit: unit(of),
        release: release.id.clone(),
        address: (of == "web").then(|| SocketAddr::from(([127, 0, 0, 1], port))),
        pid: Some(number),
        uid: Some(2_000),
        started_at: Timestamp(u64::from(number)),
        exit: None,
        ended_at: None,
        ready: false,
        listens_on: Vec::new(),
    }
}

impl Fake {
    /// A world in which `serving` serve, of `release`.
    pub(crate) fn new(release: Option<&Release>, serving: &[Instance]) -> Self {
        let routes = release.map_or_else(Vec::new, |release| routes_of(&app(), release, serving, false));
        let begun = Instant::now();
        let lives = serving.iter().map(|instance| {
            let life = Life { instance: instance.clone(), begun, behaviour: Behaviour::default() };
            (instance.id.clone(), life)
        });
        let state = State { lives: lives.collect(), may_go: addresses(&routes), routes, ..State::default() };
        Self {
            state: Mutex::new(state),
            cancel: watch::Sender::new(false),
            behaviours: BTreeMap::new(),
            release_exit: "exit status 0".to_owned(),
        }
    }

    /// The `nth` instance that is started, from 0, behaves like this.
    pub(crate) fn behave(mut self, nth: usize, behaviour: Behaviour) -> Self {
        self.behaviours.insert(nth, behaviour);
        self
    }

    /// The `nth` call, from 0, goes wrong.
    pub(crate) fn wrong(self, nth: usize, wrong: Wrong) -> Self {
        self.state.lock().unwrap().wrong.insert(nth, wrong);
        self
    }

    /// Somebody asks for the end at the `nth` call, from 0.
    pub(crate) fn cancel_at(self, nth: usize) -> Self {
        self.state.lock().unwrap().cancel_at = Some(nth);
        self
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state.lock().unwrap().violations.clone()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let note = |what: &Happening| match what {
            Happening::Note { text } => Some(text.clone()),
            _ => None,
        };
        state.happened.iter().filter_map(note).collect()
    }

    /// Steps as they ended, with what they found.
    pub(crate) fn ended_steps(&self) -> Vec<(&'static str, Option<String>)> {
        let state = self.state.lock().unwrap();
        let ended = |what: &Happening| match what {
            Happening::Ended { step, detail, .. } => Some((step.as_str(), detail.clone())),
            _ => None,
        };
        state.happened.iter().filter_map(ended).collect()
    }

    pub(crate) fn promoted(&self) -> bool {
        self.state.lock().unwrap().promoted
    }

    pub(crate) fn routes(&self) -> Vec<Route> {
        self.state.lock().unwrap().routes.clone()
    }

    /// Instances that run now.
    pub(crate) fn running(&self) -> BTreeSet<InstanceId> {
        let state = self.state.lock().unwrap();
        state
            .lives
            .values()
            .filter(|life| life.exit().is_none())
            .map(|life| life.instance.id.clone())
            .collect()
    }

    /// Counts the call; says what is wrong with it.
    fn call(&self, text: String) -> (usize, Option<Wrong>) {
        let mut state = self.state.lock().unwrap();
        let nth = state.calls.len();
        state.calls.push(text);
        if state.cancel_at == Some(nth) {
            self.cancel.send_replace(true);
        }
        (nth, state.wrong.get(&nth).copied())
    }

    fn gone(&self, address: Option<SocketAddr>, what: &str, id: &str) {
        let mut state = self.state.lock().unwrap();
        if address.is_some_and(|address| state.may_go.contains(&address)) {
            let violation = format!("{what} {id} while requests may go there");
            state.violations.push(violation);
        }
    }
}

impl Life {
    fn exit(&self) -> Option<String> {
        let ended = self.behaviour.ends_after.is_some_and(|after| self.begun.elapsed() >= after);
        self.instance.exit.clone().or_else(|| ended.then(|| "exit status 1".to_owned()))
    }

    fn is_well(&self) -> bool {
        self.exit().is_none() && self.behaviour.well_after.is_some_and(|after| self.begun.elapsed() >= after)
    }
}

fn addresses(routes: &[Route]) -> BTreeSet<SocketAddr> {
    let of = |route: &Route| match &route.target {
        RouteTarget::Instances(upstreams) => upstreams.iter().map(|upstream| upstream.address).collect(),
        RouteTarget::Static { .. } | RouteTarget::Stopped { .. } => Vec::new(),
    };
    routes.iter().flat_map(of).collect()
}

fn fault(wrong: Option<Wrong>) -> Result<(), Fault> {
    wrong.map_or(Ok(()), |_| Err(Fault::new(FaultCode::Unreachable, "no answer from the fake")))
}

impl Site for Fake {
    async fn start(&self, app: &AppRef, unit: &UnitName, release: &Release) -> Result<Instance, Fault> {
        let (nth, wrong) = self.call(format!("start {unit}"));
        fault(wrong)?;
        let mut state = self.state.lock().unwrap();
        let behaviour = self.behaviours.get(&state.started).cloned().unwrap_or_default();
        state.started += 1;
        let mut new = instance(unit.as_str(), 100 + u32::try_from(nth).unwrap(), release);
        assert_eq!(*app, new.app);
        let told = new.address;
        new.listens_on = match (behaviour.listens_on, told) {
            (Some(port), _) => vec![SocketAddr::from(([127, 0, 0, 1], port))],
            (None, Some(address)) => vec![address],
            (None, None) => Vec::new(),
        };
        let life = Life { instance: new.clone(), begun: Instant::now(), behaviour };
        state.lives.insert(new.id.clone(), life);
        Ok(new)
    }

    async fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), Fault> {
        let (_, wrong) = self.call(format!("stop {} {}", instance.id, grace.as_secs()));
        self.gone(instance.address, "stopped", instance.id.as_str());
        if wrong != Some(Wrong::NotDone) {
            let mut state = self.state.lock().unwrap();
            if let Some(life) = state.lives.get_mut(&instance.id) {
                life.instance.exit = Some("signal 15".to_owned());
            }
        }
        fault(wrong)
    }

    async fn look(&self, instance: &InstanceId) -> Result<Option<Instance>, Fault> {
        let state = self.state.lock().unwrap();
        Ok(state.lives.get(instance).map(|life| Instance {
            exit: life.exit(),
            ready: life.is_well(),
            ..life.instance.clone()
        }))
    }

    async fn check_command(&self, instance: &InstanceId, _: Duration) -> Result<(bool, String), Fault> {
        let state = self.state.lock().unwrap();
        let well = state.lives[instance].is_well();
        Ok((well, format!("exit status {}", u8::from(!well))))
    }

    async fn log_tail(&self, instance: &Instance, lines: usize) -> Vec<String> {
        (0..lines).map(|line| format!("{} line {line}", instance.id)).collect()
    }

    async fn switch(&self, app: &AppRef, routes: Vec<Route>) -> Result<(), Fault> {
        assert!(routes.iter().all(|route| route.app == *app));
        let now = addresses(&routes);
        let shown: Vec<String> = now.iter().map(|address| address.port().to_string()).collect();
        let (_, wrong) = self.call(format!("switch {}", shown.join(" ")));
        let mut state = self.state.lock().unwrap();
        if wrong != Some(Wrong::NotDone) {
            state.routes = routes;
        }
        if wrong.is_none() {
            state.may_go = now;
        } else {
            // Nobody outside can tell whether it was done.
            state.may_go.extend(now);
        }
        fault(wrong)
    }

    async fn drain(&self, address: SocketAddr, timeout: Duration) -> Result<u64, Fault> {
        let (_, wrong) = self.call(format!("drain {} {}", address.port(), timeout.as_secs()));
        self.gone(Some(address), "drained", &address.to_string());
        fault(wrong).map(|()| 0)
    }

    async fn release_command(&self) -> Result<(bool, String, Vec<String>), Fault> {
        let (_, wrong) = self.call("release".to_owned());
        fault(wrong)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let printed = (0..30).map(|line| format!("migrate {line}")).collect();
        Ok((self.release_exit == "exit status 0", self.release_exit.clone(), printed))
    }

    async fn promote(&self) -> Result<(), Fault> {
        let (_, wrong) = self.call("promote".to_owned());
        if wrong != Some(Wrong::NotDone) {
            self.state.lock().unwrap().promoted = true;
        }
        fault(wrong)
    }

    fn happened(&self, what: Happening) {
        self.state.lock().unwrap().happened.push(what);
    }

    async fn cancelled(&self) {
        let mut asked = self.cancel.subscribe();
        // The sender lives as long as the fake.
        drop(asked.wait_for(|asked| *asked).await);
    }

    async fn probe(&self, probe: &Probe, _: Duration) -> Tried {
        let (Probe::Http { address, .. } | Probe::Tcp { address }) = probe;
        let state = self.state.lock().unwrap();
        let life = state.lives.values().find(|life| life.instance.address == Some(*address));
        let mut report = probe.report();
        report.took_ms = 3;
        let wrong_port =
            life.is_some_and(|life| life.behaviour.listens_on.is_some_and(|port| port != address.port()));
        match life {
            Some(life) if life.is_well() && (!wrong_port || life.behaviour.impostor) => {
                report.status = Some(life.behaviour.status);
                report.location = life.behaviour.location.clone();
                Tried { healthy: (200..300).contains(&life.behaviour.status), report }
            }
            Some(_) | None => {
                report.error = Some("connection refused".to_owned());
                Tried { healthy: false, report }
            }
        }
    }
}
