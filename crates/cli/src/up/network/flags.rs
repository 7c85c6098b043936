//! What is said of the mesh on the command line of `allod up`, and which mesh that means.

use super::{
    super::{
        places::{NodePlace, Places},
        ports::Ports,
        program::Program,
    },
    Network, OwnNetwork, PORTS, Standing, put_file,
    tailscaled::TailscaledNetwork,
};
use crate::{failure::Failure, mesh};
use allod_proto::node::Forward;
use clap::{Args, ValueEnum};
use std::{
    cell::Cell,
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    rc::Rc,
};
use zeroize::Zeroizing;

/// What is said of the mesh on the command line.
#[derive(Debug, Clone, Args)]
pub(in crate::up) struct NetworkFlags {
    /// The mesh: `embedded` is one of its own, with the coordinator in the hub; `tailscaled` is the one that this machine's tailscaled
    /// is on; `loopback` is this machine alone
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t = Kind::Embedded)]
    mesh: Kind,
    /// The socket of tailscaled, where it isn't at its usual place
    #[arg(long, value_name = "FILE")]
    tailscaled_socket: Option<PathBuf>,
    /// Where the coordinator is for the nodes of other machines, TCP and UDP; otherwise only this machine's find it
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["join", "headscale"])]
    coordinator: Option<SocketAddr>,
    /// Join the mesh of a hub elsewhere, by the token that `allod hub keys create --tag tag:server` printed there into this file;
    /// it is read the first time, and there is no hub here
    #[arg(long, value_name = "FILE", conflicts_with = "headscale")]
    join: Option<PathBuf>,
    /// Join the mesh of a Headscale, or of another coordinator without a token, by https; there is no hub here
    #[arg(long, value_name = "URL")]
    headscale: Option<String>,
    /// The file with the key that lets the machine in there; without it a person has to. It is read until the machine is in
    #[arg(long, value_name = "FILE", requires = "headscale")]
    auth_key_file: Option<PathBuf>,
    /// The certificate authorities (PEM) that are believed there, instead of the system's
    #[arg(long, value_name = "FILE", requires = "headscale")]
    authorities: Option<PathBuf>,
    /// Which of this machine's addresses the mesh's datagrams come from; otherwise all of them
    #[arg(long, value_name = "ADDRESS")]
    only: Option<IpAddr>,
    /// Pass a port of this server on the mesh to a TCP address here, such as 22=127.0.0.1:22 for its sshd; may be given again
    #[arg(long, value_name = "PORT=ADDRESS:PORT")]
    forward: Vec<Forward>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Embedded,
    Tailscaled,
    Loopback,
}

/// What lets the server's node in.
#[derive(Debug, Clone)]
pub(in crate::up) enum Entry {
    /// A key of the hub here.
    Own,
    /// The token in this file.
    Token(PathBuf),
    /// A coordinator that gives no tokens.
    Server(Server),
}

/// A coordinator that gives no tokens.
#[derive(Debug, Clone)]
pub(in crate::up) struct Server {
    /// Where it is.
    pub(in crate::up) url: String,
    key_file: Option<PathBuf>,
    authorities: Option<PathBuf>,
}

impl Server {
    /// What lets a machine in; without one a person does.
    ///
    /// # Errors
    /// [`Failure`] when it can't be read.
    pub(super) fn key(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(file) = &self.key_file else { return Ok(None) };
        let shown = file.display().to_string();
        let opened = File::open(file).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        mesh::read_token(opened, &shown).map(Some)
    }

    /// Gives the node who it is to believe.
    ///
    /// # Errors
    /// [`Failure`] when nobody could be believed by that.
    pub(super) fn put_authorities(&self, place: &NodePlace, uid: Option<u32>) -> Result<(), Failure> {
        let Some(file) = &self.authorities else { return Ok(()) };
        let pem = mesh::read_authorities(file)?;
        put_file(&place.authorities(), &pem, uid)
    }
}

impl NetworkFlags {
    /// Refuses words that mean nothing together.
    ///
    /// # Errors
    /// [`Failure`] that names them.
    pub(in crate::up) fn check(&self) -> Result<(), Failure> {
        let given = [
            ("--coordinator", self.coordinator.is_some()),
            ("--join", self.join.is_some()),
            ("--headscale", self.headscale.is_some()),
            ("--only", self.only.is_some()),
            ("--forward", !self.forward.is_empty()),
        ];
        if self.mesh != Kind::Embedded
            && let Some((flag, _)) = given.iter().find(|(_, is_given)| *is_given)
        {
            let message = format!("{flag} is for a node of our own, and there is none with this --mesh");
            return Err(Failure::usage(message).hint("leave one of them out"));
        }
        // With a flag that excludes it beside them, clap no longer asks for --headscale.
        if self.headscale.is_none() && (self.auth_key_file.is_some() || self.authorities.is_some()) {
            return Err(Failure::usage("--auth-key-file and --authorities are for --headscale"));
        }
        if self.headscale.as_ref().is_some_and(|url| !url.starts_with("https://")) {
            let message =
                "--headscale takes an https:// URL: by plain http whoever is on the way could take its place";
            return Err(Failure::usage(message).hint("--authorities FILE is for a certificate of your own"));
        }
        if let Some(taken) = self.forward.iter().find(|forward| [PORTS.0, PORTS.1].contains(&forward.port)) {
            let message = format!("--forward {taken}: port {} is the agent's or the hub's own", taken.port);
            return Err(Failure::usage(message).hint("forward another port of the mesh there"));
        }
        if self.mesh != Kind::Tailscaled && self.tailscaled_socket.is_some() {
            return Err(Failure::usage("--tailscaled-socket is for --mesh tailscaled"));
        }
        Ok(())
    }

    /// The address of the coordinator, where there is one.
    pub(in crate::up) fn coordinator(&self) -> Option<IpAddr> {
        let address = self.coordinator.map_or(Ipv4Addr::LOCALHOST.into(), |given| given.ip());
        let is_here = self.mesh == Kind::Embedded && self.join.is_none() && self.headscale.is_none();
        is_here.then_some(address)
    }

    /// Whether loopback is all the mesh there is.
    pub(in crate::up) fn is_loopback(&self) -> bool {
        self.mesh == Kind::Loopback
    }

    /// Its port; 0 leaves the choice.
    pub(in crate::up) fn coordinator_port(&self) -> u16 {
        self.coordinator.map_or(0, |given| given.port())
    }

    fn entry(&self) -> Entry {
        match (&self.join, &self.headscale) {
            (Some(file), _) => Entry::Token(file.clone()),
            (None, Some(url)) => Entry::Server(Server {
                url: url.clone(),
                key_file: self.auth_key_file.clone(),
                authorities: self.authorities.clone(),
            }),
            (None, None) => Entry::Own,
        }
    }

    /// The mesh of these ports; `asked` are those that were asked for.
    /// `has_moved` is whether the coordinator was elsewhere before.
    pub(in crate::up) fn network(
        &self,
        places: &Places,
        asked: Ports,
        (ports, has_moved): (Ports, bool),
    ) -> Network {
        let or = |asked: u16, usual: u16| if asked == 0 { usual } else { asked };
        let (management, hub) = (or(asked.management, PORTS.0), or(asked.hub, PORTS.1));
        match self.mesh {
            Kind::Loopback => Network::Loopback,
            Kind::Tailscaled => {
                let socket =
                    self.tailscaled_socket.clone().map(|file| std::path::absolute(&file).unwrap_or(file));
                Network::Tailscaled(TailscaledNetwork::new(socket, (management, hub), ports.mesh_address))
            }
            Kind::Embedded => {
                let mut own = self.own(places, ports, (management, hub));
                if has_moved {
                    own.has_moved = true;
                    // Not before they are told where it is now.
                    own.standing.set(Standing { may_join: false, ..own.standing.get() });
                }
                Network::Own(Box::new(own))
            }
        }
    }

    fn own(&self, places: &Places, ports: Ports, (management, hub): (u16, u16)) -> OwnNetwork {
        let coordinator = self.coordinator();
        let server = places.node(Program::Node);
        let person = coordinator.map(|_| places.node(Program::ClientNode));
        let hub_address = if coordinator.is_some() { ports.mesh_address } else { ports.mesh_hub };
        let standing = Standing {
            may_join: [Some(&server), person.as_ref()].into_iter().flatten().all(NodePlace::has_joined),
            address: ports.mesh_address,
            hub: hub_address.map(|address| SocketAddr::new(address, hub)),
        };
        OwnNetwork {
            coordinator: coordinator.map(|address| SocketAddr::new(address, ports.coordinator)),
            entry: self.entry(),
            has_moved: false,
            only: self.only.or(coordinator.filter(IpAddr::is_loopback)),
            management,
            hub,
            forwards: self.forward.clone(),
            server,
            person,
            standing: Rc::new(Cell::new(standing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        network: NetworkFlags,
    }

    fn read(words: &str) -> Result<NetworkFlags, clap::Error> {
        Line::try_parse_from(std::iter::once("up").chain(words.split_ascii_whitespace()))
            .map(|line| line.network)
    }

    #[test]
    fn words_of_two_meshes_at_once_are_refused() {
        for bad in [
            "--join a --headscale https://h",
            "--coordinator 127.0.0.1:1 --headscale https://h",
            "--auth-key-file a",
            "--mesh none",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for bad in [
            "--mesh tailscaled --join a",
            "--mesh tailscaled --coordinator 127.0.0.1:1",
            "--mesh tailscaled --headscale https://h",
            "--mesh tailscaled --only 127.0.0.1",
            "--mesh loopback --join a",
            "--tailscaled-socket a",
            "--mesh loopback --tailscaled-socket a",
            "--headscale http://192.0.2.1:8080",
            "--authorities a --join b",
            "--auth-key-file a --join b",
            "--headscale headscale.example",
        ] {
            assert!(read(bad).unwrap().check().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_mesh_of_its_own_has_a_coordinator_here() {
        for (words, has_one) in [
            ("", true),
            ("--coordinator 192.0.2.1:1", true),
            ("--join a", false),
            ("--headscale https://h", false),
            ("--mesh tailscaled", false),
            ("--mesh loopback", false),
        ] {
            let flags = read(words).unwrap();
            flags.check().unwrap();
            assert_eq!(flags.coordinator().is_some(), has_one, "{words}");
        }
    }
}
