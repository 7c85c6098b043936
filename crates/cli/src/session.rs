//! What every command has: settings, the inventory, keys to sign with, a place to print, somebody to ask.

use crate::{
    arguments::Globals,
    failure::Failure,
    inventory::{Inventory, Server},
    keys::{Candidates, Login, Logins, Wanted},
    known::{FileMemory, KnownServers},
    mesh::OwnMesh,
    output::Output,
    settings::Settings,
};
use allod_mesh::ResolveError;
use allod_proto::{FaultCode, Fingerprint, Timestamp};
use allod_rpc::client::{Client, ClientError, Dialer, Memory, Peer, Tcp};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::{OnceCell, watch};

/// How long a name may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(5);

/// What every command has.
pub struct Session {
    /// From the environment.
    pub settings: Settings,
    /// From the command line.
    pub globals: Globals,
    /// Where to print.
    pub output: Arc<Output>,
    inventory: OnceLock<Inventory>,
    passphrases: Arc<crate::keys::Passphrases>,
    /// Which logins the person was told of.
    told: Arc<Mutex<BTreeSet<Fingerprint>>>,
    interrupts: OnceLock<watch::Receiver<bool>>,
    mesh: OnceCell<Option<OwnMesh>>,
    known: KnownServers,
}

impl Session {
    /// Puts it together.
    #[must_use]
    pub fn new(settings: Settings, globals: Globals, output: Arc<Output>) -> Self {
        let passphrases = Arc::new(crate::keys::Passphrases::new(globals.passphrase_fd, output.can_ask()));
        Self {
            known: KnownServers::new(&settings.state),
            settings,
            globals,
            output,
            inventory: OnceLock::new(),
            passphrases,
            told: Arc::default(),
            interrupts: OnceLock::new(),
            mesh: OnceCell::new(),
        }
    }

    /// The servers a person knows, read once.
    ///
    /// # Errors
    /// [`Failure`] when the inventory can't be read.
    pub fn inventory(&self) -> Result<&Inventory, Failure> {
        if self.inventory.get().is_none() {
            let loaded = Inventory::load(&self.settings.config)?;
            // Another thread may have been first; both read the same file.
            let _ = self.inventory.set(loaded);
        }
        self.inventory
            .get()
            .ok_or_else(|| Failure::new(FaultCode::Internal, "the inventory could not be kept"))
    }

    /// The server of this name.
    ///
    /// # Errors
    /// [`Failure`] when there is none.
    pub fn server(&self, name: &str) -> Result<Server, Failure> {
        Ok(self.inventory()?.server(name)?.clone())
    }

    /// The servers named by `--server`, in that order and each once; all of them when it is not given.
    ///
    /// # Errors
    /// [`Failure`] when one is not known, or none is known at all.
    pub fn servers(&self) -> Result<Vec<Server>, Failure> {
        if self.globals.server.is_empty() {
            let all = self.inventory()?.servers();
            if all.is_empty() {
                return Err(crate::inventory::InventoryError::Empty.into());
            }
            return Ok(all.to_vec());
        }
        self.each_once(self.globals.server.iter())
    }

    /// The servers named by `--server` and by a command's own `--on`, each once; `None` when neither is given.
    ///
    /// # Errors
    /// [`Failure`] when one is not known.
    pub fn servers_on(&self, on: &[String]) -> Result<Option<Vec<Server>>, Failure> {
        if on.is_empty() && self.globals.server.is_empty() {
            return Ok(None);
        }
        self.each_once(self.globals.server.iter().chain(on)).map(Some)
    }

    fn each_once<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<Vec<Server>, Failure> {
        let mut chosen: Vec<Server> = Vec::new();
        for name in names {
            let server = self.server(name)?;
            if !chosen.contains(&server) {
                chosen.push(server);
            }
        }
        Ok(chosen)
    }

    /// The one server a command is about: named by `--server`, or the only one there is.
    ///
    /// # Errors
    /// [`Failure`] when it can't be told which.
    pub fn one_server(&self) -> Result<Server, Failure> {
        let mut servers = self.servers()?;
        match (servers.pop(), servers.is_empty()) {
            (Some(server), true) => Ok(server),
            (last, _) => {
                let names: Vec<String> = servers.into_iter().chain(last).map(|server| server.name).collect();
                Err(Failure::usage(format!("which server? There are {}", names.join(", ")))
                    .hint("`--server NAME` says which"))
            }
        }
    }

    /// What is remembered of servers.
    #[must_use]
    pub fn known(&self) -> KnownServers {
        self.known.clone()
    }

    /// Opens a connection to a server. The first signed call decides which key it accepts.
    ///
    /// # Errors
    /// [`Failure`] when there is no connection, or what is remembered of the server can't be read.
    pub async fn connect(&self, server: &Server) -> Result<Client, Failure> {
        let on = |failure: Failure| failure.on(&server.name);
        let address = self.resolve(&server.address).await.map_err(on)?;
        self.connect_to(server, address).await.map_err(on)
    }

    /// The same with an address that was resolved, and perhaps checked, before.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect_to(&self, server: &Server, address: SocketAddr) -> Result<Client, Failure> {
        let memory = self.memory(server)?;
        self.connect_with(server, address, memory).await
    }

    fn memory(&self, server: &Server) -> Result<Box<dyn Memory>, Failure> {
        let output = Arc::clone(&self.output);
        Ok(Box::new(FileMemory::load(&self.known(), &self.settings.config, &server.identity, output)?))
    }

    /// The same with another memory, for a server that is to be trusted anew.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect_with(
        &self,
        server: &Server,
        address: SocketAddr,
        memory: Box<dyn Memory>,
    ) -> Result<Client, Failure> {
        // Before a key is looked for, which may ask for a passphrase.
        self.check_peer(address).await?;
        let candidates = self.candidates(server)?;
        self.explain(server, address, &candidates);
        self.open(server, address, Box::new(candidates), memory).await
    }

    /// A connection that signs with these keys and no other.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect_as(
        &self,
        server: &Server,
        keys: Box<dyn allod_rpc::client::Keys>,
    ) -> Result<Client, Failure> {
        let on = |failure: Failure| failure.on(&server.name);
        let address = self.resolve(&server.address).await.map_err(on)?;
        self.check_peer(address).await.map_err(on)?;
        let memory = self.memory(server)?;
        self.open(server, address, keys, memory).await.map_err(on)
    }

    async fn open(
        &self,
        server: &Server,
        address: SocketAddr,
        keys: Box<dyn allod_rpc::client::Keys>,
        memory: Box<dyn Memory>,
    ) -> Result<Client, Failure> {
        let peer = Peer {
            name: server.name.clone(),
            address,
            identity: server.identity.clone(),
            record_key: server.record_key.clone(),
        };
        let dialer = self.dialer(address).await?;
        Ok(Client::connect_over(dialer, peer, keys, memory).await?)
    }

    /// The mesh of this machine, if there is one that can be asked. Looked for once.
    ///
    /// # Errors
    /// [`Failure`] when there is a place on one, and it can't be used.
    pub async fn mesh(&self) -> Result<Option<&OwnMesh>, Failure> {
        Ok(self.mesh.get_or_try_init(|| OwnMesh::of(&self.settings)).await?.as_ref())
    }

    /// The same, for what can't be done without one.
    ///
    /// # Errors
    /// [`Failure`] also when this machine is on none.
    pub async fn own_mesh(&self) -> Result<&OwnMesh, Failure> {
        self.mesh().await?.ok_or_else(|| {
            Failure::new(FaultCode::NotFound, "this machine is on no mesh")
                .hint("`allod join TOKEN` brings it onto one")
        })
    }

    /// The same where it has to do with this address: a server elsewhere is reached whatever has become of the mesh.
    async fn mesh_for(&self, address: SocketAddr) -> Result<Option<&OwnMesh>, Failure> {
        if allod_mesh::is_mesh_address(address.ip()) { self.mesh().await } else { Ok(None) }
    }

    /// Refuses an address that the mesh doesn't know.
    ///
    /// # Errors
    /// [`Failure`] when the mesh can be asked and knows nobody there, or it doesn't answer.
    pub async fn check_peer(&self, address: SocketAddr) -> Result<(), Failure> {
        match self.mesh_for(address).await? {
            Some(mesh) => mesh.check_peer(address).await,
            None => Ok(()),
        }
    }

    /// What connects to this address: the machine's own network, or the node that owns its place on the mesh.
    ///
    /// # Errors
    /// As [`Session::mesh`].
    pub async fn dialer(&self, address: SocketAddr) -> Result<Arc<dyn Dialer>, Failure> {
        let over_mesh = self.mesh_for(address).await?.and_then(|mesh| mesh.dialer(address));
        Ok(over_mesh.unwrap_or_else(|| Arc::new(Tcp)))
    }

    /// Looks up `host:port` once; what is checked and what is connected to is then the same address. A name on the person's own
    /// mesh comes first.
    ///
    /// # Errors
    /// [`Failure`] when there is no such host.
    pub async fn resolve(&self, address: &str) -> Result<SocketAddr, Failure> {
        if let Ok(address) = address.parse() {
            return Ok(address);
        }
        match self.resolve_on_mesh(address).await? {
            Some(found) => Ok(found),
            None => look_up(address).await,
        }
    }

    /// The same on the mesh alone; `None` where nobody there has the name.
    ///
    /// # Errors
    /// [`Failure`] when more than one has it, or the mesh doesn't answer.
    pub async fn resolve_on_mesh(&self, address: &str) -> Result<Option<SocketAddr>, Failure> {
        let Some(node) = self.mesh().await?.and_then(OwnMesh::node) else { return Ok(None) };
        let Some((name, port)) = address.rsplit_once(':') else { return Ok(None) };
        let Ok(port) = port.parse() else { return Ok(None) };
        match node.resolve(name).await {
            Ok(peer) => Ok(peer.addresses.first().map(|found| SocketAddr::new(*found, port))),
            Err(ResolveError::Nobody(_)) => Ok(None),
            Err(error @ (ResolveError::Several { .. } | ResolveError::Mesh(_))) => {
                Err(unreachable(address, error.to_string()))
            }
        }
    }

    /// With `-v`, says where it goes and with which keys.
    fn explain(&self, server: &Server, address: SocketAddr, candidates: &Candidates) {
        if self.globals.verbose == 0 {
            return;
        }
        self.output.note(&format!("{}: connecting to {address}, identity {}", server.name, server.identity));
        for candidate in candidates.remaining() {
            let (place, key) = (candidate.place(), candidate.key());
            self.output.note(&format!("{}: may sign with {} ({place})", server.name, key.fingerprint()));
        }
        for why in candidates.passed_over() {
            self.output.note(&format!("{}: {why}", server.name));
        }
    }

    /// The logins of this person.
    #[must_use]
    pub fn logins(&self) -> Logins {
        Logins::new(&self.settings.state)
    }

    /// The keys that may be tried for a server, in order: a login first, unless `--key` names another.
    ///
    /// # Errors
    /// [`Failure`] when a key that was named can't be used.
    pub fn candidates(&self, server: &Server) -> Result<Candidates, Failure> {
        let own = self.own_keys(server)?;
        if self.globals.key.is_some() {
            return Ok(own);
        }
        let (held, broken) = self.logins().load(self.now())?;
        broken.iter().for_each(|why| self.output.warn(&format!("a login can't be used: {why}")));
        let login = held.into_iter().find(|login| login.delegation.terms().is_for(&server.identity));
        let Some(login) = login else { return Ok(own) };
        match login.signer() {
            Ok(signer) => {
                self.tell_of(&login);
                Ok(own.after(Arc::new(signer)))
            }
            Err(why) => {
                self.output.warn(&format!("a login can't be used: {why}"));
                Ok(own)
            }
        }
    }

    /// Says once a command that a login signs.
    fn tell_of(&self, login: &Login) {
        let terms = login.delegation.terms();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(terms.key().fingerprint().clone()) {
            let until = crate::render::time::local(terms.expires_at());
            self.output.note(&format!(
                "signing by the login of {}, {} at most, until {until}",
                login.parent,
                terms.role()
            ));
        }
    }

    /// The same without logins: the person's own keys.
    ///
    /// # Errors
    /// As [`Session::candidates`].
    pub fn own_keys(&self, server: &Server) -> Result<Candidates, Failure> {
        let known = self.known();
        let wanted = Wanted {
            named: self.globals.key.clone().or_else(|| server.key.clone()),
            remembered: known.load(&server.identity)?.key,
            server: server.name.clone(),
            host: crate::keys::host_of(&server.address).to_owned(),
            identity: server.identity.clone(),
        };
        Ok(Candidates::find(
            &self.settings,
            wanted,
            known,
            Arc::clone(&self.passphrases),
            Arc::clone(&self.output),
        )?)
    }

    /// Asks a person before something that can't be undone. `--yes` answers.
    ///
    /// # Errors
    /// [`Failure`] with exit code 9 when nobody can be asked, and with `cancelled` when the answer is no.
    pub fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.globals.yes {
            return Ok(());
        }
        self.ask_yes(question, "--yes")
    }

    /// Asks a person, whatever `--yes` says; `flag` is what answers instead.
    ///
    /// # Errors
    /// As [`Session::confirm`].
    pub fn ask_yes(&self, question: &str, flag: &str) -> Result<(), Failure> {
        let answer = self.ask(&format!("{question} [y/N] "), question, flag)?;
        if matches!(answer.to_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(Failure::new(FaultCode::Cancelled, "not confirmed; nothing was done"))
        }
    }

    /// Asks a person to type a name before something is destroyed. `--yes` answers.
    ///
    /// # Errors
    /// As [`Session::confirm`].
    pub fn confirm_by_name(&self, question: &str, name: &str) -> Result<(), Failure> {
        if self.globals.yes {
            return Ok(());
        }
        let answer = self.ask(&format!("{question}\nType {name} to go on: "), question, "--yes")?;
        if answer == name {
            Ok(())
        } else {
            Err(Failure::new(FaultCode::Cancelled, "not confirmed; nothing was done"))
        }
    }

    fn ask(&self, prompt: &str, question: &str, flag: &str) -> Result<String, Failure> {
        if !self.output.can_ask() || self.output.is_json() {
            return Err(Failure::new(
                FaultCode::Confirmation,
                format!("this needs a confirmation: {question}"),
            )
            .hint(format!("nobody can be asked here; {flag} answers")));
        }
        let lines: Vec<String> = prompt.split('\n').map(crate::render::safe).collect();
        self.output.say(&lines.join("\n"));
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|error| Failure::new(FaultCode::Internal, format!("stdin: {error}")))?;
        Ok(answer.trim().to_owned())
    }

    /// Resolves once there was a Ctrl-C. From the first call on it is remembered: one that comes while nobody waits for
    /// it, such as between an upload and its deploy, is not lost.
    pub async fn interrupted(&self) {
        let heed = || {
            let (tell, told) = watch::channel(false);
            tokio::spawn(async move {
                if tokio::signal::ctrl_c().await.is_ok() {
                    tell.send_replace(true);
                }
                tell.closed().await;
            });
            told
        };
        let mut told = self.interrupts.get_or_init(heed).clone();
        if told.wait_for(|told| *told).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The clock of this machine.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "where the client's own program reads its clock")]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// By the system's resolver.
async fn look_up(address: &str) -> Result<SocketAddr, Failure> {
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(address))
        .await
        .map_err(|_| unreachable(address, format!("its name was not found within {} s", LOOK_UP.as_secs())))?
        .map_err(|error| unreachable(address, format!("its name was not found: {error}")))?
        .next();
    found.ok_or_else(|| unreachable(address, "its name has no address".to_owned()))
}

fn unreachable(what: &str, why: String) -> Failure {
    ClientError::Unreachable { what: what.to_owned(), why }.into()
}
