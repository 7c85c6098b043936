//! What is on the disk of each instance.

use crate::{failure, layout::Layout, shim::order::Running};
use allod_proto::{Fault, InstanceId, executor::Instance};
use allod_store::Format;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An instance as it is written down, before its shim starts and after each change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InstanceRecord {
    /// As others see it.
    pub(super) instance: Instance,
    /// Its main process; `None` until the shim has told.
    pub(super) running: Option<Running>,
    /// Its shim.
    pub(super) shim: Option<Running>,
    /// What a stop gives it when nobody says otherwise. Milliseconds.
    pub(super) grace_ms: u64,
    /// Which boot of the machine it belongs to: pids of another mean nothing.
    pub(super) boot: String,
    /// The folders of its control group, known before anything is in it. An executor that began elsewhere would look for them
    /// in another place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) group: Vec<PathBuf>,
}

impl Format for InstanceRecord {
    const NAME: &'static str = "instance";
    const FORMAT: u32 = 1;
}

impl InstanceRecord {
    pub(super) fn save(&self, layout: &Layout) -> Result<(), Fault> {
        let id = &self.instance.id;
        allod_store::save(&layout.instance(id), self, 0o600)
            .map_err(|error| failure::of_store(&format!("write down instance {id}"), &error))
    }
}

/// Takes what is known of an instance off the disk: its record and its socket.
pub(super) fn remove(layout: &Layout, id: &InstanceId) -> Result<(), Fault> {
    for path in [layout.socket(id), layout.instance(id)] {
        allod_store::remove_file(&path)
            .map_err(|error| failure::of_store(&format!("forget instance {id}"), &error))?;
    }
    Ok(())
}

/// Every record, and what is none.
pub(super) fn load_all(layout: &Layout) -> Result<(Vec<InstanceRecord>, Vec<String>), Fault> {
    let failed = |error| failure::of_io("read the instances", &error);
    let (mut records, mut damaged) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(layout.instances()).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().into_string().unwrap_or_default();
        let Some(Ok(id)) = name.strip_suffix(".json").map(InstanceId::new) else { continue };
        match allod_store::load::<InstanceRecord>(&layout.instance(&id)) {
            Ok(Some(record)) if record.instance.id == id => records.push(record),
            Ok(Some(record)) => damaged.push(format!("{name} is the record of {}", record.instance.id)),
            Ok(None) => {}
            Err(error) => damaged.push(error.to_string()),
        }
    }
    Ok((records, damaged))
}

/// Which boot of the machine this is.
pub(super) fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::{ReleaseId, Timestamp};
    use allod_store::power_cut::{Story, survives, survives_kills};
    use std::path::Path;

    fn layout(root: &Path) -> Layout {
        Layout::new(root.join("state"), root.join("run"))
    }

    fn record(name: &str, exit: Option<&str>) -> InstanceRecord {
        let instance = Instance {
            id: InstanceId::new(name).unwrap(),
            app: "shop".parse().unwrap(),
            unit: "web".parse().unwrap(),
            release: ReleaseId::new("0123456789ab").unwrap(),
            address: None,
            pid: None,
            uid: None,
            started_at: Timestamp(1),
            exit: exit.map(str::to_owned),
            ended_at: None,
            ready: false,
            listens_on: Vec::new(),
        };
        InstanceRecord {
            instance,
            running: None,
            shim: None,
            grace_ms: 1000,
            boot: "one".to_owned(),
            group: Vec::new(),
        }
    }

    type Shown = Vec<(String, Option<String>)>;

    fn shown(root: &Path) -> Result<Shown, String> {
        allod_store::settle(&layout(root).executor()).map_err(|error| error.to_string())?;
        let (records, damaged) = load_all(&layout(root)).map_err(|fault| fault.message)?;
        if !damaged.is_empty() {
            return Err(damaged.join("; "));
        }
        let of = |record: &InstanceRecord| (record.instance.id.to_string(), record.instance.exit.clone());
        let mut shown: Shown = records.iter().map(of).collect();
        shown.sort();
        Ok(shown)
    }

    #[test]
    fn what_is_known_of_instances_survives_a_power_cut_anywhere() {
        let save = |root: &Path, name: &str, exit: Option<&str>| {
            record(name, exit).save(&layout(root)).map_err(|fault| fault.message)?;
            shown(root)
        };
        let tell = |story: &mut Story<Shown>| {
            story.step(|root| save(root, "web-0011aabb", None));
            story.step(|root| save(root, "web-0011aabc", None));
            story.step(|root| save(root, "web-0011aabb", Some("exit status 1")));
            story.step(|root| {
                let id = InstanceId::new("web-0011aabb").unwrap();
                remove(&layout(root), &id).map_err(|fault| fault.message)?;
                shown(root)
            });
        };
        let prepare = |root: &Path| layout(root).create().unwrap();
        survives(200, prepare, tell, shown).unwrap();
        survives_kills(60, prepare, tell, shown).unwrap();
    }
}
