//! The client certificate of the connection to the store (vault.md §4.4).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use keyward_config::Stamp;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::json;

use super::mount::Mount;
use super::near_end::is_near;
use super::post::Post;
use super::settings::CertKeys;
use super::{Granted, Rejected};
use crate::store::vault::client::Client;
use crate::store::vault::settings::Settings;
use crate::store::{StoreError, StoreErrorKind};
use crate::tls::{certificates, private_key};

const HINTS: &[(u16, &str)] = &[(403, "a wrong mount")];

/// The login by the certificate that the connection shows.
pub(in crate::store::vault) struct Cert {
    mount: Mount,
    name: Option<String>,
    files: Files,
    shown: Arc<Mutex<Shown>>,
}

/// What is shown, and to whom. A store that a reload opens anew shares it with those of before: they give leases back for as long as their
/// sessions live, and no login of theirs takes up what is in the files by then.
struct Shown {
    /// The files as they were when what is in them was last taken.
    taken: Stamps,
    on: Vec<Weak<Client>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

type Stamps = [Option<Stamp>; 2];

impl Cert {
    pub(super) fn new(keys: &CertKeys, settings: &Settings) -> Result<Self, String> {
        let (Some(certificate), Some(key)) = (&settings.client_cert, &settings.client_key) else {
            return Err("`method: cert` shows the store's client_cert: give it and client_key".to_owned());
        };
        let files = Files { certificate: certificate.to_path_buf(), key: key.to_path_buf() };
        let mount = Mount::read("auth.mount", keys.mount.as_deref(), "cert")?;
        let shown = Arc::new(Mutex::new(Shown { taken: files.stamps(), on: Vec::new() }));
        Ok(Self { mount, name: keys.name.clone(), files, shown })
    }

    /// What is taken up from now on is shown by this client, too.
    pub(super) fn show_on(&self, client: &Arc<Client>) {
        if let Ok(mut shown) = self.shown.lock() {
            shown.on.retain(|client| client.strong_count() > 0);
            shown.on.push(Arc::downgrade(client));
        }
    }

    /// Shows on the clients of both what the next login takes up, where it comes from the same files.
    pub(super) fn go_on_from(&mut self, former: &Self) {
        if self.files != former.files {
            return;
        }
        let read = self.shown.lock().map(|shown| shown.taken).unwrap_or_default();
        if let Ok(mut shown) = former.shown.lock()
            && shown.taken != read
        {
            // They were renewed in between: of the two, one does not show it yet.
            shown.taken = Stamps::default();
        }
        self.shown = Arc::clone(&former.shown);
    }

    /// The files that are renewed under their names.
    pub(super) fn files(&self) -> Vec<&Path> {
        vec![&self.files.certificate, &self.files.key]
    }

    pub(super) async fn prepare(&self, client: &Client) -> Result<Post, StoreError> {
        let now = self.take_up(client).await;
        let body = self.name.as_ref().map_or_else(|| json!({}), |name| json!({ "name": name }));
        // Another certificate is another proof.
        let proves = [format!("{now:?}"), self.name.clone().unwrap_or_default()];
        Ok(Post::new(&self.mount, &["login"], body, &proves.each_ref().map(String::as_bytes), HINTS))
    }

    /// Shows what is in the files now, if that is something else. The two are not written at one moment: until they fit each other, the
    /// former ones are shown.
    async fn take_up(&self, client: &Client) -> Stamps {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || (files.stamps(), files.read())).await;
        let Ok((now, read)) = read else { return Stamps::default() };
        let Ok(mut shown) = self.shown.lock() else { return now };
        if shown.taken == now {
            return now;
        }
        match read {
            Ok(certificate) => {
                shown.on.iter().filter_map(Weak::upgrade).for_each(|client| client.show(&certificate));
                shown.taken = now;
                tracing::info!(store = client.name, "took up the new client_cert");
            }
            Err(error) => tracing::warn!(store = client.name, error, "the new client_cert cannot be used: the former one is shown"),
        }
        shown.taken
    }

    pub(super) async fn perform(&self, client: &Client, post: &Post) -> Result<Granted, Rejected> {
        let mut result = post.log_in(client).await;
        if let (Err(Rejected { error, .. }), Some(warning)) = (&mut result, self.warning().await)
            && error.kind == StoreErrorKind::LoginFailed
        {
            *error = StoreError::new(error.kind, format!("{}; {warning}", error.detail));
        }
        result
    }

    /// That the certificate ends soon.
    pub(super) async fn warning(&self) -> Option<String> {
        let file = self.files.certificate.clone();
        let life = tokio::task::spawn_blocking(move || life(&file)).await.ok().flatten();
        life?.warning(SystemTime::now())
    }
}

impl Files {
    fn stamps(&self) -> Stamps {
        [Stamp::of(&self.certificate), Stamp::of(&self.key)]
    }

    fn read(&self) -> Result<Arc<dyn ResolvesClientCert>, String> {
        let (chain, key) = (certificates(&self.certificate)?, private_key(&self.key)?);
        let pair = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| error.to_string())?;
        Ok(Arc::new(SingleCertAndKey::from(pair)))
    }
}

/// From when to when a certificate is good.
struct Life {
    begin: SystemTime,
    end: SystemTime,
}

impl Life {
    fn warning(&self, now: SystemTime) -> Option<String> {
        let whole = self.end.duration_since(self.begin).ok()?;
        let left = self.end.duration_since(now).unwrap_or_default();
        let hours = left.as_secs().checked_div(3600)?;
        is_near(whole, left).then(|| format!("client_cert ends in {hours} h, and with it logins and renewals"))
    }
}

fn life(file: &Path) -> Option<Life> {
    let chain = certificates(file).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let time =
        |time: x509_parser::time::ASN1Time| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(time.timestamp()).ok()?));
    Some(Life { begin: time(certificate.validity().not_before)?, end: time(certificate.validity().not_after)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_about_in_the_last_fifth_of_its_life_and_in_its_last_two_weeks() {
        let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        for (life, day, warned) in
            [((0, 10), 7, false), ((0, 10), 9, true), ((0, 365), 340, false), ((0, 365), 352, true), ((0, 10), 11, true)]
        {
            let life = Life { begin: at(life.0), end: at(life.1) };
            assert_eq!(life.warning(at(day)).is_some(), warned, "day {day}");
        }
    }
}
