//! Starting a shim: first the record, then the socket, then the process, then its order. Each step leaves what the next
//! life of the executor needs to find out how far this one came.

use super::{
    InstancesSettings, Ran, StartOrder, blocking, link, record::InstanceRecord, starter::Shim, table::Table,
};
use crate::{
    failure,
    groups::{Bounds, Group, Whose},
    isolation::Isolation,
    secrets::OpenSecrets,
    shim::order::{Answer, Order, Task},
};
use allod_proto::{
    AppRef, Fault, FaultCode, InstanceId, UnitName,
    executor::{Instance, Release},
    spec::{ProcessSpec, SecretHandover},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::rand::{GetRandomFlags, getrandom};
use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

/// How long a shim may take to start its program.
const STARTING: Duration = Duration::from_secs(20);
/// How much longer than its command's time a shim may take to answer.
const SLACK: Duration = Duration::from_secs(20);
/// Processes that an app with a uid of its own may have.
const PROCESSES: u64 = 4096;

pub(super) async fn start(table: &Arc<Table>, order: StartOrder<'_>) -> Result<Instance, Fault> {
    let spec = process(&order)?;
    let app = &order.release.spec.app;
    let uid = prepare_app(table, app).await?;
    let id = new_id(&order.unit)?;
    let layout = &table.settings.layout;
    let task = Task::Keep { log: layout.log(app, &id, &order.release.id) };
    let shim_order = compose(&table.settings, &order, &id, Some(spec), spec.start.clone(), task)?;
    let record = new_record(table, &order, spec, &id, uid);
    let bounds = bounds(Some(spec));
    drop(order);
    let begun = {
        let _starting = table.may_start().await?;
        table.insert(record.clone());
        begin(table, record, shim_order, uid, bounds).await
    };
    if let Err(fault) = begun {
        // Nothing of it may be left running unknown. Not before the guard is gone: clearing away waits for what starts.
        if let Err(left) = table.give_up(&id).await {
            tracing::warn!(instance = %id, fault = %left, "an instance that could not be started may have left something");
        }
        // What is left on the disk is found, and lost, at the next start.
        let _ = table.forget(&id).await;
        return Err(fault);
    }
    table.get(&id).map(|entry| entry.record.instance).ok_or_else(|| super::unknown(&id))
}

/// From the record on the disk to the shim that answers on its socket.
async fn begin(
    table: &Arc<Table>,
    record: InstanceRecord,
    order: Order,
    uid: Option<u32>,
    bounds: Bounds,
) -> Result<(), Fault> {
    let id = record.instance.id.clone();
    let layout = table.settings.layout.clone();
    let listener = blocking("begin an instance", move || {
        record.save(&layout)?;
        let socket = layout.socket(&record.instance.id);
        listen(&socket).map_err(|error| failure::of_io(&format!("make {}", socket.display()), &error))
    })
    .await?;
    let group = group(table, Whose::App(&id), bounds)?;
    let control = Stdio::from(OwnedFd::from(listener));
    let mut shim = Shim::spawn(&table.settings, uid, control, group.as_ref()).await?;
    shim.order(order).await?;
    let running = match shim.answer(STARTING).await? {
        Answer::Started(running) => running,
        Answer::Error(why) => return Err(not_started(&why)),
        Answer::Ready {} | Answer::Ran(_) | Answer::Output { .. } | Answer::Ended { .. } => {
            return Err(odd_answer());
        }
    };
    let shim_process = shim.let_go();
    table
        .change(&id, move |record| {
            record.running = Some(running);
            record.shim = shim_process;
            record.instance.pid = Some(running.pid);
        })
        .await?;
    let reached = link::connect(&table.settings.layout.socket(&id)).await;
    let reached = reached.map_err(|error| failure::of_io("reach the shim of an instance", &error))?;
    table.attach(&id, Some(reached));
    Ok(())
}

/// A socket that only its maker's user may open. An app may pass through its folder, to see whether its own is there.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub(super) async fn check(
    table: &Arc<Table>,
    order: StartOrder<'_>,
    id: &InstanceId,
    argv: &[String],
    time: Duration,
) -> Result<Ran, Fault> {
    let spec = process(&order)?;
    let app = order.release.spec.app.clone();
    let task = Task::Once { timeout_ms: millis(time), log: None };
    let mut composed = compose(&table.settings, &order, id, Some(spec), argv.to_vec(), task)?;
    // The instance's own folder is not the check's to remove.
    composed.tmp = table.settings.layout.data(&app).join("tmp").join(format!("{id}.check"));
    drop(order);
    once(table, &app, composed, Whose::Check(id, random()?), bounds(Some(spec)), time).await
}

pub(super) async fn run_once(
    table: &Arc<Table>,
    release: &Release,
    secrets: OpenSecrets,
    argv: &[String],
    time: Duration,
) -> Result<Ran, Fault> {
    let unit =
        UnitName::new("release").map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
    let id = new_id(&unit)?;
    let app = &release.spec.app;
    let log = table.settings.layout.log(app, &id, &release.id);
    let order = StartOrder { unit, release, address: None, secrets };
    let task = Task::Once { timeout_ms: millis(time), log: Some(log) };
    let composed = compose(&table.settings, &order, &id, None, argv.to_vec(), task)?;
    drop(order);
    once(table, app, composed, Whose::App(&id), bounds(None), time).await
}

async fn once(
    table: &Arc<Table>,
    app: &AppRef,
    order: Order,
    whose: Whose<'_>,
    bounds: Bounds,
    time: Duration,
) -> Result<Ran, Fault> {
    let _busy = table.busy(app);
    let uid = prepare_app(table, app).await?;
    let starting = table.may_start().await?;
    let group = Ending(group(table, whose, bounds)?);
    let mut shim = Shim::spawn(&table.settings, uid, Stdio::null(), group.0.as_ref()).await?;
    drop(starting);
    shim.order(order).await?;
    // The pipe stays open: when it closes, because this is dropped or dies, the command is killed.
    match shim.answer(time.saturating_add(SLACK)).await? {
        Answer::Ran(ran) => Ok(ran),
        Answer::Error(why) => Err(not_started(&why)),
        Answer::Ready {} | Answer::Started(_) | Answer::Output { .. } | Answer::Ended { .. } => {
            Err(odd_answer())
        }
    }
}

/// What a copy may use. A release command and a check have the bounds of a process.
fn bounds(spec: Option<&ProcessSpec>) -> Bounds {
    let memory_bytes = spec.and_then(|spec| spec.resources.memory_bytes);
    Bounds { memory_bytes, processes: Some(PROCESSES) }
}

/// Its control group, where there are any.
fn group(table: &Table, whose: Whose<'_>, bounds: Bounds) -> Result<Option<Arc<Group>>, Fault> {
    let failed = |error: io::Error| failure::of_io(&format!("make the control group {whose}"), &error);
    Ok(table.settings.groups.make(whose, bounds).map_err(failed)?.map(Arc::new))
}

/// The group of what runs once. It ends with it, also where nobody waits for that any more.
struct Ending(Option<Arc<Group>>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // It may take as long as something takes to die.
            drop(tokio::task::spawn_blocking(move || crate::groups::end(&group)));
        }
    }
}

fn compose(
    settings: &InstancesSettings,
    order: &StartOrder<'_>,
    id: &InstanceId,
    spec: Option<&ProcessSpec>,
    argv: Vec<String>,
    task: Task,
) -> Result<Order, Fault> {
    let release = order.release;
    let app = &release.spec.app;
    let own = matches!(settings.isolation, Isolation::OwnUids { .. });
    let mut shim_order = Order {
        argv,
        env: environment(settings, order, id),
        cwd: release.files.clone(),
        tmp: settings.layout.data(app).join("tmp").join(id.as_str()),
        secrets: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        open_files: spec.and_then(|spec| spec.resources.open_files),
        processes: own.then_some(PROCESSES),
        notify: None,
        group: Vec::new(),
        executor_uid: rustix::process::geteuid().as_raw(),
        task,
    };
    for (name, handover) in &release.spec.secrets {
        let missing = || {
            Fault::new(FaultCode::NotFound, format!("{app} has no value for secret {name}"))
                .hint(format!("allod secrets set {name}"))
        };
        let value = order.secrets.get(name).ok_or_else(missing)?;
        match handover {
            SecretHandover::Descriptor => {
                shim_order.secrets.insert(name.clone(), Zeroizing::new(STANDARD.encode(value)));
            }
            SecretHandover::Environment => {
                let text = std::str::from_utf8(value).map_err(|_| {
                    Fault::new(
                        FaultCode::Invalid,
                        format!("{name} is not UTF-8, so it can't be an environment variable"),
                    )
                    .hint(format!("in allod.toml: {name} = \"descriptor\""))
                })?;
                shim_order.secret_env.insert(name.clone(), Zeroizing::new(text.to_owned()));
            }
        }
    }
    Ok(shim_order)
}

/// The whole environment but secrets and what the shim adds. What people write never replaces what Allod says.
fn environment(
    settings: &InstancesSettings,
    order: &StartOrder<'_>,
    id: &InstanceId,
) -> BTreeMap<String, String> {
    let release = order.release;
    let app = &release.spec.app;
    let data = settings.layout.data(app).to_string_lossy().into_owned();
    let mut env = release.spec.vars.clone();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("PATH", settings.search_path.clone());
    set("HOME", data.clone());
    set("ALLOD_DATA", data);
    set("ALLOD_APP", app.name.to_string());
    set("ALLOD_ENV", app.env.to_string());
    set("ALLOD_UNIT", order.unit.to_string());
    set("ALLOD_INSTANCE", id.to_string());
    set("ALLOD_RELEASE", release.id.to_string());
    if let Some(address) = order.address {
        set("HOST", address.ip().to_string());
        set("PORT", address.port().to_string());
    }
    env
}

fn process<'a>(order: &StartOrder<'a>) -> Result<&'a ProcessSpec, Fault> {
    order.release.spec.process(&order.unit).ok_or_else(|| {
        Fault::new(FaultCode::NotFound, format!("{} has no process {}", order.release.spec.app, order.unit))
    })
}

async fn prepare_app(table: &Arc<Table>, app: &AppRef) -> Result<Option<u32>, Fault> {
    let (layout, isolation, app) = (table.settings.layout.clone(), table.settings.isolation, app.clone());
    blocking("make an app's folders", move || {
        isolation.create_app_folders(&layout, &app)?;
        isolation.uid_of(&layout, &app)
    })
    .await
}

fn new_record(
    table: &Table,
    order: &StartOrder<'_>,
    spec: &ProcessSpec,
    id: &InstanceId,
    uid: Option<u32>,
) -> InstanceRecord {
    let instance = Instance {
        id: id.clone(),
        app: order.release.spec.app.clone(),
        unit: order.unit.clone(),
        release: order.release.id.clone(),
        address: order.address,
        pid: None,
        uid,
        started_at: (table.now)(),
        exit: None,
        ended_at: None,
        ready: false,
        listens_on: Vec::new(),
    };
    let (grace_ms, boot) = (spec.stop_grace_ms, table.boot.clone());
    let group = table.settings.groups.paths(Whose::App(id));
    InstanceRecord { instance, running: None, shim: None, grace_ms, boot, group }
}

fn new_id(unit: &UnitName) -> Result<InstanceId, Fault> {
    InstanceId::new(format!("{unit}-{:08x}", random()?))
        .map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))
}

fn random() -> Result<u32, Fault> {
    let mut random = [0_u8; 4];
    getrandom(&mut random, GetRandomFlags::empty())
        .map_err(|error| failure::of_io("name an instance", &error.into()))?;
    Ok(u32::from_ne_bytes(random))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn not_started(why: &str) -> Fault {
    Fault::new(FaultCode::Unhealthy, why)
}

fn odd_answer() -> Fault {
    Fault::new(FaultCode::Internal, "a shim gave an answer to another question")
}
