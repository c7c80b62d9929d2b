//! What came of a call: the envelope of an answer, a refusal in the server's words, or nothing that could be understood (vault.md §1, §2).

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;

use crate::store::StoreError;

/// A 2xx answer.
pub(super) struct Answer {
    /// The envelope; `Null` for an empty answer.
    pub(super) body: Value,
    /// When the request began: what the answer grants is counted from here.
    pub(super) asked: Instant,
}

/// No 2xx answer.
pub(super) enum Failure {
    /// It certainly did not run.
    Unreached(String),
    /// It was sent, and no answer came that could be understood.
    Unanswered(String),
    /// It did what it was asked, and its answer is longer than any that is read. It will be the next time.
    TooLong,
    /// The server said no.
    Refused(Refused),
    /// It was never sent: we have no token, or the store counts as away.
    Store(StoreError),
}

/// An answer that is not 2xx.
pub(super) struct Refused {
    pub(super) status: u16,
    /// The server's own words.
    pub(super) errors: Vec<String>,
    /// The whole body, where it is JSON.
    pub(super) body: Value,
    pub(super) retry_after: Option<Duration>,
    pub(super) location: Option<String>,
}

impl Answer {
    /// The envelope's `data`, moved out.
    pub(super) fn take_data(&mut self) -> Value {
        self.body.get_mut("data").map(Value::take).unwrap_or_default()
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn seconds(&self, key: &str) -> Duration {
        Duration::from_secs(self.body.get(key).and_then(Value::as_u64).unwrap_or_default())
    }
}

impl Failure {
    /// A standby sent us on, and nobody is there: nothing ran, as far as the standby says.
    pub(super) fn without_leader(why: String) -> Self {
        Self::Refused(Refused { status: 307, errors: vec![why], body: Value::Null, retry_after: None, location: None })
    }

    /// What went wrong, for the operator, without what was asked.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Unreached(why) | Self::Unanswered(why) => why.clone(),
            Self::TooLong => "the answer is longer than 1 MiB".to_owned(),
            Self::Refused(refused) => refused.brief(),
            Self::Store(error) => error.detail.clone(),
        }
    }
}

impl Refused {
    /// The status, and the server's own words or what the status means.
    pub(super) fn brief(&self) -> String {
        let words = self.errors.join("; ").split_whitespace().collect::<Vec<_>>().join(" ");
        match (self.status, words.as_str()) {
            // HashiCorp's, without words (API docs, "/sys/health").
            (472, "") => "status 472: a disaster recovery secondary serves no clients".to_owned(),
            (473, "") => "status 473: a performance standby does not serve this".to_owned(),
            (501, _) => "status 501: the server is not initialised".to_owned(),
            (429, "") if self.is_behind() => "status 429: a standby lags behind what we have seen".to_owned(),
            (status, "") => format!("status {status}, without a word of the store's: is a gateway or another server in its place?"),
            (status, words) => format!("status {status}: {words}"),
        }
    }

    /// The server's own answer, not one of a gateway in between.
    pub(super) fn is_explained(&self) -> bool {
        !self.errors.is_empty()
    }

    /// A no that is none of the server's, which says each in JSON: a gateway whose server is away may say that there is no such page, or that
    /// we may not see it. Our token is not dead for that, and no secret is gone.
    fn is_a_strangers(&self) -> bool {
        matches!(self.status, 400 | 401 | 403..=405) && !self.body.is_object()
    }

    pub(super) fn says(&self, what: &str) -> bool {
        self.errors.iter().any(|error| error.contains(what))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        crate::store::credential::wipe(&mut self.body);
    }
}

/// Reads the body of an answer.
pub(super) fn decode(status: StatusCode, bytes: &[u8], asked: Instant) -> Result<Answer, Failure> {
    let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(bytes) };
    if status.is_success() {
        let body = body.map_err(|_| Failure::Unanswered("the answer is not JSON".to_owned()))?;
        return Ok(Answer { body, asked });
    }
    let body: Value = body.unwrap_or_default();
    let errors = body.get("errors").and_then(Value::as_array).into_iter().flatten();
    let errors = errors.filter_map(Value::as_str).map(str::to_owned).collect();
    let refused = Refused { status: status.as_u16(), errors, body, retry_after: None, location: None };
    Err(if refused.is_a_strangers() { Failure::Unanswered(refused.brief()) } else { Failure::Refused(refused) })
}

#[cfg(test)]
impl Refused {
    pub(super) fn of(status: u16, errors: Vec<String>, body: Value) -> Self {
        Self { status, errors, body, retry_after: None, location: None }
    }
}
