//! A worker that may have secret ids made, and runners that may read (vault.md §5.3).
//!
//! The worker's ids lie with Keyward and open nothing: all that its policy lets it do is have a secret id made, wrapped. Each login of a
//! runner takes a new one, which is good for that login. Its token is given back at once.

use std::sync::Arc;

use keyward_config::Name;
use reqwest::Method;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::approle;
use super::mount::{Mount, is_segment};
use super::post::{LOGIN, Post};
use super::settings::{AppRoleKeys, RunnerKeys};
use super::wrapping::{SecretId, Trouble, Wrapping};
use super::{Granted, HeldBack, Rejected, fingerprint};
use crate::store::vault::answer::Failure;
use crate::store::vault::client::{Call, Client, Retry, Space};
use crate::store::vault::errors::explain;
use crate::store::{Input, Outer, StoreError, StoreErrorKind};

/// For how long a secret id is wrapped that we open at once. A worker's policy may allow as little as ten seconds, and mostly minutes.
const WRAPPED_FOR: &str = "60s";

/// The login of a runner, by way of its worker.
pub(in crate::store::vault) struct Worker {
    mount: Mount,
    role_id: Input,
    secret_id: Input,
    refused: Arc<Refused>,
    runner: Runner,
}

/// The login of a worker that was refused last, until when. Its runners share it: each trying for itself, five of them would lock the worker
/// at once.
#[derive(Default)]
pub(super) struct Refused(tokio::sync::Mutex<HeldBack>);

struct Runner {
    mount: Mount,
    role_name: String,
    role_id: Input,
}

/// The ids as they are now.
pub(in crate::store::vault) struct Proof {
    worker: Post,
    runner_id: Zeroizing<String>,
    /// Where the runner's secret ids come from, and with it which one it is.
    origin: String,
}

impl Worker {
    pub(super) fn new(keys: &AppRoleKeys, runner: Option<&str>, outer: &Arc<dyn Outer>) -> Result<Self, String> {
        if keys.role_id.is_some() || keys.secret_id.is_some() || keys.wrapped_secret_id.is_some() || keys.role_name.is_some() {
            return Err("auth: either the ids of one role, or a worker and its runners, which have theirs".to_owned());
        }
        let worker = keys.worker.as_ref().ok_or("auth.worker is missing: it gets the runners their secret ids")?;
        let (name, chosen) = choose(keys, runner)?;
        let mount = |key: &str, own: &Option<String>| Mount::read(key, own.as_deref().or(keys.mount.as_deref()), "approle");
        let role_name = chosen.role_name.clone().unwrap_or_else(|| name.to_string());
        if !is_segment(&role_name) {
            return Err(format!("auth.runners.{name}.role_name: a name without /"));
        }
        Ok(Self {
            mount: mount("auth.worker.mount", &worker.mount)?,
            role_id: Input::new("auth.worker.role_id", &worker.role_id, outer),
            secret_id: Input::new("auth.worker.secret_id", &worker.secret_id, outer),
            refused: Arc::clone(&worker.refused),
            runner: Runner {
                mount: mount("auth.runners: mount", &chosen.mount)?,
                role_name,
                role_id: Input::new("auth.runners: role_id", &chosen.role_id, outer),
            },
        })
    }

    pub(super) fn go_on_from(&mut self, former: &Self) {
        self.refused = Arc::clone(&former.refused);
    }

    pub(super) async fn prepare(&self) -> Result<Proof, StoreError> {
        let (role_id, secret_id) = (self.role_id.read().await?, self.secret_id.read().await?);
        let worker = approle::post(&self.mount, &role_id, Some(&secret_id));
        let origin = self.runner.mount.secret_id_path(&self.runner.role_name);
        Ok(Proof { worker, runner_id: self.runner.role_id.read().await?, origin })
    }

    pub(super) async fn perform(&self, client: &Client, proof: &Proof) -> Result<Granted, Rejected> {
        let worker = self.refused.unless(client, &proof.worker).await.map_err(step("worker_login_failed"))?;
        let secret_id = self.fetch(client, &worker.text).await;
        give_back(client, &worker.text).await;
        let post = approle::post(&self.runner.mount, &proof.runner_id, Some(&secret_id?.text));
        post.log_in(client).await.map_err(step("runner_login_failed"))
    }

    /// Has a secret id of the runner made, wrapped, and opens it.
    async fn fetch(&self, client: &Client, worker: &HeaderValue) -> Result<SecretId, StoreError> {
        let origin = self.runner.mount.secret_id_path(&self.runner.role_name);
        let path = self.runner.mount.path(["role", &self.runner.role_name, "secret-id"]);
        let call = Call {
            method: Method::POST,
            limit: Some(LOGIN),
            // A standby that lags behind does not know the worker's token yet.
            fresh: true,
            space: Space::Login,
            wrap: Some(WRAPPED_FOR),
            ..Call::get("wrap", &path)
        };
        let answer = client.call(&call, Some(worker), Retry::OnceMore).await.map_err(|failure| denied(&origin, failure))?;
        let wrapping = Wrapping::of_answer(&answer);
        let wrapping = wrapping.ok_or_else(|| StoreError::new(StoreErrorKind::LoginFailed, "wrap_denied: the answer is not wrapped"))?;
        let opened = wrapping.open(client, &origin).await;
        opened.map_err(|trouble| {
            let step = if matches!(trouble, Trouble::Intercepted { .. }) { "wrap_intercepted" } else { "unwrap_failed" };
            trouble.report(client, step)
        })
    }
}

impl Refused {
    /// Logs the worker in, one at a time, unless this very login was refused lately.
    async fn unless(&self, client: &Client, post: &Post) -> Result<Granted, Rejected> {
        let mut held_back = self.0.lock().await;
        if let Some(rejected) = held_back.of(&post.fingerprint) {
            return Err(rejected.clone());
        }
        let result = post.log_in(client).await;
        held_back.learn(post.fingerprint, &result);
        result
    }
}

/// The runner that a connection names, or that the store does, or the only one.
fn choose<'a>(keys: &'a AppRoleKeys, runner: Option<&str>) -> Result<(&'a Name, &'a RunnerKeys), String> {
    let wanted = runner.or(keys.runner.as_ref().map(Name::as_str));
    match wanted {
        Some(wanted) => keys.runners.get_key_value(wanted).ok_or_else(|| format!("auth.runner: there is none named {wanted}")),
        None if keys.runners.len() > 1 => {
            let all: Vec<&str> = keys.runners.keys().map(Name::as_str).collect();
            Err(format!("auth.runner is missing: say which one reads where a connection chooses none: {}", all.join(", ")))
        }
        None => keys.runners.iter().next().ok_or_else(|| "auth.runners is missing: the worker itself may read nothing".to_owned()),
    }
}

/// Its work is done. That it could not be given back harms no session: it ends by itself, and may do but one thing.
async fn give_back(client: &Client, worker: &HeaderValue) {
    let call = Call { method: Method::POST, space: Space::Login, fresh: true, ..Call::get("token_revoke", "auth/token/revoke-self") };
    if let Err(failure) = client.call(&call, Some(worker), Retry::Idempotent).await {
        let error = explain("giving the worker's token back", failure);
        tracing::info!(store = client.name, %error, "the worker's token lives on until its end");
    }
}

fn denied(origin: &str, failure: Failure) -> StoreError {
    let refused = matches!(&failure, Failure::Refused(refused) if matches!(refused.status, 400 | 403 | 404));
    let error = explain(&format!("wrap_denied: making a wrapped secret id at {origin}"), failure);
    if !refused {
        return error;
    }
    let hint = "the worker's policy must allow `update` there, wrapped for 60 s (min_wrapping_ttl, max_wrapping_ttl)";
    StoreError::new(StoreErrorKind::LoginFailed, format!("{} ({hint})", error.detail))
}

/// The same, of this step.
fn step(name: &'static str) -> impl FnOnce(Rejected) -> Rejected {
    move |Rejected { error, until }| Rejected { error: StoreError::new(error.kind, format!("{name}: {}", error.detail)), until }
}

impl Proof {
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&[&self.worker.fingerprint, self.runner_id.as_bytes(), self.origin.as_bytes()])
    }
}
