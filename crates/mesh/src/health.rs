//! What can be wrong with this machine's place on the mesh: one value for programs, a sentence and a fix for a person.

use allod_proto::Timestamp;
use std::{fmt, net::IpAddr, time::Duration};

/// A key that ends sooner than this is worth a word.
pub const KEY_NOTICE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Something that keeps this machine, or may soon keep it, from reaching and being reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The daemon doesn't answer.
    NoDaemon {
        /// Where it should.
        socket: String,
        /// What happened there.
        why: String,
    },
    /// Something else than the daemon is behind its socket, or may be.
    Untrusted {
        /// Where.
        socket: String,
        /// Why it is not believed.
        why: String,
    },
    /// It answered something that makes no sense.
    Unreadable {
        /// What.
        why: String,
    },
    /// The machine is not logged in to the mesh.
    NeedsLogin {
        /// The page that the mesh offers for it, if it does.
        page: Option<String>,
    },
    /// It is logged in, but somebody has to approve it.
    NeedsApproval,
    /// Its key on the mesh has ended.
    KeyExpired,
    /// It was told to stay off the mesh.
    Stopped,
    /// It is on its way.
    Starting,
    /// The daemon is in a state of a newer version.
    UnknownState {
        /// Its word for it.
        state: String,
    },
    /// The daemon runs without a network interface, so that no other program of this machine can listen on the mesh.
    NoInterface,
    /// An address that the mesh gave this machine is on none of its interfaces.
    NotOnInterface {
        /// The address.
        address: IpAddr,
    },
    /// The mesh gave this machine an address that no mesh has.
    ForeignAddress {
        /// The address.
        address: IpAddr,
    },
    /// `allod node` doesn't answer.
    NoNode {
        /// Where it should.
        socket: String,
        /// What happened there.
        why: String,
    },
    /// It answers, but not so that it could be used.
    NodeAnswer {
        /// What it says.
        why: String,
    },
    /// The node is on its way.
    Joining {
        /// What keeps it, if it is known.
        why: Option<String>,
    },
    /// The node waits for a person to open a page.
    LogIn {
        /// The page.
        page: String,
    },
    /// The coordinator does not want the node.
    RefusedThere {
        /// Why.
        why: String,
    },
    /// The node's key has ended.
    NodeExpired,
    /// The node's coordinator can't be had; what it said last holds.
    CoordinatorAway {
        /// Why.
        why: String,
    },
    /// A relay can't be had: peers without a direct path may not be reached.
    RelayAway {
        /// Its region.
        region: u32,
        /// Why.
        why: String,
    },
    /// The daemon warns of something itself.
    Warning {
        /// In its words.
        says: String,
    },
}

impl Trouble {
    /// Whether nothing can be reached, nor reach this machine, while it lasts.
    #[must_use]
    pub fn is_grave(&self) -> bool {
        match self {
            Self::NoDaemon { .. }
            | Self::Untrusted { .. }
            | Self::Unreadable { .. }
            | Self::NeedsLogin { .. }
            | Self::NeedsApproval
            | Self::KeyExpired
            | Self::Stopped
            | Self::Starting
            | Self::UnknownState { .. }
            | Self::NoInterface
            | Self::NotOnInterface { .. }
            | Self::NoNode { .. }
            | Self::NodeAnswer { .. }
            | Self::Joining { .. }
            | Self::LogIn { .. }
            | Self::RefusedThere { .. }
            | Self::NodeExpired => true,
            Self::ForeignAddress { .. }
            | Self::Warning { .. }
            | Self::CoordinatorAway { .. }
            | Self::RelayAway { .. } => false,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::NoDaemon { .. } => {
                "start it: systemctl enable --now tailscaled; if its socket is elsewhere, give --mesh-socket PATH".to_owned()
            }
            Self::Untrusted { socket, .. } => format!(
                "see who listens on {socket}; tailscaled runs as root, or as the user that asks it; allod node also as the \
                 owner of a folder that root gave it"
            ),
            Self::Unreadable { .. } => "bring tailscaled to a current version (1.80 or newer)".to_owned(),
            Self::NeedsLogin { page: Some(page) } => format!("log it in: tailscale up, or open {page}"),
            Self::NeedsLogin { page: None } => {
                "log it in: tailscale up --auth-key KEY (with --login-server URL if the mesh is your own)".to_owned()
            }
            Self::NeedsApproval => "approve the machine where the mesh is administered".to_owned(),
            Self::KeyExpired => {
                "log it in again: tailscale up --force-reauth; a server's key is best set never to expire".to_owned()
            }
            Self::Stopped => "tailscale up".to_owned(),
            Self::Starting => {
                "wait a moment; if it stays so, can this machine reach the coordinator? tailscale netcheck".to_owned()
            }
            Self::UnknownState { .. } => "tailscale status says more".to_owned(),
            Self::NoInterface => "run tailscaled with a network interface (without --tun=userspace-networking), \
                                  or let allod be on the mesh by itself: --mesh embedded"
                .to_owned(),
            Self::NotOnInterface { address } => {
                format!("ip address show to {address}; restarting tailscaled puts it back")
            }
            Self::ForeignAddress { .. } => {
                "give the mesh addresses within 100.64.0.0/10 and fd7a:115c:a1e0::/48".to_owned()
            }
            Self::Warning { .. } => "tailscale status says more".to_owned(),
            Self::NoNode { .. } => {
                "start it: allod node; if its socket is elsewhere, give --mesh-socket PATH".to_owned()
            }
            Self::NodeAnswer { .. } => "bring allod node and this program to the same version; users besides its own need \
                                        allod node --client UID"
                .to_owned(),
            Self::Joining { .. } => {
                "wait a moment; if it stays so, can this machine reach the coordinator? The log of allod node says more"
                    .to_owned()
            }
            Self::LogIn { page } => format!("open {page}"),
            Self::RefusedThere { .. } => {
                "start allod node with --join FILE and a new token, or let the machine in where the mesh is administered"
                    .to_owned()
            }
            Self::NodeExpired => {
                "start allod node with --join FILE and a new token; a server's key is best set never to expire".to_owned()
            }
            Self::CoordinatorAway { .. } => {
                "nothing for now: what it said last holds for two weeks; can this machine reach the coordinator?".to_owned()
            }
            Self::RelayAway { .. } => "can this machine reach the relay? Direct paths go on without it".to_owned(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon { socket, why } => write!(f, "tailscaled does not answer at {socket}: {why}"),
            Self::Untrusted { socket, why } => write!(f, "what listens at {socket} is not believed: {why}"),
            Self::Unreadable { why } => write!(f, "tailscaled's answer can't be read: {why}"),
            Self::NeedsLogin { .. } => write!(f, "this machine is not logged in to the mesh"),
            Self::NeedsApproval => write!(f, "this machine waits to be approved on the mesh"),
            Self::KeyExpired => write!(f, "this machine's key on the mesh has expired"),
            Self::Stopped => write!(f, "tailscaled runs, but was told to stay off the mesh"),
            Self::Starting => write!(f, "tailscaled is on its way to the mesh"),
            Self::UnknownState { state } => write!(f, "tailscaled is in the state `{state}`"),
            Self::NoInterface => {
                write!(
                    f,
                    "tailscaled runs in userspace-networking mode: listening on the mesh can't work there"
                )
            }
            Self::NotOnInterface { address } => {
                write!(f, "{address} is this machine's on the mesh, but on none of its interfaces")
            }
            Self::ForeignAddress { address } => {
                write!(f, "{address} was given to this machine, but is no mesh address; it is not used")
            }
            Self::Warning { says } => write!(f, "tailscaled warns: {says}"),
            Self::NoNode { socket, why } => write!(f, "allod node does not answer at {socket}: {why}"),
            Self::NodeAnswer { why } => write!(f, "allod node's answer can't be used: {why}"),
            Self::Joining { why: None } => write!(f, "allod node is on its way to the mesh"),
            Self::Joining { why: Some(why) } => write!(f, "allod node can't get onto the mesh: {why}"),
            Self::LogIn { .. } => write!(f, "this machine waits to be let in to the mesh"),
            Self::RefusedThere { why } => write!(f, "the coordinator refuses this machine: {why}"),
            Self::NodeExpired => write!(f, "this machine's key on the mesh has expired"),
            Self::CoordinatorAway { why } => write!(f, "the coordinator is away: {why}"),
            Self::RelayAway { region, why } => write!(f, "the relay of region {region} is away: {why}"),
        }
    }
}

/// How long a key that ends at `expiry` still lasts, if that is soon; zero if it has ended.
#[must_use]
pub fn ends_soon(expiry: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    expiry.map(|expiry| expiry.since(now)).filter(|left| *left < KEY_NOTICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_spoken_of_two_weeks_before_its_end_and_after_it() {
        let now = Timestamp(1_780_000_000_000);
        let left = |expiry| ends_soon(Some(expiry), now);
        assert_eq!(left(now.minus(KEY_NOTICE)), Some(Duration::ZERO));
        assert_eq!(left(now.plus(KEY_NOTICE / 2)), Some(KEY_NOTICE / 2));
        assert_eq!(left(now.plus(KEY_NOTICE)), None);
        assert_eq!(ends_soon(None, now), None);
    }
}
