//! The drivers that the contract is held against. A new one adds a module with `up` and `down` and its name to the list.

/// The static driver.
pub(super) mod fixed {
    use super::super::laws::Subject;
    use allod_mesh::{Mode, StaticMesh, StaticSettings};
    use std::sync::Arc;

    pub(in super::super) async fn up() -> Subject {
        of(StaticSettings::loopback())
    }

    pub(in super::super) async fn down() -> Subject {
        let addresses = vec!["100.64.77.77".parse().unwrap()];
        of(StaticSettings { addresses, name: None, mode: Mode::default() })
    }

    fn of(settings: StaticSettings) -> Subject {
        Subject { mesh: Arc::new(StaticMesh::start(settings).unwrap()), _kept: Box::new(()) }
    }
}

/// The driver for tailscaled, with a stand-in for the daemon that has loopback for its interface.
pub(super) mod tailscaled {
    use super::super::laws::Subject;
    use crate::local_api::{Daemon, Reply, status};
    use allod_mesh::{StaticSettings, TailscaledMesh, TailscaledSettings};
    use std::sync::Arc;

    pub(in super::super) async fn up() -> Subject {
        of(Daemon::start(&["127.0.0.1"], &["127.0.0.1"])).await
    }

    pub(in super::super) async fn down() -> Subject {
        let daemon = Daemon::start(&[], &[]);
        daemon.says(Reply::Json(status("Stopped", &["127.0.0.1"])));
        of(daemon).await
    }

    async fn of(daemon: Daemon) -> Subject {
        let mut settings = TailscaledSettings::at(daemon.socket());
        settings.mode = StaticSettings::loopback().mode;
        let mesh = TailscaledMesh::start(settings).await.unwrap();
        Subject { mesh: Arc::new(mesh), _kept: Box::new(daemon) }
    }
}
