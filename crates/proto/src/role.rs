//! What a key may do at most. Scopes narrow it further; see `allod-commands`.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A ceiling on what a caller may do. Ordered: each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Named commands only. What a machine gets.
    Caller,
    /// Reads.
    Viewer,
    /// Reads, and changes apps.
    Deployer,
    /// Runs the server: operations of others, pruning.
    Operator,
    /// Everything, keys included.
    Owner,
}

impl Role {
    /// Every role, lowest first.
    pub const ALL: [Self; 5] = [Self::Caller, Self::Viewer, Self::Deployer, Self::Operator, Self::Owner];

    /// The role as written in `role=` and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = crate::words::WordError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(crate::words::WordError("a role: caller, viewer, deployer, operator or owner"))
    }
}
