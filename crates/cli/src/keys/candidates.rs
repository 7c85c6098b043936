//! The keys to try for one server, in order: the named one alone; else the one remembered for the server first, then
//! what the ssh configuration names, the agent's, the default files; keys that would ask for a passphrase last.

use super::{
    Agent, AgentKey, AgentSigner, FileKey, KeysError, Passphrases, default_files,
    files::Content,
    host_config,
    ssh_config::{AgentChoice, HostConfig},
};
use crate::{known::KnownServers, output::Output, settings::Settings};
use allod_proto::Fingerprint;
use allod_rpc::client::{ClientError, Keys};
use allod_signing::{KeySigner, PublicKey, Signer};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

/// For which server keys are looked for, and what is known about which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `--key`, or the server's own `key`.
    pub named: Option<PathBuf>,
    /// The key that was accepted last.
    pub remembered: Option<Fingerprint>,
    /// What the server is called here.
    pub server: String,
    /// The host of its address.
    pub host: String,
    /// Its identity, to remember the accepted key for.
    pub identity: Fingerprint,
}

/// A key that may be tried.
#[derive(Debug, Clone)]
pub enum Candidate {
    /// In an agent.
    Agent(Agent, AgentKey),
    /// In a file.
    File(FileKey),
}

impl Candidate {
    /// Its public half.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        match self {
            Self::Agent(_, key) => &key.key,
            Self::File(file) => &file.key,
        }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Agent(_, key) => format!("ssh-agent, {}", key.comment),
            Self::File(file) => file.path.display().to_string(),
        }
    }

    fn may_prompt(&self) -> bool {
        matches!(self, Self::File(FileKey { content: Content::Private { encrypted: true, .. }, .. }))
    }
}

/// The keys to try for one server.
pub struct Candidates {
    /// A login comes before the person's own keys.
    login: Option<Arc<dyn Signer>>,
    rest: VecDeque<Candidate>,
    /// A certified key is tried again as itself: the server may know the key and not the authority.
    plain: Option<Arc<dyn Signer>>,
    named: bool,
    /// Why keys were passed over, for when none is left.
    passed_over: Vec<String>,
    wanted: Wanted,
    known: KnownServers,
    passphrases: Arc<Passphrases>,
    output: Arc<Output>,
}

impl Candidates {
    /// Looks for keys.
    ///
    /// # Errors
    /// [`KeysError`] when the named key can't be used. Others are passed over.
    pub fn find(
        settings: &Settings,
        wanted: Wanted,
        known: KnownServers,
        passphrases: Arc<Passphrases>,
        output: Arc<Output>,
    ) -> Result<Self, KeysError> {
        let home = settings.home.as_deref();
        let config = home
            .map(|home| host_config(home, &[wanted.server.as_str(), wanted.host.as_str()]))
            .unwrap_or_default();
        let agent = agent_of(settings, &config);
        let mut passed_over = Vec::new();
        let rest = match &wanted.named {
            Some(named) => vec![named_key(named, agent)?],
            None => all_keys(home, &config, agent, wanted.remembered.as_ref(), &mut passed_over),
        };
        let named = wanted.named.is_some();
        Ok(Self {
            login: None,
            rest: rest.into(),
            plain: None,
            named,
            passed_over,
            wanted,
            known,
            passphrases,
            output,
        })
    }

    /// The same after a login.
    #[must_use]
    pub fn after(self, login: Arc<dyn Signer>) -> Self {
        Self { login: Some(login), ..self }
    }

    /// The keys that would be tried, in order.
    pub fn remaining(&self) -> impl Iterator<Item = &Candidate> {
        self.rest.iter()
    }

    /// Why keys were passed over so far.
    #[must_use]
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    fn ready(&mut self, candidate: Candidate) -> Result<Arc<dyn Signer>, KeysError> {
        match candidate {
            Candidate::Agent(agent, key) => Ok(Arc::new(AgentSigner::new(agent, key))),
            Candidate::File(FileKey { path, content: Content::Public, .. }) => {
                Err(KeysError::NotInAgent(path))
            }
            Candidate::File(FileKey {
                path,
                content: Content::Private { text, encrypted, certificate },
                ..
            }) => {
                if encrypted {
                    return self.passphrases.unlock(&path, &text);
                }
                let unusable = |why: allod_signing::KeyError| KeysError::Unusable {
                    path: path.clone(),
                    why: why.to_string(),
                };
                let plain = KeySigner::from_openssh(&text, None).map_err(unusable)?;
                let Some(certificate) = certificate else { return Ok(Arc::new(plain)) };
                let certified =
                    KeySigner::from_openssh(&text, None).and_then(|key| key.with_certificate(&certificate));
                match certified {
                    Ok(certified) => {
                        self.plain = Some(Arc::new(plain));
                        Ok(Arc::new(certified))
                    }
                    Err(_) => Ok(Arc::new(plain)),
                }
            }
        }
    }
}

impl Keys for Candidates {
    fn next(&mut self) -> Result<Option<Arc<dyn Signer>>, ClientError> {
        if let Some(login) = self.login.take() {
            return Ok(Some(login));
        }
        if let Some(plain) = self.plain.take() {
            return Ok(Some(plain));
        }
        while let Some(candidate) = self.rest.pop_front() {
            let place = candidate.place();
            match self.ready(candidate) {
                Ok(signer) => return Ok(Some(signer)),
                Err(error) if self.named => {
                    let fault = allod_proto::Fault::new(error.code(), error.to_string()).hint(error.hint());
                    return Err(ClientError::Fault(fault));
                }
                Err(error) => {
                    self.output.note(&format!("{place} is passed over: {error}"));
                    self.passed_over.push(error.to_string());
                }
            }
        }
        if self.passed_over.is_empty() {
            Ok(None)
        } else {
            Err(ClientError::NoKey(self.passed_over.join("; ")))
        }
    }

    fn accepted(&mut self, key: &Fingerprint) {
        if self.wanted.remembered.as_ref() == Some(key) {
            return;
        }
        self.wanted.remembered = Some(key.clone());
        let remembered = self.known.change(&self.wanted.identity, |known| known.key = Some(key.clone()));
        if let Err(error) = remembered {
            self.output.warn(&format!("the accepted key can't be remembered: {error}"));
        }
    }
}

fn agent_of(settings: &Settings, config: &HostConfig) -> Option<Agent> {
    let environment = settings.agent_socket.as_deref();
    let socket = match &config.identity_agent {
        Some(AgentChoice::None) => None,
        Some(AgentChoice::Socket(socket)) => Some(socket.as_path()),
        Some(AgentChoice::Environment) | None => environment,
    };
    socket.map(Agent::new)
}

/// The key a person named: a file with a private key, or the public half of a key in the agent.
fn named_key(path: &Path, agent: Option<Agent>) -> Result<Candidate, KeysError> {
    let file = FileKey::load(path)?.ok_or_else(|| KeysError::Read {
        path: path.to_owned(),
        error: std::io::ErrorKind::NotFound.into(),
    })?;
    let in_the_clear = matches!(file.content, Content::Private { encrypted: false, .. });
    let held = if in_the_clear { None } else { agent.and_then(|agent| held_by(agent, &file.key)) };
    match (held, &file.content) {
        (Some((agent, key)), _) => Ok(Candidate::Agent(agent, key)),
        (None, Content::Public) => Err(KeysError::NotInAgent(path.to_owned())),
        (None, Content::Private { .. }) => Ok(Candidate::File(file)),
    }
}

fn held_by(agent: Agent, key: &PublicKey) -> Option<(Agent, AgentKey)> {
    let keys = agent.keys().ok()?;
    let held = keys.into_iter().find(|held| held.key == *key && !held.is_certificate())?;
    Some((agent, held))
}

fn all_keys(
    home: Option<&Path>,
    config: &HostConfig,
    agent: Option<Agent>,
    remembered: Option<&Fingerprint>,
    passed_over: &mut Vec<String>,
) -> Vec<Candidate> {
    let mut held = Vec::new();
    if let Some(agent) = agent {
        match agent.keys() {
            Ok(keys) => held.extend(keys.into_iter().map(|key| (agent.clone(), key))),
            // A socket that nobody listens on is what a closed session leaves behind.
            Err(error) => passed_over.push(error.to_string()),
        }
    }
    let named = !config.identity_files.is_empty();
    let paths =
        if named { config.identity_files.clone() } else { home.map(default_files).unwrap_or_default() };
    let mut files = Vec::new();
    for path in paths {
        match FileKey::load(&path) {
            Ok(Some(file)) => files.push(file),
            Ok(None) => {}
            Err(error) => passed_over.push(error.to_string()),
        }
    }
    order(files, named, held, config.identities_only.unwrap_or(false), remembered)
}

/// Puts keys in the order in which they are tried.
fn order(
    files: Vec<FileKey>,
    named: bool,
    held: Vec<(Agent, AgentKey)>,
    only_named: bool,
    remembered: Option<&Fingerprint>,
) -> Vec<Candidate> {
    // What an agent holds needs no passphrase, and asks no one.
    let best = |file: FileKey| -> Vec<Candidate> {
        let same: Vec<_> = held.iter().filter(|(_, key)| key.key == file.key).cloned().collect();
        let in_the_clear = matches!(file.content, Content::Private { encrypted: false, .. });
        if same.is_empty() || in_the_clear {
            return vec![Candidate::File(file)];
        }
        same.into_iter().map(|(agent, key)| Candidate::Agent(agent, key)).collect()
    };
    let others =
        held.iter().filter(|_| !only_named).map(|(agent, key)| Candidate::Agent(agent.clone(), key.clone()));
    let others: Vec<_> = others.collect();
    let files: Vec<_> = files.into_iter().flat_map(best).collect();
    let all = if named { [files, others] } else { [others, files] };
    let mut ordered: Vec<Candidate> = Vec::new();
    for candidate in all.into_iter().flatten() {
        let blob = |candidate: &Candidate| match candidate {
            Candidate::Agent(_, key) => key.blob.clone(),
            Candidate::File(file) => file.key.blob().to_vec(),
        };
        // A public half alone can't sign.
        let can_sign = !matches!(&candidate, Candidate::File(FileKey { content: Content::Public, .. }));
        if can_sign && !ordered.iter().any(|known| blob(known) == blob(&candidate)) {
            ordered.push(candidate);
        }
    }
    ordered.sort_by_key(|candidate| {
        let is_remembered = remembered == Some(candidate.key().fingerprint());
        (!is_remembered, candidate.may_prompt())
    });
    ordered
}

#[cfg(test)]
mod tests;
