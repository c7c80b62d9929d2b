//! `keyward policy`: the smallest policies that a store needs for the file, in the store's own language. For `bao policy write` and
//! `vault policy write`: on standard output is nothing else.

use std::path::Path;

use clap::Args;
use keyward_auth::{AskStore, PolicyOf, StorePolicy};

use super::{DONE, FAILED, WRONG, failed, runtime};
use crate::reload;

/// Whose.
#[derive(Args)]
pub(super) struct Wanted {
    /// The store, as the file names it.
    store: String,
    /// Only that of this runner.
    #[arg(long, value_name = "NAME", conflicts_with = "worker")]
    runner: Option<String>,
    /// Only that of the worker, which gets the runners their secret ids.
    #[arg(long)]
    worker: bool,
    /// The file only: the store is not asked what is mounted where a reference leaves that open.
    #[arg(long)]
    offline: bool,
}

pub(super) fn policy(path: &Path, wanted: &Wanted) -> u8 {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(text) => return failed(&text),
    };
    runtime.block_on(async {
        let (loaded, gate) = reload::load(path);
        let (Some(config), Some(gate)) = (loaded.config.filter(|_| !loaded.problems.has_errors()), gate) else {
            eprint!("{}", loaded.problems);
            return WRONG;
        };
        let ask = if wanted.offline { AskStore::Never } else { AskStore::IfNeeded };
        match gate.store_policies(&config, &wanted.store, ask).await {
            Ok(policies) => print(policies, wanted),
            Err(error) => {
                eprintln!("keyward: {}", error.detail);
                WRONG
            }
        }
    })
}

fn print(policies: Vec<StorePolicy>, wanted: &Wanted) -> u8 {
    let all: Vec<String> = policies.iter().map(|policy| named(&policy.of)).collect();
    let is_wanted = |of: &PolicyOf| match (of, &wanted.runner, wanted.worker) {
        (PolicyOf::Runner(name), Some(runner), _) => name == runner,
        (_, Some(_), _) => false,
        (of, None, true) => *of == PolicyOf::Worker,
        (_, None, false) => true,
    };
    let chosen: Vec<String> = policies.into_iter().filter(|policy| is_wanted(&policy.of)).map(|policy| policy.text).collect();
    if chosen.is_empty() {
        eprintln!("keyward: the file needs no such policy; it needs: {}", all.join(", "));
        return FAILED;
    }
    if chosen.len() > 1 {
        // Written as one, each login would have the rights of all.
        eprintln!("keyward: these are {} policies, each for a login of its own; take them one by one: {}", chosen.len(), all.join(", "));
    }
    print!("{}", chosen.join("\n"));
    DONE
}

/// How it is asked for.
fn named(of: &PolicyOf) -> String {
    match of {
        PolicyOf::Store => "the store's own".to_owned(),
        PolicyOf::Runner(name) => format!("--runner {name}"),
        PolicyOf::Worker => "--worker".to_owned(),
    }
}
