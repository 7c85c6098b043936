//! A server that takes another identity has the old one say so: who pinned the old one can follow, link by link, and
//! nobody else is believed.

use crate::{
    signer::{SignError, Signer},
    sshsig,
    verify::{Refusal, verify_signature},
};
use allod_proto::{
    Fingerprint, Timestamp,
    headers::SUCCESSION_NAMESPACE,
    messages::server::{SUCCESSIONS, Succession},
};

/// The bytes that the old identity signs, in the namespace `allod-succession-v1`.
fn bytes(old: &Fingerprint, new: &Fingerprint, at: Timestamp) -> Vec<u8> {
    format!("{SUCCESSION_NAMESPACE}\n{old}\n{new}\n{at}\n").into_bytes()
}

/// The old identity names the new one.
///
/// # Errors
/// [`SignError`] when the key can't be used.
pub fn sign_succession(old: &dyn Signer, new: &Fingerprint, at: Timestamp) -> Result<Succession, SignError> {
    let fingerprint = old.fingerprint();
    let signature = old.sign(SUCCESSION_NAMESPACE, &bytes(&fingerprint, new, at))?;
    Ok(Succession { old: fingerprint, new: new.clone(), at, signature: sshsig::to_base64(&signature) })
}

/// Whether the chain leads from the pinned identity to the one that is there now: each link signed by the identity
/// before it, without a gap, from the pinned one to the end.
///
/// # Errors
/// [`Refusal`] with the first thing that is wrong.
pub fn follow(chain: &[Succession], pinned: &Fingerprint, now: &Fingerprint) -> Result<(), Refusal> {
    if chain.len() > SUCCESSIONS {
        return Err(Refusal::Malformed("the succession is too long"));
    }
    let links: Vec<&Succession> = chain.iter().skip_while(|link| link.old != *pinned).collect();
    let mut identity = pinned;
    for link in &links {
        if link.old != *identity {
            return Err(Refusal::OtherKey);
        }
        let signature = sshsig::from_base64(&link.signature)?;
        let key = sshsig::signer_key(&signature)?;
        if key.fingerprint() != identity {
            return Err(Refusal::OtherKey);
        }
        verify_signature(&key, SUCCESSION_NAMESPACE, &bytes(&link.old, &link.new, link.at), &signature)?;
        identity = &link.new;
    }
    if links.is_empty() || identity != now { Err(Refusal::UnknownKey) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        KeySigner,
        fixtures::{NOW, key},
    };

    fn link(old: u8, new: u8) -> Succession {
        sign_succession(&key(old), &key(new).fingerprint(), NOW).unwrap()
    }

    fn leads(chain: &[Succession], pinned: u8, now: u8) -> Result<(), Refusal> {
        follow(chain, &key(pinned).fingerprint(), &key(now).fingerprint())
    }

    #[test]
    fn a_chain_that_does_not_lead_from_the_pinned_identity_to_the_present_one_is_refused() {
        assert_eq!(leads(&[], 1, 2), Err(Refusal::UnknownKey));
        assert_eq!(leads(&[], 1, 1), Err(Refusal::UnknownKey));
        assert_eq!(leads(&[link(1, 2)], 1, 3), Err(Refusal::UnknownKey));
        assert_eq!(leads(&[link(2, 3)], 1, 3), Err(Refusal::UnknownKey));
        assert_eq!(leads(&[link(1, 2), link(3, 4)], 1, 4), Err(Refusal::OtherKey));
        assert_eq!(leads(&[link(1, 2), link(2, 3)], 1, 2), Err(Refusal::UnknownKey));
    }

    #[test]
    fn a_link_that_the_old_identity_did_not_sign_is_refused() {
        let mut forged = link(9, 2);
        forged.old = key(1).fingerprint();
        assert_eq!(leads(&[forged], 1, 2), Err(Refusal::OtherKey));
        let redirected = Succession { new: key(9).fingerprint(), ..link(1, 2) };
        assert_eq!(leads(&[redirected], 1, 9), Err(Refusal::BadSignature));
        let dated = Succession { at: Timestamp(1), ..link(1, 2) };
        assert_eq!(leads(&[dated], 1, 2), Err(Refusal::BadSignature));
        let unsigned = Succession { signature: String::new(), ..link(1, 2) };
        assert!(leads(&[unsigned], 1, 2).is_err());
    }

    #[test]
    fn a_reply_or_request_of_the_old_identity_is_no_succession() {
        struct Misled(KeySigner);
        impl Signer for Misled {
            fn public_key(&self) -> &crate::PublicKey {
                self.0.public_key()
            }
            fn sign(&self, _: &str, message: &[u8]) -> Result<Vec<u8>, SignError> {
                self.0.sign(allod_proto::headers::REPLY_NAMESPACE, message)
            }
        }
        let misled = sign_succession(&Misled(key(1)), &key(2).fingerprint(), NOW).unwrap();
        assert_eq!(leads(&[misled], 1, 2), Err(Refusal::Namespace));
    }

    #[test]
    fn a_chain_of_any_bounded_length_is_followed_from_any_of_its_links() {
        let chain: Vec<_> = (0..16).map(|seed| link(seed, seed + 1)).collect();
        for pinned in 0..16 {
            assert_eq!(leads(&chain, pinned, 16), Ok(()), "{pinned}");
        }
        let long: Vec<_> = (0..17).map(|seed| link(seed, seed + 1)).collect();
        assert!(matches!(leads(&long, 0, 17), Err(Refusal::Malformed(_))));
    }
}
