//! Reading what was written: standbys answer reads by themselves, and lag behind (vault.md §11.3).
//!
//! A server says in `X-Vault-Index` how far its state has come. Sent back, it keeps a standby that has not come so far from answering.
//! What has to be fresh for sure goes to the leader: OpenBao's index is a number within a cluster, and one that nobody has reached makes a
//! standby hand the call on (`X-Vault-Inconsistent`). Vault Enterprise signs its index: the newest that we saw is what there is to send.
//! OpenBao before 2.7 has no index: one of its standbys may answer with what was there a moment before, whatever we send.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::super::answer::{Answer, Refused};

const INDEX: HeaderName = HeaderName::from_static("x-vault-index");
const INCONSISTENT: HeaderName = HeaderName::from_static("x-vault-inconsistent");
/// By then every standby that is alive knows a token.
const YOUNG: Duration = Duration::from_secs(10);
/// No cluster gets that far.
const NEVER: u64 = i64::MAX as u64;

/// What we know of the state of a store's servers.
#[derive(Default)]
pub(super) struct Seen {
    newest: Mutex<Option<HeaderValue>>,
    young: Mutex<Option<Young>>,
    /// The server takes the header that asks for a standby's leader for a mistake.
    refuses_to_forward: AtomicBool,
}

/// A token that not every standby knows yet.
struct Young {
    token: HeaderValue,
    index: HeaderValue,
    at: Instant,
}

impl Seen {
    /// What an answer says of the server's state.
    pub(super) fn learn(&self, headers: &HeaderMap, answer: Option<&Answer>) {
        let Some(index) = headers.get(INDEX) else { return };
        if let Ok(mut newest) = self.newest.lock()
            && newest.as_ref().is_none_or(|known| !is_older(index, known))
        {
            *newest = Some(index.clone());
        }
        let token = answer.and_then(|answer| answer.body.get("auth")).and_then(|auth| auth.get("client_token")).and_then(Value::as_str);
        if let Some(mut token) = token.and_then(|token| HeaderValue::from_str(token).ok())
            && let Ok(mut young) = self.young.lock()
        {
            token.set_sensitive(true);
            *young = Some(Young { token, index: index.clone(), at: Instant::now() });
        }
    }

    /// What a call says of the state that it needs. One with a token that was just issued is for servers that know the token.
    pub(super) fn mark(&self, headers: &mut HeaderMap, fresh: bool, token: Option<&HeaderValue>) {
        if fresh {
            let newest = self.newest.lock().ok().and_then(|newest| newest.clone());
            let forwards = !self.refuses_to_forward.load(Ordering::Relaxed);
            if forwards {
                headers.insert(INCONSISTENT, HeaderValue::from_static("forward-active-node"));
            }
            if let Some(newest) = newest {
                headers.insert(INDEX, ahead_of(&newest).filter(|_| forwards).unwrap_or(newest));
            }
        } else if let Some(token) = token
            && let Ok(young) = self.young.lock()
            && let Some(young) = young.as_ref().filter(|young| young.token == token && young.at.elapsed() < YOUNG)
        {
            headers.insert(INDEX, young.index.clone());
            if !self.refuses_to_forward.load(Ordering::Relaxed) {
                headers.insert(INCONSISTENT, HeaderValue::from_static("forward-active-node"));
            }
        }
    }

    /// The server takes a header of ours for a mistake: the next try goes without.
    pub(super) fn forget(&self, refused: &Refused) {
        if !refused.says("X-Vault-Index") || refused.says("forwarding via header") {
            self.refuses_to_forward.store(true, Ordering::Relaxed);
            return;
        }
        if let Ok(mut newest) = self.newest.lock() {
            *newest = None;
        }
        if let Ok(mut young) = self.young.lock() {
            *young = None;
        }
    }
}

/// How far a cluster has come, where its index says so: OpenBao's does.
fn read(index: &HeaderValue) -> Option<(String, u64)> {
    let decoded = STANDARD.decode(index.as_bytes()).ok()?;
    let decoded: Value = serde_json::from_slice(&decoded).ok()?;
    Some((decoded.get("cluster")?.as_str()?.to_owned(), decoded.get("value")?.as_str()?.parse().ok()?))
}

/// An index of the same cluster that is behind the other: a standby's, which lags.
fn is_older(index: &HeaderValue, known: &HeaderValue) -> bool {
    match (read(index), read(known)) {
        (Some((cluster, value)), Some((known, reached))) => cluster == known && value < reached,
        _ => false,
    }
}

/// An index of the same cluster that no server has reached.
fn ahead_of(index: &HeaderValue) -> Option<HeaderValue> {
    let (cluster, _) = read(index)?;
    let ahead = json!({ "cluster": cluster, "value": NEVER.to_string() });
    HeaderValue::from_str(&STANDARD.encode(ahead.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(cluster: &str, value: &str) -> HeaderValue {
        HeaderValue::from_str(&STANDARD.encode(json!({ "cluster": cluster, "value": value }).to_string())).unwrap()
    }

    fn learn(seen: &Seen, index: &HeaderValue, body: Option<Value>) {
        let headers = HeaderMap::from_iter([(INDEX, index.clone())]);
        let answer = body.map(|body| Answer { body, asked: Instant::now() });
        seen.learn(&headers, answer.as_ref());
    }

    fn marked(seen: &Seen, fresh: bool, token: &'static str) -> (Option<HeaderValue>, bool) {
        let mut headers = HeaderMap::new();
        seen.mark(&mut headers, fresh, Some(&HeaderValue::from_static(token)));
        (headers.get(INDEX).cloned(), headers.contains_key(INCONSISTENT))
    }

    #[test]
    fn a_fresh_read_is_ahead_of_every_standby_of_openbao() {
        let seen = Seen::default();
        assert_eq!(marked(&seen, true, "t"), (None, true));
        learn(&seen, &index("a", "238"), None);
        let (sent, forwarded) = marked(&seen, true, "t");
        let (cluster, value) = read(&sent.unwrap()).unwrap();
        assert!(forwarded && cluster == "a" && value > u64::from(u32::MAX));
        assert_eq!(marked(&seen, false, "t"), (None, false), "other calls may be answered by a standby that lags");
    }

    #[test]
    fn of_an_index_that_cannot_be_read_as_of_vault_enterprise_the_last_one_is_sent() {
        let (seen, signed) = (Seen::default(), HeaderValue::from_static("djE6Y2x1c3RlcjoxMjowOm1hYw=="));
        learn(&seen, &signed, None);
        assert_eq!(marked(&seen, true, "t"), (Some(signed), true));
    }

    #[test]
    fn a_standby_that_lags_takes_nothing_back_and_another_cluster_does() {
        let newest = |seen: &Seen| seen.newest.lock().unwrap().as_ref().and_then(read).unwrap();
        let seen = Seen::default();
        learn(&seen, &index("a", "238"), None);
        learn(&seen, &index("a", "99"), None);
        assert_eq!(newest(&seen), ("a".to_owned(), 238));
        learn(&seen, &index("b", "5"), None);
        assert_eq!(newest(&seen), ("b".to_owned(), 5));
    }

    #[test]
    fn a_token_that_was_just_issued_goes_with_the_index_of_its_login_and_no_other_does() {
        let (seen, login) = (Seen::default(), index("a", "238"));
        learn(&seen, &login, Some(json!({ "auth": { "client_token": "s.young" } })));
        learn(&seen, &index("a", "300"), Some(json!({ "auth": null })));
        assert_eq!(marked(&seen, false, "s.young"), (Some(login), true));
        assert_eq!(marked(&seen, false, "s.old"), (None, false));
    }

    #[test]
    fn recorded_refusals_of_a_header_take_that_header_away() {
        let refused = |text: &str| Refused::of(400, vec![text.to_owned()], Value::Null);
        let seen = Seen::default();
        learn(&seen, &index("a", "238"), Some(json!({ "auth": { "client_token": "s.young" } })));
        // OpenBao 2.7.
        let undecodable = refused("failed to decode \"X-Vault-Index\"");
        assert!(undecodable.blames_a_header());
        seen.forget(&undecodable);
        assert_eq!((marked(&seen, true, "t"), marked(&seen, false, "s.young")), ((None, true), (None, false)));
        // Vault without `allow_forwarding_via_header`, by its source.
        let disabled = refused("forwarding via header X-Vault-Inconsistent=forward-active-node disabled in configuration");
        assert!(disabled.blames_a_header());
        seen.forget(&disabled);
        learn(&seen, &index("a", "240"), None);
        assert_eq!(marked(&seen, true, "t"), (Some(index("a", "240")), false), "ahead of all, no standby would ever answer");
    }
}
