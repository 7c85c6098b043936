//! Whose nodes they are.

use super::{UserId, go};
use allod_proto::Timestamp;
use serde::{Deserialize, Serialize};

/// A person, or what stands for one (tailcfg.User).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct User {
    /// Its number.
    #[serde(rename = "ID")]
    pub id: UserId,
    /// A name to show.
    pub display_name: String,
    /// A picture, or empty.
    #[serde(rename = "ProfilePicURL")]
    pub profile_pic_url: String,
    /// Since when there is one.
    #[serde(with = "go::time")]
    pub created: Option<Timestamp>,
}

/// How it logged in (tailcfg.Login).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Login {
    /// Its number.
    #[serde(rename = "ID")]
    pub id: i64,
    /// `authkey`, …
    pub provider: String,
    /// An address, in form: `mesh@internal`.
    pub login_name: String,
    /// A name to show.
    pub display_name: String,
    /// A picture, or empty.
    #[serde(rename = "ProfilePicURL")]
    pub profile_pic_url: String,
}

/// What other nodes may know of a user (tailcfg.UserProfile).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UserProfile {
    /// Its number.
    #[serde(rename = "ID")]
    pub id: UserId,
    /// An address, in form.
    pub login_name: String,
    /// A name to show.
    pub display_name: String,
    /// A picture.
    #[serde(rename = "ProfilePicURL", skip_serializing_if = "go::is_empty")]
    pub profile_pic_url: String,
}
