//! As whom a store logs in, for the policies that these need.

use keyward_config::Name;

use super::mount::Mount;
use super::settings::{AppRoleKeys, Auth};

impl Auth {
    /// Which runner reads where a connection names this one, or none. `None`: there are no runners.
    pub(in crate::store::vault) fn role<'a>(&'a self, runner: Option<&'a Name>) -> Option<&'a Name> {
        let Self::Approle(keys) = self else { return None };
        let only = || keys.runners.keys().next();
        runner.or(keys.runner.as_ref()).or_else(only)
    }

    /// Where the worker has secret ids made, for which runners. Empty: there is no worker.
    pub(in crate::store::vault) fn secret_id_paths(&self) -> Vec<(&Name, String)> {
        match self {
            Self::Approle(keys) if keys.worker.is_some() => of_runners(keys),
            _ => Vec::new(),
        }
    }
}

fn of_runners(keys: &AppRoleKeys) -> Vec<(&Name, String)> {
    let paths = keys.runners.iter().filter_map(|(name, runner)| {
        let mount = runner.mount.as_deref().or(keys.mount.as_deref());
        let mount = Mount::read("auth.runners: mount", mount, "approle").ok()?;
        Some((name, mount.secret_id_path(runner.role_name.as_deref().unwrap_or(name.as_str()))))
    });
    paths.collect()
}
