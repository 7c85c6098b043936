//! The programs that `allod up` keeps running: their names, their order, their patience.

use std::time::Duration;

/// One of the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Holds keys, releases and the record.
    Executor,
    /// Watches from outside.
    Hub,
    /// Answers visitors.
    Proxy,
    /// Answers operators.
    Agent,
    /// Owns the server's place on the mesh.
    Node,
    /// Owns the place of the person who types here.
    ClientNode,
}

impl Program {
    /// In the order of starting: who is needed comes before who needs it.
    pub(super) const ALL: [Self; 6] =
        [Self::Executor, Self::Hub, Self::Node, Self::ClientNode, Self::Proxy, Self::Agent];

    /// The same where no node of ours is needed: on loopback, and on the machine's tailscaled.
    pub(super) const WITHOUT_NODES: [Self; 4] = [Self::Executor, Self::Hub, Self::Proxy, Self::Agent];

    /// The same where the hub is elsewhere.
    pub(super) const WITHOUT_HUB: [Self; 4] = [Self::Executor, Self::Node, Self::Proxy, Self::Agent];

    /// In the order of stopping: first nothing new is asked for, then nobody visits, then the apps end; the mesh goes last.
    pub(super) const LAST_TO_FIRST: [Self; 6] =
        [Self::Agent, Self::Proxy, Self::Executor, Self::ClientNode, Self::Node, Self::Hub];

    /// The word after `allod` that runs it.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Node | Self::ClientNode => "node",
            Self::Executor | Self::Hub | Self::Proxy | Self::Agent => self.word(),
        }
    }

    /// Its name, here and in what is told to programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Executor => "executor",
            Self::Hub => "hub",
            Self::Proxy => "proxy",
            Self::Agent => "agent",
            Self::Node => "node",
            Self::ClientNode => "client-node",
        }
    }

    /// How long it may take to end by itself.
    pub(super) fn grace(self) -> Duration {
        match self {
            // Its apps have graces of their own.
            Self::Executor => Duration::from_secs(30),
            Self::Hub | Self::Proxy | Self::Agent | Self::Node | Self::ClientNode => Duration::from_secs(5),
        }
    }

    /// What it is called when it is being stopped.
    pub(super) fn with_what_ends_with_it(self) -> &'static str {
        match self {
            Self::Executor => "executor and its apps",
            Self::Hub | Self::Proxy | Self::Agent | Self::Node | Self::ClientNode => self.word(),
        }
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}
