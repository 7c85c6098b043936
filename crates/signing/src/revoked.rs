//! What must not be accepted any more, whoever vouches for it: keys by fingerprint, certificates by CA and serial. A
//! line that isn't understood is an error of the whole: nobody could say whom it meant to keep out.

use crate::{enrolled::Complaint, public_key::PublicKey};
use allod_proto::Fingerprint;
use std::collections::BTreeSet;

/// The list of revocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    keys: BTreeSet<Fingerprint>,
    serials: BTreeSet<(Fingerprint, u64)>,
}

impl Revoked {
    /// Reads a file of lines, each with an optional comment after it: a fingerprint `SHA256:…`; a key in OpenSSH form;
    /// or `serial SHA256:… 17`, the CA and the serial of a certificate (0 are all certificates without one).
    ///
    /// # Errors
    /// Every line that is none of these. Whoever loads the file keeps the list it had, or does not start.
    pub fn parse(text: &str) -> Result<Self, Vec<Complaint>> {
        let mut revoked = Self::default();
        let mut complaints = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(message) = revoked.add_line(line) {
                complaints.push(Complaint { line: number, message });
            }
        }
        if complaints.is_empty() { Ok(revoked) } else { Err(complaints) }
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "serial" {
            let authority = words.next().and_then(|word| word.parse().ok());
            let serial = words.next().and_then(|word| word.parse().ok());
            let (Some(authority), Some(serial)) = (authority, serial) else {
                return Err("it is not: serial SHA256:… number".to_owned());
            };
            self.revoke_serial(authority, serial);
        } else if let Ok(fingerprint) = first.parse() {
            self.revoke(fingerprint);
        } else {
            let key = PublicKey::from_openssh(line).map_err(|error| {
                format!("it is no fingerprint, serial or key that could be revoked: {error}")
            })?;
            self.revoke(key.fingerprint().clone());
        }
        Ok(())
    }

    /// Adds a key: as a signer, as a certificate's key, and as a CA.
    pub fn revoke(&mut self, key: Fingerprint) {
        self.keys.insert(key);
    }

    /// Adds a certificate of a CA.
    pub fn revoke_serial(&mut self, authority: Fingerprint, serial: u64) {
        self.serials.insert((authority, serial));
    }

    /// Whether this key is revoked.
    #[must_use]
    pub fn has(&self, key: &Fingerprint) -> bool {
        self.keys.contains(key)
    }

    /// Whether this certificate is revoked.
    #[must_use]
    pub fn has_serial(&self, authority: &Fingerprint, serial: u64) -> bool {
        !self.serials.is_empty() && self.serials.contains(&(authority.clone(), serial))
    }

    /// The lines that say this list, sorted.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let keys = self.keys.iter().map(Fingerprint::to_string);
        keys.chain(self.serials.iter().map(|(authority, serial)| format!("serial {authority} {serial}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer as _;

    const FIRST: &str = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const SECOND: &str = "SHA256:BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_line_that_is_not_understood_makes_the_list_unusable() {
        for bad in
            ["SHA256:short", "serial 5", "serial SHA256:x 5", "hash: abc", "ssh-ed25519 AAAA", "serial"]
        {
            let complaints = Revoked::parse(&format!("{FIRST}\n\n{bad}\n")).unwrap_err();
            assert_eq!(complaints.first().map(|complaint| complaint.line), Some(3), "{bad}");
        }
        let too_large = format!("serial {FIRST} 18446744073709551616");
        assert!(Revoked::parse(&too_large).is_err());
    }

    #[test]
    fn keys_and_serials_are_revoked_each_for_itself() {
        let text = format!("# lost\n{FIRST} laptop of Ann\r\nserial {SECOND} 17 left in March\n");
        let revoked = Revoked::parse(&text).unwrap();
        let (first, second) = (FIRST.parse().unwrap(), SECOND.parse().unwrap());
        assert!(revoked.has(&first) && !revoked.has(&second));
        assert!(revoked.has_serial(&second, 17) && !revoked.has_serial(&second, 18));
        assert!(!revoked.has_serial(&first, 17));
        let lines: Vec<_> = revoked.lines().collect();
        assert_eq!(Revoked::parse(&lines.join("\n")).unwrap(), revoked);
    }

    #[test]
    fn a_key_line_revokes_the_key() {
        let revoked = Revoked::parse(&crate::fixtures::key(1).public_openssh()).unwrap();
        assert!(revoked.has(crate::fixtures::key(1).public_key().fingerprint()));
    }
}
