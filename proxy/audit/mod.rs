//! The audit record: JSON lines, two for each session with one id, and between them one for each warning of its end. `opened` is on disk
//! before the client hears that it is in; `closed` is written exactly once, panic included. Denied logins are recorded at a bounded rate,
//! with a count of those left out.
//!
//! Who: `user`, `proof`, `source`. What: `connection`, `account`. With what: store, paths with key *names*, version, the hashed lease
//! id, the store's request id. No value, no password, no login name of the asset.

mod record;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyward_auth::{Grant, Provenance, SessionId};
use keyward_config::OnFailure;
use tokio::sync::mpsc::OwnedPermit;

use crate::metrics::Metrics;
use crate::registry::Traffic;
use crate::warning::Warning;
pub use record::{Denied, Opened, Use};
use writer::{Entry, Writer};

/// How long a login waits for its record.
const PATIENCE: Duration = Duration::from_secs(5);
/// Denied logins recorded per second; the rest is counted in the next line.
const DENIED_PER_SECOND: u64 = 20;

/// The audit record of the process.
pub struct Audit {
    writer: Writer,
    on_failure: OnFailure,
    metrics: Arc<Metrics>,
    started: Instant,
    window: AtomicU64,
    in_window: AtomicU64,
    left_out: AtomicU64,
}

/// An open record: closed with an outcome, or, should it be dropped without one, as `aborted`. Once.
pub struct OpenRecord {
    id: SessionId,
    opened: Instant,
    traffic: Arc<Traffic>,
    /// The place of `closed` in the queue; `None` if there is no record and the session went on all the same.
    place: Option<OwnedPermit<Entry>>,
}

impl Audit {
    /// Opens the file for appending, mode 0600, and closes as `crashed` what an earlier process left open in it.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn open(file: &Path, on_failure: OnFailure, metrics: Arc<Metrics>) -> Result<Self, String> {
        let writer = Writer::start(file, Arc::clone(&metrics))?;
        let zero = || AtomicU64::new(0);
        Ok(Self { writer, on_failure, metrics, started: Instant::now(), window: zero(), in_window: zero(), left_out: zero() })
    }

    /// Writes `opened` and waits until it is on disk. The place of `closed` is reserved before, so that closing cannot fail; should the
    /// wait be cut off, what may be in the record by then is closed as `aborted`.
    ///
    /// # Errors
    /// It cannot be written, and the file says `on_failure: refuse`.
    pub async fn opened(&self, record: &Opened<'_>, traffic: Arc<Traffic>) -> Result<OpenRecord, String> {
        let id = record.session();
        let mut open = OpenRecord { id, opened: Instant::now(), traffic, place: None };
        let written = async {
            open.place = Some(self.writer.reserve().await?);
            self.writer.opened(id, record.line()).await
        };
        let outcome = tokio::time::timeout(PATIENCE, written).await.unwrap_or_else(|_| Err("too slow".to_owned()));
        if let Err(error) = outcome {
            self.metrics.audit_failure();
            if self.on_failure == OnFailure::Refuse {
                return Err(error);
            }
            tracing::error!(session = %id, error, "the audit record cannot be written; the session goes on, as the file says");
        }
        Ok(open)
    }

    /// Records a denied login, at a bounded rate. Never waits. `false`: it is only counted, or there is no place for it.
    pub fn denied(&self, record: &Denied<'_>) -> bool {
        let second = self.started.elapsed().as_secs();
        if self.window.swap(second, Ordering::Relaxed) != second {
            self.in_window.store(0, Ordering::Relaxed);
        }
        if self.in_window.fetch_add(1, Ordering::Relaxed) >= DENIED_PER_SECOND {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let written = self.writer.offer(record.line(left_out));
        if !written {
            self.metrics.audit_failure();
        }
        written
    }

    /// Records what a live session is used for, or is refused. Never waits. `false`: there is no place for it, or what was written last could
    /// not be written, and the file says `on_failure: refuse`.
    pub fn used(&self, session: SessionId, used: &Use) -> bool {
        // What was known before this one: whether it is on disk itself is not waited for.
        let well = self.writer.is_well();
        let offered = self.writer.offer(record::used(session, used));
        if !offered {
            self.metrics.audit_failure();
        }
        // Offered all the same: it is how the next one learns that the disk has room again.
        offered && well || self.on_failure != OnFailure::Refuse
    }

    /// Records that a live session was told of its end. Never waits.
    pub fn warned(&self, session: SessionId, warning: &Warning) {
        if !self.writer.offer(record::warned(session, warning)) {
            self.metrics.audit_failure();
        }
    }

    /// Opens the file anew, after it was moved away. A new one begins with a `continued` line for each session that is open.
    ///
    /// # Errors
    /// A text for the operator: it cannot be opened, and the old file is kept; or it takes nothing that is written; or a disk that hangs has not
    /// let it come to that within 5 s.
    pub async fn reopen(&self) -> Result<(), String> {
        match tokio::time::timeout(PATIENCE, self.writer.reopen()).await {
            Ok(reopened) => reopened,
            Err(_) => {
                let late = "the audit record was not opened anew within 5 s";
                tracing::warn!("{late}");
                Err(format!("{late}; the log will say what comes of it"))
            }
        }
    }

    /// Writes what is queued, and how many denied logins were left out. At most for 5 s: a disk that hangs must not keep us.
    pub async fn finish(&self) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            self.writer.offer(record::left_out(left_out));
        }
        let _ = tokio::time::timeout(PATIENCE, self.writer.finish()).await;
    }
}

impl OpenRecord {
    /// Writes `closed`, if that has not been done.
    pub fn close(&mut self, outcome: &'static str) {
        if let Some(place) = self.place.take() {
            let line = record::closed(self.id, outcome, self.opened.elapsed(), self.traffic.bytes());
            place.send(Entry::closed(self.id, line));
        }
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        self.close("aborted");
    }
}

/// Records a login of `keyward check`. Only in a record that is there: made by another user, the process could not write it any more.
///
/// # Errors
/// The file's.
pub fn checked(file: &Path, grant: &Grant, outcome: &'static str, provenance: Option<&Provenance>) -> std::io::Result<()> {
    if !file.exists() {
        return Ok(());
    }
    writer::add(file, &record::checked(grant, outcome, provenance))
}

/// Where the record is, if the file does not say.
#[must_use]
pub fn default_file(state: &Path) -> PathBuf {
    state.join("audit.jsonl")
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::error::{Party, SessionError, Stage};
    use crate::refusal::Refusal;

    #[tokio::test]
    async fn denied_logins_are_recorded_at_a_bounded_rate_and_those_left_out_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let audit = Audit::open(&file, OnFailure::Refuse, Arc::new(Metrics::default())).unwrap();
        let error = SessionError::new(Refusal::NotAuthenticated, Party::Client, Stage::Login, "no");
        let denied = || {
            let session = SessionId::random();
            let noted = [("jump", "x".to_owned())];
            let record = Denied { session, protocol: "ssh", peer: "x", user: Some("a\nb"), connection: None, noted: &noted, error: &error };
            audit.denied(&record)
        };
        let recorded = (0..500).filter(|_| denied()).count() as u64;
        // The next second's first line carries the count.
        audit.window.store(u64::MAX, Ordering::Relaxed);
        assert!(denied());
        audit.finish().await;
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let left_out: u64 = lines.iter().filter_map(|line| line["left_out"].as_u64()).sum();
        assert_eq!(lines.len() as u64 + left_out, 501);
        assert_eq!(lines.len() as u64, recorded + 1, "it says which are recorded");
        assert!(left_out >= 501 - 3 * DENIED_PER_SECOND, "{left_out}");
        assert_eq!(lines[0]["user"], "a\\nb", "what a stranger typed is escaped");
        assert_eq!(lines[0]["jump"], "x", "what its protocol notes");
    }

    #[tokio::test]
    async fn what_a_session_is_used_for_must_not_go_unrecorded_on_a_full_disk_if_the_file_says_so() {
        for (on_failure, goes_on) in [(OnFailure::Refuse, false), (OnFailure::Continue, true)] {
            let audit = Audit::open(Path::new("/dev/full"), on_failure, Arc::new(Metrics::default())).unwrap();
            let used = || audit.used(SessionId::random(), &Use { what: "exec", outcome: "allowed", details: Vec::new() });
            assert!(used(), "nothing is known to be wrong");
            audit.finish().await;
            assert_eq!(used(), goes_on, "{on_failure:?}");
        }
    }

    #[tokio::test]
    async fn sessions_go_on_once_the_disk_has_room_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        std::os::unix::fs::symlink("/dev/full", &file).unwrap();
        let audit = Audit::open(&file, OnFailure::Refuse, Arc::new(Metrics::default())).unwrap();
        let used = || audit.used(SessionId::random(), &Use { what: "exec", outcome: "allowed", details: Vec::new() });
        used();
        audit.finish().await;
        assert!(!used());
        std::fs::remove_file(&file).unwrap();
        audit.reopen().await.unwrap();
        used();
        audit.finish().await;
        assert!(used());
    }
}
