//! Rules: which users reach which connections, as which accounts.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{Name, Spanned};

/// One rule. What no rule allows is refused.
#[derive(Deserialize, JsonSchema)]
pub struct Access {
    /// Users or groups. A name that is both is both.
    pub allow: Vec<Spanned<Name>>,
    /// Connections; `*` stands for any run of characters.
    pub connections: Vec<Spanned<Pattern>>,
    /// Accounts of those connections, with the same wildcard. Absent: all of them.
    #[serde(default)]
    pub accounts: Option<Vec<Spanned<Pattern>>>,
}

/// A name in which `*` stands for any run of characters, also none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub(crate) String);
