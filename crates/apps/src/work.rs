//! What deploy, scale and stop share: starting, waiting, draining and stopping many instances, told as steps.

use crate::{health, rollout::Place, site::Site};
use allod_proto::{
    AppRef, Fault, FaultCode, UnitName,
    executor::{Instance, Release},
    operation::{Failure, Happening, Step},
    spec::ProcessSpec,
};
use futures_util::future::{Either, FutureExt as _, join_all, select, try_join_all};
use std::{fmt::Write as _, future::Future, pin::pin, time::Duration};
use tokio::time::Instant;

/// How many lines of a failed instance's log are shown.
pub(crate) const LOG_LINES: usize = 20;
/// For instances of releases that nobody knows any more.
const DRAIN: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(10);
/// How much longer than it should take an answer may.
const LATE: Duration = Duration::from_secs(20);
const PROMOTIONS: u32 = 4;
const PROMOTE_AGAIN: Duration = Duration::from_secs(1);

/// What ends a step early.
pub(crate) enum Halt {
    /// Somebody asked.
    Cancelled,
    /// This.
    Failed(Box<Failure>),
}

/// A step that has begun; told when it ends.
pub(crate) struct Begun<'s, S> {
    site: &'s S,
    step: Step,
    at: Instant,
}

/// Tells that a step begins.
pub(crate) fn begin<S: Site>(site: &S, step: Step, detail: Option<String>) -> Begun<'_, S> {
    site.happened(Happening::Began { step, detail });
    Begun { site, step, at: Instant::now() }
}

impl<S: Site> Begun<'_, S> {
    pub(crate) fn end(self, detail: Option<String>) {
        let took_ms = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.site.happened(Happening::Ended { step: self.step, took_ms, detail });
    }
}

pub(crate) fn note(site: &impl Site, text: impl Into<String>) {
    site.happened(Happening::Note { text: text.into() });
}

/// A failure that is about no instance.
pub(crate) fn failure(step: Step, fault: Fault) -> Box<Failure> {
    Box::new(Failure { step, fault, instance: None, probe: None, exit: None, log_tail: Vec::new() })
}

/// The failure of an operation that somebody ended at `step`.
pub(crate) fn cancelled(step: Step) -> Box<Failure> {
    failure(step, Fault::new(FaultCode::Cancelled, "cancelled; what served before serves on"))
}

/// Whether somebody has asked for the operation to end.
pub(crate) fn is_cancelled(site: &impl Site) -> bool {
    site.cancelled().now_or_never().is_some()
}

/// `work` to its end, or until somebody asks for the operation to end.
pub(crate) async fn unless_cancelled<T>(
    site: &impl Site,
    work: impl Future<Output = Result<T, Box<Failure>>>,
) -> Result<T, Halt> {
    match select(pin!(work), pin!(site.cancelled())).await {
        Either::Left((outcome, _)) => outcome.map_err(Halt::Failed),
        Either::Right(((), _)) => Err(Halt::Cancelled),
    }
}

/// Promotes. Doing so twice does no more than once, so an answer that was lost is asked for again.
pub(crate) async fn promote(site: &impl Site) -> Result<(), Fault> {
    let mut left = PROMOTIONS;
    loop {
        left -= 1;
        match site.promote().await {
            Err(fault) if fault.code.retry_is_safe() && left > 0 => tokio::time::sleep(PROMOTE_AGAIN).await,
            outcome => return outcome,
        }
    }
}

/// Starts a copy for each place, in order, and answers those that started, with what ended it early.
pub(crate) async fn start_all(
    site: &impl Site,
    app: &AppRef,
    release: &Release,
    places: &[Place],
) -> (Vec<Instance>, Result<(), Halt>) {
    let begun = begin(site, Step::Start, Some(counted(places)));
    let mut started = Vec::new();
    for place in places {
        if is_cancelled(site) {
            return (started, Err(Halt::Cancelled));
        }
        match site.start(app, &place.unit, release).await {
            Ok(instance) => started.push(instance),
            Err(mut fault) => {
                let Place { unit, copy, of } = place;
                fault.message = format!("{unit} {copy} of {of} could not be started: {}", fault.message);
                return (started, Err(Halt::Failed(failure(Step::Start, fault))));
            }
        }
    }
    let where_to =
        started.iter().filter_map(|instance| Some(format!("{} on {}", instance.id, instance.address?)));
    let where_to: Vec<String> = where_to.collect();
    begun.end((!where_to.is_empty()).then(|| where_to.join(", ")));
    (started, Ok(()))
}

/// `web x2, worker`.
fn counted(places: &[Place]) -> String {
    let mut text = String::new();
    let mut units: Vec<(&UnitName, u32)> = Vec::new();
    for place in places {
        match units.last_mut() {
            Some((unit, count)) if *unit == &place.unit => *count += 1,
            Some(_) | None => units.push((&place.unit, 1)),
        }
    }
    for (unit, count) in units {
        let between = if text.is_empty() { "" } else { ", " };
        let times = if count > 1 { format!(" x{count}") } else { String::new() };
        // Writing to a String can't fail.
        let _ = write!(text, "{between}{unit}{times}");
    }
    text
}

/// Waits until all are healthy; then looks at each again, because one may have ended while another was waited for.
pub(crate) async fn await_all(
    site: &impl Site,
    release: &Release,
    instances: &[Instance],
) -> Result<(), Box<Failure>> {
    let begun = begin(site, Step::Health, None);
    let waits = instances.iter().filter_map(|instance| {
        let unit = release.spec.units.get(&instance.unit)?;
        let process = release.spec.process(&instance.unit)?;
        Some(async move {
            let found = health::await_healthy(site, instance, unit, process).await?;
            Ok::<_, Box<Failure>>(format!("{}: {found}", instance.id))
        })
    });
    let found = match try_join_all(waits).await {
        Ok(found) => found,
        Err(failure) => return Err(with_log(site, instances, failure).await),
    };
    for instance in instances {
        let alive = site.look(&instance.id).await.map_err(|fault| failure(Step::Health, fault))?;
        if alive.as_ref().is_none_or(|now| now.exit.is_some()) {
            let report = crate::probe::report("its process".to_owned());
            return Err(with_log(site, instances, health::ended(instance, alive, report)).await);
        }
    }
    begun.end((!found.is_empty()).then(|| found.join(", ")));
    Ok(())
}

async fn with_log(site: &impl Site, instances: &[Instance], mut failure: Box<Failure>) -> Box<Failure> {
    if let Some(instance) = instances.iter().find(|instance| Some(&instance.id) == failure.instance.as_ref())
    {
        failure.log_tail = site.log_tail(instance, LOG_LINES).await;
    }
    failure
}

/// Waits, in parallel, until no request is in flight to these; what can't be drained is noted.
pub(crate) async fn drain_all(site: &impl Site, release: Option<&Release>, instances: &[Instance]) {
    let listening: Vec<_> =
        instances.iter().filter_map(|instance| Some((instance, instance.address?))).collect();
    if listening.is_empty() {
        return;
    }
    let begun = begin(site, Step::Drain, None);
    let drains = listening.iter().map(|(instance, address)| async move {
        let timeout =
            process_of(release, instance).map_or(DRAIN, |spec| Duration::from_millis(spec.drain_ms));
        match answered(timeout, site.drain(*address, timeout)).await {
            Ok(cut) => cut,
            Err(fault) => {
                note(site, format!("{} could not be drained: {}", instance.id, fault.message));
                0
            }
        }
    });
    let cut: u64 = join_all(drains).await.into_iter().fold(0, u64::saturating_add);
    begun.end((cut > 0).then(|| format!("{cut} cut at the end of the wait")));
}

/// Stops these in parallel; what can't be stopped is noted.
pub(crate) async fn stop_all(site: &impl Site, release: Option<&Release>, instances: &[Instance]) {
    if instances.is_empty() {
        return;
    }
    let begun = begin(site, Step::Stop, None);
    let stops = instances.iter().map(|instance| async move {
        let grace =
            process_of(release, instance).map_or(GRACE, |spec| Duration::from_millis(spec.stop_grace_ms));
        if let Err(fault) = answered(grace, site.stop(instance, grace)).await {
            note(site, format!("{} could not be stopped: {}", instance.id, fault.message));
        }
    });
    join_all(stops).await;
    begun.end(None);
}

/// What was asked is done within `span`; whoever does not answer soon after that does not hold up the rest.
async fn answered<T>(span: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = || Fault::new(FaultCode::Timeout, format!("no answer {} s after the wait", LATE.as_secs()));
    tokio::time::timeout(span.saturating_add(LATE), work).await.unwrap_or_else(|_| Err(late()))
}

fn process_of<'r>(release: Option<&'r Release>, instance: &Instance) -> Option<&'r ProcessSpec> {
    release?.spec.process(&instance.unit)
}
