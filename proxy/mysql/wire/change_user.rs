//! COM_CHANGE_USER: a new login on an old connection.

use zeroize::Zeroizing;

use super::{Attributes, Fields, Malformed};
use crate::mysql::capabilities::Capabilities;

/// The command's byte.
const COMMAND: u8 = 0x11;

/// Who a client wants to be from now on.
#[derive(Clone, PartialEq, Eq)]
pub struct ChangeUser {
    /// Who it says it is.
    pub user: Vec<u8>,
    /// Its proof, for `plugin`, made with the scramble of the greeting.
    pub auth: Zeroizing<Vec<u8>>,
    /// The database; `None` if it names none.
    pub database: Option<Vec<u8>>,
    /// Its collation; `None` if it says none.
    pub charset: Option<u16>,
    /// The plugin of its proof. Empty: none is named.
    pub plugin: Vec<u8>,
    /// Its connection attributes.
    pub attributes: Attributes,
}

impl ChangeUser {
    /// Parses the command with its first byte, as a client with these capabilities sends it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(payload: &[u8], client: Capabilities) -> Result<Self, Malformed> {
        const PROOF: &str = "a proof of another length than it says";
        let mut fields = Fields(payload);
        if fields.u8("an empty command")? != COMMAND {
            return Err(Malformed("another command than a change of the user"));
        }
        let user = fields.string("a user name without an end")?.to_vec();
        // One byte whatever PLUGIN_AUTH_LENENC says, unlike in the answer to a greeting.
        let auth = if client.has(Capabilities::SECURE_CONNECTION) {
            let length = fields.u8(PROOF)?;
            fields.take(length.into(), PROOF)?
        } else {
            fields.string(PROOF)?
        };
        let auth = Zeroizing::new(auth.to_vec());
        let database = Some(fields.last_string().to_vec()).filter(|name| !name.is_empty());
        let charset = if fields.is_empty() { None } else { Some(fields.u16("a collation that is too short")?) };
        let plugin = if client.has(Capabilities::PLUGIN_AUTH) { fields.last_string().to_vec() } else { Vec::new() };
        let attributes = if client.has(Capabilities::CONNECT_ATTRS) { fields.attributes()? } else { Attributes::new() };
        Ok(Self { user, auth, database, charset, plugin, attributes })
    }
}
