//! Names of machines: exact, with their domain or without, and never of two.

use crate::MeshError;
use allod_proto::node::NodePeer;

/// Why a name means nobody.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nobody has it.
    #[error("`{0}` is nobody's name on the mesh, as far as this machine knows")]
    Nobody(String),
    /// More than one has it.
    #[error("`{name}` is the name of {first} and of {second}; give the whole name")]
    Several {
        /// The name.
        name: String,
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// The node can't be asked.
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

/// The one of `peers` that has this name.
pub(super) fn find(peers: Vec<NodePeer>, name: &str) -> Result<NodePeer, ResolveError> {
    let shown: String = name.chars().take(253).collect();
    let wanted = name.trim_end_matches('.');
    let is_it = |peer: &NodePeer| {
        let short = peer.name.split('.').next().unwrap_or_default();
        !wanted.is_empty() && (peer.name.eq_ignore_ascii_case(wanted) || short.eq_ignore_ascii_case(wanted))
    };
    let mut found = peers.into_iter().filter(is_it);
    let first = found.next().ok_or_else(|| ResolveError::Nobody(shown.clone()))?;
    match found.next() {
        Some(second) => Err(ResolveError::Several { name: shown, first: first.name, second: second.name }),
        None => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::node::NodePath;

    fn peers(names: &[&str]) -> Vec<NodePeer> {
        let peer = |name: &&str| NodePeer {
            name: (*name).to_owned(),
            addresses: Vec::new(),
            tags: Vec::new(),
            user: None,
            online: None,
            path: NodePath::Idle,
        };
        names.iter().map(peer).collect()
    }

    #[test]
    fn a_part_of_a_name_and_no_name_mean_nobody() {
        for wanted in ["", ".", "we", "web1.mesh", "mesh.internal", "web1.mesh.internal.x", "web2"] {
            let found = find(peers(&["web1.mesh.internal"]), wanted);
            assert!(matches!(found, Err(ResolveError::Nobody(_))), "{wanted}: {found:?}");
        }
    }

    #[test]
    fn a_name_of_two_is_refused_with_both() {
        let found = find(peers(&["web1.mesh.internal", "web1.friend.internal"]), "web1");
        assert!(matches!(&found, Err(ResolveError::Several { .. })), "{found:?}");
    }

    #[test]
    fn a_name_is_found_with_its_domain_and_without_in_any_case() {
        for wanted in ["web1", "WEB1", "web1.mesh.internal", "Web1.Mesh.Internal", "web1.mesh.internal."] {
            let all = peers(&["web1.mesh.internal", "web10.mesh.internal", "db.mesh.internal"]);
            assert_eq!(find(all, wanted).unwrap().name, "web1.mesh.internal", "{wanted}");
        }
    }
}
