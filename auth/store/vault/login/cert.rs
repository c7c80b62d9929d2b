//! The client certificate of the connection to the store (vault.md §4.4).

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::Granted;
use super::mount::Mount;
use super::post::Post;
use super::settings::CertKeys;
use crate::store::vault::client::Client;
use crate::store::vault::settings::Settings;
use crate::store::{StoreError, StoreErrorKind};
use crate::tls::certificates;

/// Before its end, a certificate is warned about: at a fifth of its life, at most this long.
const LONGEST_WARNING: Duration = Duration::from_secs(14 * 86_400);
const HINTS: &[(u16, &str)] = &[(403, "a wrong mount")];

/// The login by the certificate that the connection shows.
pub(in crate::store::vault) struct Cert {
    mount: Mount,
    name: Option<String>,
    file: PathBuf,
}

impl Cert {
    pub(super) fn new(keys: &CertKeys, settings: &Settings) -> Result<Self, String> {
        let (Some(file), Some(_)) = (&settings.client_cert, &settings.client_key) else {
            return Err("`method: cert` shows the store's client_cert: give it and client_key".to_owned());
        };
        Ok(Self { mount: Mount::read("auth.mount", keys.mount.as_deref(), "cert")?, name: keys.name.clone(), file: file.to_path_buf() })
    }

    pub(super) fn prepare(&self) -> Result<Post, StoreError> {
        let body = self.name.as_ref().map_or_else(|| json!({}), |name| json!({ "name": name }));
        let proves = self.file.as_os_str().as_encoded_bytes();
        Ok(Post::new(&self.mount, &["login"], body, &[proves], HINTS))
    }

    pub(super) async fn perform(&self, client: &Client, post: &Post) -> Result<Granted, StoreError> {
        let result = post.log_in(client).await;
        match (result, self.warning().await) {
            (Err(error), Some(warning)) if error.kind == StoreErrorKind::LoginFailed => {
                Err(StoreError::new(error.kind, format!("{}; {warning}", error.detail)))
            }
            (result, _) => result,
        }
    }

    /// That the certificate ends soon.
    pub(super) async fn warning(&self) -> Option<String> {
        let file = self.file.clone();
        let life = tokio::task::spawn_blocking(move || life(&file)).await.ok().flatten();
        life?.warning(SystemTime::now())
    }
}

/// From when to when a certificate is good.
struct Life {
    begin: SystemTime,
    end: SystemTime,
}

impl Life {
    fn warning(&self, now: SystemTime) -> Option<String> {
        let fifth = self.end.duration_since(self.begin).ok()?.checked_div(5)?;
        let left = self.end.duration_since(now).unwrap_or_default();
        let hours = left.as_secs().checked_div(3600)?;
        (left < fifth.min(LONGEST_WARNING))
            .then(|| format!("client_cert ends in {hours} h, and with it logins and renewals; a new one is taken at a reload"))
    }
}

fn life(file: &std::path::Path) -> Option<Life> {
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
