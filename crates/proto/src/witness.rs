//! What an agent tells the hub so that somebody else remembers how long its record was: the newest signed head, in a
//! report that the server's own identity signs. The hub keeps the highest and marks one that went back or forked.

use crate::{
    Fingerprint, Timestamp,
    record::{Head, SignedHead},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where reports go: `POST`, `application/json`. `GET` answers with [`WitnessedAll`].
pub const PATH: &str = "/witness";
/// The SSHSIG namespace of reports, and the first line of what is signed.
pub const NAMESPACE: &str = "allod-witness-v1";
/// The largest report, in bytes.
pub const BODY: usize = 16 * 1024;
/// How far a report's time may lie from the hub's clock, either way.
pub const FRESHNESS: Duration = Duration::from_secs(300);
/// How often a server reports a head that has changed.
pub const EVERY: Duration = Duration::from_secs(3);
/// How often it reports one that has not, so that the hub knows it lives.
pub const AT_LEAST_EVERY: Duration = Duration::from_secs(30);
/// The longest name of a server, in bytes.
pub const NAME: usize = 64;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessReport {
    /// The server's own name, for people: printable, without line breaks, at most [`NAME`] bytes.
    pub name: String,
    /// The port of its management API, at the address the report comes from.
    pub port: u16,
    /// The server's identity key, in OpenSSH form. The hub knows the server by this key's fingerprint.
    pub identity_key: String,
    /// The record key, in OpenSSH form. The hub pins it at first sight.
    pub record_key: String,
    /// The newest head, signed by the record key.
    pub head: SignedHead,
    /// When the report was made. A later report has a later time.
    pub at: Timestamp,
    /// SSHSIG in [`NAMESPACE`] by the identity key, standard base64 without armour, over
    /// [`WitnessReport::signed_bytes`].
    pub signature: String,
    /// How the identity came from the ones before, so that the hub knows the server again. Each link is signed by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub succession: Vec<crate::messages::server::Succession>,
}

impl WitnessReport {
    /// The bytes that `signature` covers: lines, each ended by a newline: the namespace, the fingerprint of the
    /// identity key, the name, the port, the fingerprint of the record key, the head's sequence number, hash and time,
    /// and the time of the report in milliseconds.
    #[must_use]
    pub fn signed_bytes(&self, identity: &Fingerprint, record_key: &Fingerprint) -> Vec<u8> {
        format!(
            "{NAMESPACE}\n{identity}\n{}\n{}\n{record_key}\n{}\n{}\n{}\n{}\n",
            self.name, self.port, self.head.head.seq, self.head.head.hash, self.head.at.0, self.at.0
        )
        .into_bytes()
    }

    /// Whether the name can be shown and signed as one line.
    #[must_use]
    pub fn name_is_sound(name: &str) -> bool {
        (1..=NAME).contains(&name.len()) && name.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    }
}

/// What the hub made of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessReply {
    /// Its judgement.
    pub verdict: Verdict,
    /// The highest head it has witnessed of this server.
    pub highest: Head,
}

/// Everything that a hub has witnessed. It is not signed by the hub and needn't be: the heads are signed by the servers, so a hub can
/// keep one back but make none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessedAll {
    /// A server each.
    pub servers: Vec<Witnessed>,
}

/// What a hub has witnessed of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witnessed {
    /// The server.
    pub identity: Fingerprint,
    /// The highest head, signed by the server's record key.
    pub head: SignedHead,
    /// When that was witnessed, by the hub's clock.
    pub witnessed_at: Timestamp,
    /// What is wrong with the record, until a person acknowledges it at the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Verdict>,
}

/// The hub's judgement of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is the first, or higher than the one before, and is kept.
    Witnessed,
    /// It is the one already kept.
    Same,
    /// It is lower than the one kept: the record lost lines. Refused and marked.
    GoneBack,
    /// It has the sequence number of the one kept and another hash: the record was rewritten. Refused and marked.
    Forked,
    /// Another record key than the one pinned signed it. Refused and marked.
    RecordKeyChanged,
    /// A judgement that a newer hub knows.
    #[serde(other)]
    Unknown,
}

impl Verdict {
    /// Whether a person must look at it.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        match self {
            Self::Witnessed | Self::Same => false,
            Self::GoneBack | Self::Forked | Self::RecordKeyChanged | Self::Unknown => true,
        }
    }

    /// As a clause about the server.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Witnessed | Self::Same => "its record is what it was and more",
            Self::GoneBack => "its record has lost lines that this hub has witnessed",
            Self::Forked => "its record has been rewritten",
            Self::RecordKeyChanged => "its record is signed by another key than before",
            Self::Unknown => "its record was judged in a way this version does not know",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn a_name_that_could_forge_a_line_is_not_sound() {
        for bad in ["", "a\nb", "a\rb", "b\u{202e}c", "é", &"a".repeat(65)] {
            assert!(!WitnessReport::name_is_sound(bad), "{bad:?}");
        }
        assert!(WitnessReport::name_is_sound("web 1"));
    }

    #[test]
    fn the_signed_bytes_are_nine_lines() {
        let head = SignedHead {
            head: Head { seq: 7, hash: Digest::of("line") },
            at: Timestamp(11),
            signature: "c2ln".to_owned(),
        };
        let report = WitnessReport {
            name: "web1".to_owned(),
            port: 9844,
            identity_key: String::new(),
            record_key: String::new(),
            head,
            at: Timestamp(12),
            signature: String::new(),
            succession: Vec::new(),
        };
        let identity = Fingerprint::new(format!("SHA256:{}", "a".repeat(43))).unwrap();
        let record = Fingerprint::new(format!("SHA256:{}", "b".repeat(43))).unwrap();
        let text = String::from_utf8(report.signed_bytes(&identity, &record)).unwrap();
        let hash = Digest::of("line");
        let expected = format!("allod-witness-v1\n{identity}\nweb1\n9844\n{record}\n7\n{hash}\n11\n12\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn a_report_with_a_field_too_many_is_refused_and_a_newer_verdict_is_not() {
        let text = r#"{"name":"a","port":1,"identity_key":"","record_key":"","head":{"seq":0,
            "hash":"0000000000000000000000000000000000000000000000000000000000000000","at":1,"signature":""},
            "at":2,"signature":""}"#;
        let report: WitnessReport = serde_json::from_str(text).unwrap();
        assert_eq!(report.head.head, Head::EMPTY);
        assert!(serde_json::from_str::<WitnessReport>(&text.replacen('{', "{\"x\":1,", 1)).is_err());
        assert_eq!(serde_json::from_str::<Verdict>("\"new\"").unwrap(), Verdict::Unknown);
        assert!(Verdict::Unknown.is_trouble());
    }
}
