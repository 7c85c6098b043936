//! What is on the disk of each instance.

use crate::{failure, layout::Layout, shim::order::Running};
use allod_proto::{Fault, InstanceId, executor::Instance};
use allod_store::Format;
use serde::{Deserialize, Serialize};

/// An instance as it is written down, before its shim starts and after each change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstanceRecord {
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
