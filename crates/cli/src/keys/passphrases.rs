//! Unlocking key files: asked once a run for each file, on the terminal without echo, or read from a descriptor.

use super::KeysError;
use allod_signing::{KeyError, KeySigner, Signer};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// How often a person may try.
const TRIES: usize = 3;
/// The longest passphrase, in bytes.
pub(crate) const LIMIT: usize = 1024;

type Passphrase = Zeroizing<Vec<u8>>;

/// Unlocks key files and keeps what was unlocked for this run.
pub struct Passphrases {
    descriptor: Option<u32>,
    can_ask: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` stays locked: nobody is asked twice.
    unlocked: HashMap<PathBuf, Option<Arc<dyn Signer>>>,
    from_descriptor: Option<Passphrase>,
}

impl Passphrases {
    /// From a descriptor, or from a person if there is one.
    #[must_use]
    pub fn new(descriptor: Option<u32>, can_ask: bool) -> Self {
        Self { descriptor, can_ask, state: Mutex::default() }
    }

    /// Whether a locked key can be unlocked here at all.
    #[must_use]
    pub fn may_unlock(&self) -> bool {
        self.descriptor.is_some() || self.can_ask
    }

    /// Unlocks a key file. Others that want the same file wait, and are served by the same answer.
    ///
    /// # Errors
    /// [`KeysError`] when it stays locked, or is no key.
    pub fn unlock(&self, path: &Path, text: &str) -> Result<Arc<dyn Signer>, KeysError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = state.unlocked.get(path) {
            return known.clone().ok_or_else(|| KeysError::Locked(path.to_owned()));
        }
        let outcome = self.try_unlock(&mut state, path, text);
        state.unlocked.insert(path.to_owned(), outcome.as_ref().ok().cloned());
        outcome
    }

    fn try_unlock(&self, state: &mut State, path: &Path, text: &str) -> Result<Arc<dyn Signer>, KeysError> {
        if let Some(fd) = self.descriptor {
            let passphrase = match &state.from_descriptor {
                Some(read) => read.clone(),
                None => state.from_descriptor.insert(read_descriptor(fd)?).clone(),
            };
            return opened(path, text, &passphrase)?.ok_or_else(|| KeysError::Locked(path.to_owned()));
        }
        if !self.can_ask {
            return Err(KeysError::PassphraseNeeded(path.to_owned()));
        }
        for _ in 0..TRIES {
            let prompt = format!("Passphrase of {}: ", crate::render::safe(&path.display().to_string()));
            let Some(passphrase) = ask(&prompt).map_err(|_| KeysError::PassphraseNeeded(path.to_owned()))?
            else {
                break;
            };
            if let Some(signer) = opened(path, text, &passphrase)? {
                return Ok(signer);
            }
        }
        Err(KeysError::Locked(path.to_owned()))
    }
}

fn opened(path: &Path, text: &str, passphrase: &[u8]) -> Result<Option<Arc<dyn Signer>>, KeysError> {
    match KeySigner::from_openssh(text, Some(passphrase)) {
        Ok(signer) => Ok(Some(Arc::new(signer))),
        Err(KeyError::WrongPassphrase | KeyError::PassphraseNeeded) => Ok(None),
        Err(error) => Err(KeysError::Unusable { path: path.to_owned(), why: error.to_string() }),
    }
}

/// The first line of an inherited descriptor.
fn read_descriptor(fd: u32) -> Result<Passphrase, KeysError> {
    let failed = |error| KeysError::Descriptor { fd, error };
    // A path that names our own descriptor, so that no unsafe adoption of a number is needed.
    let file = File::open(format!("/dev/fd/{fd}")).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT));
    file.take(LIMIT as u64).read_to_end(&mut bytes).map_err(failed)?;
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}

/// Asks on the terminal without echo; `None` when the person gives up. What is beyond [`LIMIT`] is not kept.
pub(crate) fn ask(prompt: &str) -> io::Result<Option<Passphrase>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(prompt.as_bytes())?;
    let quiet = Quiet::begin(&terminal)?;
    let answer = read_line(&mut terminal);
    drop(quiet);
    terminal.write_all(b"\n")?;
    answer
}

/// The terminal neither echoes nor sends signals while this lives, so that Ctrl-C can't leave it mute.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn begin(terminal: &File) -> io::Result<Self> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that refuses its own settings.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

fn read_line(terminal: &mut impl io::Read) -> io::Result<Option<Passphrase>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LIMIT));
    loop {
        let mut byte = [0];
        if terminal.read(&mut byte)? == 0 {
            return Ok(None);
        }
        match byte {
            [b'\r' | b'\n'] => return Ok(Some(line)),
            // Ctrl-C, Ctrl-D on an empty line.
            [3] => return Ok(None),
            [4] if line.is_empty() => return Ok(None),
            // Backspace takes a whole character.
            [8 | 127] => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U.
            [21] => line.clear(),
            [byte] if line.len() < LIMIT => line.push(byte),
            [_] => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> Option<Vec<u8>> {
        read_line(&mut &*bytes).unwrap().map(|line| line.to_vec())
    }

    #[test]
    fn giving_up_is_no_empty_passphrase() {
        assert_eq!(typed(b"abc\x03"), None);
        assert_eq!(typed(b"\x04"), None);
        assert_eq!(typed(b"abc"), None);
        assert_eq!(typed(b"\n"), Some(Vec::new()));
    }

    #[test]
    fn a_typing_mistake_can_be_taken_back() {
        assert_eq!(typed("aé\u{7f}b\n".as_bytes()), Some(b"ab".to_vec()));
        assert_eq!(typed(b"wrong\x15right\r"), Some(b"right".to_vec()));
    }

    #[test]
    fn without_a_person_nobody_is_asked() {
        let none = Passphrases::new(None, false);
        assert!(!none.may_unlock());
        let refused = none.unlock(Path::new("/k"), "x").err().unwrap();
        assert!(matches!(refused, KeysError::PassphraseNeeded(_)));
    }
}
