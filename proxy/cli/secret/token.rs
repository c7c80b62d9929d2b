//! The operator's own token: where the commands of Vault and of OpenBao look for it.

use std::path::PathBuf;

use keyward_auth::{Secret, StoreErrorKind};
use keyward_config::read_file;

use crate::cli::prompt;

/// The longest token, in bytes. Those of batches are long.
const MAX: usize = 16 * 1024;
/// Both programs keep it under this name.
const FILE: &str = ".vault-token";
/// OpenBao's own name first, as its own command does.
const VARIABLES: [&str; 2] = ["BAO_TOKEN", "VAULT_TOKEN"];

/// Where a token came from.
#[derive(Clone, Copy)]
pub(super) enum From {
    Variable(&'static str),
    File,
    Prompt,
}

impl From {
    /// What to say beside an error.
    pub(super) fn hint(self, kind: StoreErrorKind) -> String {
        match (kind, self) {
            (StoreErrorKind::LoginFailed | StoreErrorKind::Denied, Self::Variable(name)) => format!(" (the token is that of {name})"),
            (StoreErrorKind::LoginFailed | StoreErrorKind::Denied, Self::File) => format!(" (the token is that of ~/{FILE})"),
            _ => String::new(),
        }
    }
}

/// The token for this store; none where no store wants one.
///
/// # Errors
/// There is none, and nobody can be asked.
pub(super) fn find(store: Option<&str>) -> Result<Option<(Secret, From)>, String> {
    let Some(store) = store else { return Ok(None) };
    for name in VARIABLES {
        if let Some(text) = std::env::var(name).ok().filter(|text| !text.trim().is_empty()) {
            return Ok(Some((Secret::from(text), From::Variable(name))));
        }
    }
    if let Some(token) = of_file()? {
        return Ok(Some((token, From::File)));
    }
    if !prompt::is_terminal() {
        return Err(format!(
            "{store}: there is no token: set BAO_TOKEN or VAULT_TOKEN, log in with `bao login` or `vault login`, or run this on a terminal"
        ));
    }
    match prompt::hidden(&format!("Your token for {store}: "), MAX) {
        Ok(token) if token.is_empty() => Err("there is no token".to_owned()),
        Ok(token) => Ok(Some((token, From::Prompt))),
        Err(error) => Err(format!("the token: {error}")),
    }
}

fn of_file() -> Result<Option<Secret>, String> {
    let path = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(FILE));
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
    let bytes = read_file(&path, u64::try_from(MAX).unwrap_or_default())?;
    let blank = bytes.iter().all(u8::is_ascii_whitespace);
    Ok(Some(Secret::from(bytes.to_vec())).filter(|_| !blank))
}
