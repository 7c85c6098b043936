//! Waits until an instance is healthy. When to try again and when to give up is decided without a clock, in [`Waiting`];
//! the loop around it tries, looks and sleeps. An instance that ended fails at once.

use crate::{
    explain,
    probe::{self, Probe, Tried},
    site::Site,
};
use allod_proto::{
    Fault, FaultCode,
    executor::Instance,
    operation::{Failure, ProbeReport, Step},
    spec::{HealthSpec, ProcessSpec, UnitSpec},
};
use std::time::Duration;
use tokio::time::Instant;

/// The longest one try may take.
pub const TRY: Duration = Duration::from_secs(5);
/// Most programs listen some hundredths of a second after their start; the pauses double from here.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The least time for a try, however late it begins.
const SHORTEST_TRY: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What one round showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The instance ended.
    Ended,
    /// It runs, and the try went well.
    Well,
    /// It runs, and the try did not go well; or nobody could say.
    NotYet,
}

/// What follows from a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Healthy.
    Healthy,
    /// Try again after this pause.
    Again(Duration),
    /// It ended.
    Ended,
    /// The time is up.
    TimeIsUp,
}

/// The wait for one instance: how long it may still take, how long to pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    timeout: Duration,
    pause: Duration,
}

impl Waiting {
    /// A wait of at most this long.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, pause: FIRST_PAUSE }
    }

    /// What follows when a round that began the wait `elapsed` ago showed this.
    pub fn judge(&mut self, elapsed: Duration, seen: &Seen) -> Verdict {
        match seen {
            Seen::Ended => Verdict::Ended,
            Seen::Well => Verdict::Healthy,
            Seen::NotYet if elapsed >= self.timeout => Verdict::TimeIsUp,
            Seen::NotYet => {
                let pause = self.pause.min(self.timeout.saturating_sub(elapsed));
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Verdict::Again(pause)
            }
        }
    }

    /// How long one try that begins `elapsed` after the start may take.
    #[must_use]
    pub fn try_for(&self, elapsed: Duration) -> Duration {
        TRY.min(self.timeout.saturating_sub(elapsed)).max(SHORTEST_TRY)
    }
}

/// What the Host header of a probe says: as written, or the first route's host, or the address.
#[must_use]
pub fn probe_host(unit: &UnitSpec, written: Option<&str>, address: std::net::SocketAddr) -> String {
    let route = || unit.routes.iter().find_map(|route| route.host.as_deref());
    match (written, route()) {
        (Some(host), _) => host.to_owned(),
        // Any name below the wildcard will do.
        (None, Some(host)) => {
            host.strip_prefix("*.").map_or_else(|| host.to_owned(), |rest| format!("health.{rest}"))
        }
        (None, None) => address.to_string(),
    }
}

/// Waits until `instance` is healthy; answers what showed it, as `200 in 3 ms`.
///
/// # Errors
/// The failure with the last probe, the exit and what to do; without log lines, which the caller adds.
pub async fn await_healthy(
    site: &impl Site,
    instance: &Instance,
    unit: &UnitSpec,
    process: &ProcessSpec,
) -> Result<String, Box<Failure>> {
    let begun = Instant::now();
    let mut waiting = Waiting::new(timeout_of(process));
    let mut tries = 0_u32;
    loop {
        tries = tries.saturating_add(1);
        let mut tried = try_once(site, instance, unit, process, begun, &waiting).await;
        let looked = site.look(&instance.id).await;
        if let Ok(Some(now)) = &looked {
            doubt_another(&mut tried, instance, now);
        }
        let seen = match &looked {
            Ok(Some(now)) if now.exit.is_some() => Seen::Ended,
            Ok(None) => Seen::Ended,
            Ok(Some(now)) if tried.healthy || says_ready(process, now) => Seen::Well,
            Ok(Some(_)) | Err(_) => Seen::NotYet,
        };
        let report = ProbeReport { tries, ..tried.report };
        match waiting.judge(begun.elapsed(), &seen) {
            Verdict::Healthy => return Ok(in_words(process, &report, begun.elapsed())),
            Verdict::Again(pause) => tokio::time::sleep(pause).await,
            Verdict::Ended => return Err(ended(instance, looked.ok().flatten(), report)),
            Verdict::TimeIsUp => return Err(time_is_up(instance, looked, report, process)),
        }
    }
}

/// Any local program may have taken the port first: an answer counts only where the instance listens itself, as far as
/// that can be told.
fn doubt_another(tried: &mut Tried, instance: &Instance, now: &Instance) {
    let Some(address) = instance.address.filter(|_| tried.healthy && !now.listens_on.is_empty()) else {
        return;
    };
    let asked = tried.report.target.contains(&address.to_string());
    if asked && !now.listens_on.iter().any(|listens| listens.port() == address.port()) {
        tried.healthy = false;
        tried.report.error = Some("another program answered on this port".to_owned());
    }
}

/// A copy that has to run for a while is given that while, whatever its timeout says.
fn timeout_of(process: &ProcessSpec) -> Duration {
    match process.health {
        HealthSpec::Running { for_ms } => Duration::from_millis(for_ms.max(process.health_timeout_ms)),
        HealthSpec::Http { .. } | HealthSpec::Tcp | HealthSpec::Command { .. } | HealthSpec::Ready => {
            Duration::from_millis(process.health_timeout_ms)
        }
    }
}

fn says_ready(process: &ProcessSpec, instance: &Instance) -> bool {
    matches!(process.health, HealthSpec::Ready) && instance.ready
}

async fn try_once(
    site: &impl Site,
    instance: &Instance,
    unit: &UnitSpec,
    process: &ProcessSpec,
    begun: Instant,
    waiting: &Waiting,
) -> Tried {
    let timeout = waiting.try_for(begun.elapsed());
    match (&process.health, instance.address) {
        (HealthSpec::Http { path, host }, Some(address)) => {
            let host = probe_host(unit, host.as_deref(), address);
            site.probe(&Probe::Http { address, path: path.clone(), host }, timeout).await
        }
        (HealthSpec::Tcp, Some(address)) => site.probe(&Probe::Tcp { address }, timeout).await,
        (HealthSpec::Http { .. } | HealthSpec::Tcp, None) => {
            told("its port".to_owned(), false, Some("it was given no address".to_owned()))
        }
        (HealthSpec::Command { run }, _) => {
            let (healthy, error) = match site.check_command(&instance.id, timeout).await {
                Ok((true, _)) => (true, None),
                Ok((false, exit)) => (false, Some(exit)),
                Err(fault) => (false, Some(fault.message)),
            };
            told(format!("command {}", run.join(" ")), healthy, error)
        }
        (HealthSpec::Ready, _) => {
            told("READY=1 to NOTIFY_SOCKET".to_owned(), false, Some("it did not say so".to_owned()))
        }
        (HealthSpec::Running { for_ms }, _) => {
            let healthy = begun.elapsed() >= Duration::from_millis(*for_ms);
            told(format!("running for {}", explain::seconds(*for_ms)), healthy, None)
        }
    }
}

fn told(target: String, healthy: bool, error: Option<String>) -> Tried {
    Tried { healthy, report: ProbeReport { error, ..probe::report(target) } }
}

fn in_words(process: &ProcessSpec, report: &ProbeReport, waited: Duration) -> String {
    match &process.health {
        HealthSpec::Http { .. } => {
            report.status.map_or_else(String::new, |status| format!("{status} in {} ms", report.took_ms))
        }
        HealthSpec::Tcp => format!("connected in {} ms", report.took_ms),
        HealthSpec::Command { .. } => "command ended well".to_owned(),
        HealthSpec::Ready => format!("ready after {} ms", waited.as_millis()),
        HealthSpec::Running { for_ms } => format!("running for {}", explain::seconds(*for_ms)),
    }
}

/// The failure of an instance that ended; `now` is how it stands, where somebody knows.
pub(crate) fn ended(instance: &Instance, now: Option<Instance>, report: ProbeReport) -> Box<Failure> {
    let exit = now.and_then(|now| now.exit).unwrap_or_else(|| "it is gone".to_owned());
    Box::new(Failure {
        step: Step::Health,
        fault: explain::ended(instance, &exit),
        instance: Some(instance.id.clone()),
        probe: Some(report),
        exit: Some(exit),
        log_tail: Vec::new(),
    })
}

fn time_is_up(
    instance: &Instance,
    looked: Result<Option<Instance>, Fault>,
    mut report: ProbeReport,
    process: &ProcessSpec,
) -> Box<Failure> {
    let fault = match looked {
        Ok(now) => {
            let now = now.unwrap_or_else(|| instance.clone());
            report.listens_on = now.listens_on.iter().map(ToString::to_string).collect();
            explain::unhealthy(&now, &report, process.health_timeout_ms)
        }
        Err(fault) => Fault::new(
            FaultCode::Unhealthy,
            format!("nobody could say how {} stands: {}", instance.id, fault.message),
        ),
    };
    Box::new(Failure {
        step: Step::Health,
        fault,
        instance: Some(instance.id.clone()),
        probe: Some(report),
        exit: None,
        log_tail: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
