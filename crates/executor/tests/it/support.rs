//! A server in a temporary folder, releases made of small scripts, and the example programs.

use allod_executor::{
    groups::{Base, Groups},
    instances::{Found, Instances, InstancesSettings, SEARCH_PATH, StartOrder},
    isolation::Isolation,
    layout::Layout,
    secrets::OpenSecrets,
};
use allod_proto::{
    AppRef, Digest, InstanceId, ReleaseId, Timestamp, UnitName,
    executor::{Instance, Release},
    spec::{AppSpec, HealthSpec, ProcessSpec, ResourceSpec, UnitKind, UnitSpec},
};
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An example program of this crate: `cargo test` builds them beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo test -p allod-executor` as a whole", path.display());
    path
}

pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) layout: Layout,
    pub(crate) isolation: Isolation,
    /// What control groups are made below.
    pub(crate) base: Base,
    pub(crate) files: PathBuf,
    shim: PathBuf,
}

pub(crate) fn place() -> Place {
    place_with(Isolation::SameUser)
}

pub(crate) fn place_with(isolation: Isolation) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    open(folder.path());
    let layout = Layout::new(folder.path().join("s"), folder.path().join("r"));
    layout.create().unwrap();
    let (files, bin) = (folder.path().join("files"), folder.path().join("bin"));
    for made in [&files, &bin] {
        std::fs::create_dir(made).unwrap();
        open(made);
    }
    let shim = bin.join("allod");
    share(&example("shim"), &shim);
    share(&example("app"), &files.join("app"));
    Place { folder, layout, isolation, base: Base::Own, files, shim }
}

impl Drop for Place {
    /// A test may end before its shims know that their exits are known.
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(pid), Ok(program)) = (pid, std::fs::read_link(entry.path().join("exe")))
                && program == self.shim
            {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        Groups::open(&self.base, self.layout.root()).sweep(|_| false);
    }
}

fn share(from: &Path, to: &Path) {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).unwrap();
    }
}

impl Place {
    pub(crate) async fn open(&self) -> (Instances, Found) {
        let settings = InstancesSettings {
            layout: self.layout.clone(),
            isolation: self.isolation,
            program: self.shim.clone(),
            args: vec!["shim".into()],
            search_path: SEARCH_PATH.to_owned(),
            groups: Arc::new(Groups::open(&self.base, self.layout.root())),
        };
        Instances::open(settings, Arc::new(|| Timestamp(1_700_000_000_000))).await.unwrap()
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        let path = self.files.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A release whose one process is this command.
    pub(crate) fn release(&self, start: &[&str]) -> Release {
        self.release_of("shop", start)
    }

    pub(crate) fn release_of(&self, app: &str, start: &[&str]) -> Release {
        let process = ProcessSpec {
            start: start.iter().map(|&word| word.to_owned()).collect(),
            instances: 1,
            runtime: None,
            health: HealthSpec::Tcp,
            health_timeout_ms: 1000,
            drain_ms: 1000,
            stop_grace_ms: 200,
            resources: ResourceSpec { memory_bytes: None, open_files: Some(512) },
        };
        let unit = UnitSpec {
            kind: UnitKind::Process(process),
            routes: Vec::new(),
            strip_prefix: false,
            limits: allod_proto::routes::RouteLimits::default(),
        };
        let spec = AppSpec {
            app: app.parse().unwrap(),
            units: BTreeMap::from([(web(), unit)]),
            vars: BTreeMap::new(),
            secrets: BTreeMap::new(),
            release_command: None,
            keep_releases: 1,
        };
        Release {
            id: ReleaseId::new("0123456789ab").unwrap(),
            manifest: Digest::of("manifest"),
            spec,
            version: None,
            secrets: BTreeMap::new(),
            files: self.files.clone(),
            made_at: Timestamp(0),
            by: "ann".to_owned(),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.layout.data(&app())
    }

    /// The lines of an instance's log, without their times.
    pub(crate) fn log(&self, id: &InstanceId) -> Vec<String> {
        let path = self.layout.log(&app(), id, &ReleaseId::new("0123456789ab").unwrap());
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

/// A shell that runs a script of the release's folder.
pub(crate) const SH: &str = "sh";

pub(crate) fn web() -> UnitName {
    UnitName::new("web").unwrap()
}

pub(crate) fn app() -> AppRef {
    "shop".parse().unwrap()
}

pub(crate) async fn start(instances: &Instances, release: &Release) -> Instance {
    start_with(instances, release, OpenSecrets::new()).await.unwrap()
}

pub(crate) async fn start_with(
    instances: &Instances,
    release: &Release,
    secrets: OpenSecrets,
) -> Result<Instance, allod_proto::Fault> {
    let address = Some("127.0.0.1:20001".parse().unwrap());
    instances.start(StartOrder { unit: web(), release, address, secrets }).await
}

/// Waits until what is known of an instance is so.
pub(crate) async fn until(
    instances: &Instances,
    id: &InstanceId,
    so: impl Fn(&Instance) -> bool,
) -> Instance {
    let mut changes = instances.changes();
    let waiting = async {
        loop {
            changes.mark_unchanged();
            let instance = instances.get(id).unwrap();
            if so(&instance) {
                return instance;
            }
            changes.changed().await.unwrap();
        }
    };
    let known = tokio::time::timeout(PATIENCE, waiting).await;
    known.unwrap_or_else(|_| panic!("it never came: {:?}", instances.get(id)))
}

pub(crate) async fn until_exit(instances: &Instances, id: &InstanceId) -> String {
    until(instances, id, |instance| instance.exit.is_some()).await.exit.unwrap()
}

/// Waits for something that no event tells: a file that a program writes, a process that ends.
pub(crate) async fn eventually(what: &str, so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The number that a program wrote into a file.
pub(crate) async fn pid_in(path: PathBuf) -> u32 {
    let read = || std::fs::read_to_string(&path).ok()?.strip_suffix('\n')?.parse().ok();
    eventually("a pid file", || read().is_some()).await;
    read().unwrap()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub(crate) fn kill(pid: u32) {
    signal(pid, rustix::process::Signal::KILL);
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The shim of a program: its parent.
pub(crate) fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}
