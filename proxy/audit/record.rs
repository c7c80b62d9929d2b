//! The lines of the audit record.

use std::time::Duration;

use keyward_auth::{Grant, Provenance, SessionId, UserCertificate, UserKey};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::{SessionError, Stage, escaped};
use crate::upstream::VerifiedBy;
use crate::warning::Warning;

/// What `opened` says.
pub struct Opened<'a> {
    /// Who, what, as whom.
    pub grant: &'a Grant,
    /// From which protocol's listener.
    pub protocol: &'static str,
    /// The client's address, as the listener or the PROXY protocol header says.
    pub peer: &'a str,
    /// Where the credential came from.
    pub provenance: &'a Provenance,
    /// By what the upstream was verified.
    pub verified_by: VerifiedBy,
    /// What its protocol adds.
    pub noted: &'a [(&'static str, String)],
    /// What each stage took.
    pub stages: &'a [(Stage, Duration)],
}

impl Opened<'_> {
    pub(super) fn session(&self) -> SessionId {
        self.grant.session()
    }

    pub(super) fn line(&self) -> Vec<u8> {
        let (grant, from) = (self.grant, self.provenance);
        let stages: Map<String, Value> =
            self.stages.iter().map(|(stage, took)| (stage.word().to_owned(), json!(milliseconds(*took)))).collect();
        let mut record = json!({
            "time": now(),
            "event": "opened",
            "session": grant.session().as_str(),
            "protocol": self.protocol,
            "user": grant.user().as_str(),
            "proof": grant.proof().word(),
            "source": self.peer,
            "connection": grant.connection().name().as_str(),
            "account": grant.account().name().as_str(),
            "host": grant.host(),
            "key": grant.key().map(UserKey::fingerprint),
            "certificate": grant.key().and_then(UserKey::certificate).map(certificate),
            "store": from.store,
            "secrets": from.paths,
            "version": from.version,
            "lease": from.lease,
            "signed_certificate": from.certificate.map(decimal),
            "store_request": from.request_id,
            "cached": from.cached,
            "stale": from.stale,
            "joined": from.joined,
            "verified_by": self.verified_by.word(),
            "insecure": grant.connection().insecure(),
            "stages_ms": stages,
        });
        note(&mut record, self.noted);
        line(&record)
    }
}

/// What a denied login says. Names come from the wire: they are escaped and bounded.
pub struct Denied<'a> {
    /// The link's id, as its client was told.
    pub session: SessionId,
    /// From which protocol's listener.
    pub protocol: &'static str,
    /// The client's address.
    pub peer: &'a str,
    /// The user as typed.
    pub user: Option<&'a str>,
    /// The connection as typed.
    pub connection: Option<&'a str>,
    /// What its protocol adds.
    pub noted: &'a [(&'static str, String)],
    /// Why.
    pub error: &'a SessionError,
}

impl Denied<'_> {
    pub(super) fn line(&self, left_out: u64) -> Vec<u8> {
        let mut record = json!({
            "time": now(),
            "event": "denied",
            "session": self.session.as_str(),
            "protocol": self.protocol,
            "source": self.peer,
            "user": self.user.map(|name| escaped(name.as_bytes())),
            "connection": self.connection.map(|name| escaped(name.as_bytes())),
            "refusal": self.error.refusal.word(),
            "fault": self.error.party.word(),
            "stage": self.error.stage.word(),
            "left_out": left_out,
        });
        note(&mut record, self.noted);
        line(&record)
    }
}

/// What a session is used for, or was refused.
pub struct Use {
    /// A fixed word of its protocol's.
    pub what: &'static str,
    /// `allowed` or `refused`.
    pub outcome: &'static str,
    /// What belongs to it: names and addresses, never contents. What a peer chose is escaped and bounded.
    pub details: Vec<(&'static str, Value)>,
}

pub(super) fn closed(session: SessionId, outcome: &'static str, lasted: Duration, bytes: (u64, u64)) -> Vec<u8> {
    line(&json!({
        "time": now(),
        "event": "closed",
        "session": session.as_str(),
        "outcome": outcome,
        "seconds": (lasted.as_secs_f64() * 1000.0).round() / 1000.0,
        "bytes_up": bytes.0,
        "bytes_down": bytes.1,
    }))
}

/// What a session is used for, as its protocol says it.
pub(super) fn used(session: SessionId, used: &Use) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("time".to_owned(), json!(now()));
    fields.insert("event".to_owned(), json!("used"));
    fields.insert("session".to_owned(), json!(session.as_str()));
    fields.insert("what".to_owned(), json!(used.what));
    fields.insert("outcome".to_owned(), json!(used.outcome));
    fields.extend(used.details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    line(&fields)
}

/// A session will be ended, by what and in how long; its client was told, if its protocol can.
pub(super) fn warned(session: SessionId, warning: &Warning) -> Vec<u8> {
    line(&json!({
        "time": now(),
        "event": "warned",
        "session": session.as_str(),
        "reason": warning.cause.word(),
        "seconds_left": (warning.left().as_secs_f64() * 1000.0).round() / 1000.0,
    }))
}

/// Denied logins that nothing was written of.
pub(super) fn left_out(count: u64) -> Vec<u8> {
    line(&json!({ "time": now(), "event": "denied", "left_out": count }))
}

/// A session that was opened in an earlier file.
pub(super) fn continued(session: SessionId) -> Vec<u8> {
    line(&json!({ "time": now(), "event": "continued", "session": session.as_str() }))
}

/// A session that an earlier process left open.
pub(super) fn crashed(session: &str) -> Vec<u8> {
    line(&json!({ "time": now(), "event": "closed", "session": session, "outcome": "crashed" }))
}

/// A login of `keyward check`.
pub(super) fn checked(grant: &Grant, outcome: &'static str, provenance: Option<&Provenance>) -> Vec<u8> {
    line(&json!({
        "time": now(),
        "event": "checked",
        "session": grant.session().as_str(),
        "user": grant.user().as_str(),
        "connection": grant.connection().name().as_str(),
        "account": grant.account().name().as_str(),
        "host": grant.host(),
        "outcome": outcome,
        "store": provenance.map(|from| &from.store),
        "secrets": provenance.map(|from| &from.paths),
        "lease": provenance.map(|from| &from.lease),
        "signed_certificate": provenance.and_then(|from| from.certificate).map(decimal),
        "store_request": provenance.map(|from| &from.request_id),
    }))
}

/// What its protocol adds to a record.
fn note(record: &mut Value, noted: &[(&'static str, String)]) {
    if let Value::Object(fields) = record {
        fields.extend(noted.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
    }
}

/// A certificate's number as sshd logs it. A text: many programs that read JSON know no whole numbers of 64 bits.
fn decimal(serial: u64) -> String {
    serial.to_string()
}

/// A user's certificate, as its authority knows it.
fn certificate(shown: &UserCertificate) -> Value {
    json!({ "key_id": shown.key_id().as_str(), "serial": decimal(shown.serial()), "authority": shown.authority() })
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // A JSON object of strings and numbers always has a text.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
