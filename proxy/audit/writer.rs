//! One thread writes the file: what waits is written together and synced once, so that many logins share one disk write. A line for which
//! nobody waits is written at once too, and is on disk with the next sync, [`LATE`] later at most: a login does not queue behind the sync of
//! a session that ended. What the process wrote survives its own end in any case.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keyward_auth::SessionId;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::record;
use crate::metrics::Metrics;

/// Places in the queue. Each live session holds the one of its `closed` line; the queue's memory grows with what is in it only.
const QUEUE: usize = 1 << 20;
const STOPPED: &str = "the writer has stopped";
/// Lines that are written and synced together.
const BATCH: usize = 512;
/// What nobody waits for is on disk after this time.
const LATE: Duration = Duration::from_secs(1);

pub(super) struct Entry {
    line: Vec<u8>,
    done: Option<oneshot::Sender<Result<(), String>>>,
    means: Means,
}

/// What a line means to the writer.
enum Means {
    Nothing,
    /// A session is open from here on.
    Opened(SessionId),
    Closed(SessionId),
    /// The file is to be opened anew; whoever waits hears of that alone.
    Reopen,
}

impl Entry {
    /// A `closed` line.
    pub(super) fn closed(session: SessionId, line: Vec<u8>) -> Self {
        Self { line, done: None, means: Means::Closed(session) }
    }

    fn reopens(&self) -> bool {
        matches!(self.means, Means::Reopen)
    }
}

pub(super) struct Writer {
    queue: mpsc::Sender<Entry>,
    /// Whether what was written last could be written.
    well: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn start(path: &Path, metrics: Arc<Metrics>) -> Result<Self, String> {
        let shown = |error: std::io::Error| format!("the audit record {}: {error}", path.display());
        let left_open = left_open(path).map_err(shown)?;
        let mut file = Record::append(path).map_err(shown)?;
        if !left_open.is_empty() {
            let lines: Vec<u8> = left_open.iter().flat_map(|session| record::crashed(session)).collect();
            file.file.write_all(&lines).and_then(|()| file.sync()).map_err(shown)?;
            tracing::info!(sessions = left_open.len(), "sessions of an earlier process were closed in the audit record as crashed");
        }
        let (queue, entries) = mpsc::channel(QUEUE);
        let (path, well) = (path.to_owned(), Arc::new(AtomicBool::new(true)));
        let told = Arc::clone(&well);
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(shown)?;
        let write = move || clock.block_on(write_all(file, &path, entries, &metrics, &told));
        std::thread::Builder::new().name("audit".to_owned()).spawn(write).map_err(shown)?;
        Ok(Self { queue, well })
    }

    /// A place for a line that will come later.
    pub(super) async fn reserve(&self) -> Result<OwnedPermit<Entry>, String> {
        self.queue.clone().reserve_owned().await.map_err(|_| STOPPED.to_owned())
    }

    /// Appends an `opened` line and waits until it is on disk.
    pub(super) async fn opened(&self, session: SessionId, line: Vec<u8>) -> Result<(), String> {
        let (done, wrote) = oneshot::channel();
        self.queue.send(Entry { line, done: Some(done), means: Means::Opened(session) }).await.map_err(|_| STOPPED)?;
        wrote.await.map_err(|_| STOPPED)?
    }

    /// Appends a line if there is room.
    pub(super) fn offer(&self, line: Vec<u8>) -> bool {
        self.queue.try_send(Entry { line, done: None, means: Means::Nothing }).is_ok()
    }

    /// Whether what was written last could be written.
    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// Opens the file anew, behind all that was queued so far, and says whether that could be done.
    pub(super) async fn reopen(&self) -> Result<(), String> {
        let (done, reopened) = oneshot::channel();
        self.queue.send(Entry { line: Vec::new(), done: Some(done), means: Means::Reopen }).await.map_err(|_| STOPPED)?;
        reopened.await.map_err(|_| STOPPED)?
    }

    pub(super) async fn finish(&self) {
        let (done, wrote) = oneshot::channel();
        if self.queue.send(Entry { line: Vec::new(), done: Some(done), means: Means::Nothing }).await.is_ok() {
            let _ = wrote.await;
        }
    }
}

async fn write_all(record: Record, path: &Path, mut entries: mpsc::Receiver<Entry>, metrics: &Metrics, well: &AtomicBool) {
    let mut writing = Writing { record, open: HashSet::new(), torn: false, is_new: false, late: None, metrics, well };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let more = entries.recv_many(&mut batch, BATCH);
        let count = match &writing.late {
            None => more.await,
            Some(late) => match timeout(LATE.saturating_sub(late.since.elapsed()), more).await {
                Ok(count) => count,
                Err(_) => {
                    let _ = writing.sync();
                    continue;
                }
            },
        };
        if count == 0 {
            break;
        }
        if batch.iter().any(Entry::reopens) {
            match Record::append(path) {
                // Who asked hears whether the new file takes what is written to it.
                Ok(fresh) => {
                    writing.go_on_in(fresh);
                    tracing::info!("the audit record was opened anew");
                }
                Err(error) => {
                    let told = format!("the audit record cannot be opened anew: {error}; the old file is kept");
                    tracing::error!("{told}");
                    let asked = batch.iter_mut().filter(|entry| entry.reopens());
                    asked.filter_map(|entry| entry.done.take()).for_each(|done| drop(done.send(Err(told.clone()))));
                }
            }
        }
        writing.take(&mut batch);
    }
    let _ = writing.sync();
}

/// The file, and what of it is not on disk.
struct Writing<'a> {
    record: Record,
    /// Sessions with an `opened` line and no `closed` one.
    open: HashSet<SessionId>,
    /// A disk that was full in the middle of a line left a part of it: the next line must not be glued to that.
    torn: bool,
    /// The file has yet to begin with the sessions that are open: the next process looks for them there, should this one not live to close
    /// them.
    is_new: bool,
    late: Option<Late>,
    metrics: &'a Metrics,
    well: &'a AtomicBool,
}

/// Lines that are written and not on disk.
struct Late {
    since: Instant,
    lines: usize,
}

impl Writing<'_> {
    /// Writes to this file from now on.
    fn go_on_in(&mut self, fresh: Record) {
        // What is late is in the old one.
        let _ = self.sync();
        if fresh.on_disk && (fresh.is_empty() || !fresh.is_same(&self.record)) {
            (self.torn, self.is_new) = (false, true);
        }
        self.record = fresh;
    }

    /// Writes these, and tells those who wait.
    fn take(&mut self, batch: &mut Vec<Entry>) {
        let mut bytes = if self.torn { b"\n".to_vec() } else { Vec::new() };
        if self.is_new {
            // Before what they did since.
            bytes.extend(self.open.iter().flat_map(|session| record::continued(*session)));
        }
        for entry in batch.iter() {
            match entry.means {
                Means::Opened(session) => drop(self.open.insert(session)),
                Means::Closed(session) => drop(self.open.remove(&session)),
                Means::Nothing | Means::Reopen => {}
            }
        }
        bytes.extend(batch.iter().flat_map(|entry| entry.line.iter().copied()));
        let mut wrote = self.record.file.write_all(&bytes).map_err(|error| error.to_string());
        self.torn = wrote.is_err();
        if let Err(error) = &wrote {
            self.well.store(false, Ordering::Relaxed);
            tracing::error!(error, lines = batch.len(), "the audit record cannot be written");
            batch.iter().filter(|entry| entry.done.is_none()).for_each(|_| self.metrics.audit_failure());
        } else {
            self.is_new = false;
            let unheard = batch.iter().filter(|entry| entry.done.is_none()).count();
            let late = self.late.get_or_insert_with(|| Late { since: Instant::now(), lines: 0 });
            late.lines = late.lines.saturating_add(unheard);
            // A disk that failed is trusted again once it has shown that it keeps something. And however much comes, it is on disk in time.
            let overdue = late.since.elapsed() >= LATE || !self.well.load(Ordering::Relaxed);
            if overdue || batch.iter().any(|entry| entry.done.is_some()) {
                wrote = self.sync();
            }
        }
        for entry in batch.drain(..) {
            let unwritten = |error| format!("the audit record was opened anew and cannot be written: {error}");
            let told = if entry.reopens() { wrote.clone().map_err(unwritten) } else { wrote.clone() };
            if let Some(done) = entry.done {
                let _ = done.send(told);
            }
        }
    }

    /// What was written is on disk then. What failed is told and counted; who waits is not counted here, but where he hears of it.
    fn sync(&mut self) -> Result<(), String> {
        let Some(late) = self.late.take() else { return Ok(()) };
        let synced = self.record.sync().map_err(|error| error.to_string());
        self.well.store(synced.is_ok(), Ordering::Relaxed);
        if let Err(error) = &synced {
            tracing::error!(error, lines = late.lines, "the audit record cannot be written");
            (0..late.lines).for_each(|_| self.metrics.audit_failure());
        }
        synced
    }
}

/// The open file.
struct Record {
    file: File,
    /// A pipe to a collector has no disk to be on.
    on_disk: bool,
    /// Its device and its number there.
    number: (u64, u64),
}

impl Record {
    fn append(path: &Path) -> std::io::Result<Self> {
        Self::of(append(path, true)?)
    }

    fn of(file: File) -> std::io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { file, on_disk: found.is_file(), number: (found.dev(), found.ino()) })
    }

    fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.len() == 0)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.number == other.number
    }

    fn sync(&self) -> std::io::Result<()> {
        if self.on_disk { self.file.sync_data() } else { Ok(()) }
    }
}

/// Appends a line to a record that is there, for a command beside the process.
///
/// # Errors
/// There is none, it cannot be written, or it is a pipe that nobody reads.
pub(super) fn add(path: &Path, line: &[u8]) -> std::io::Result<()> {
    let mut record = Record::of(append(path, false)?)?;
    record.file.write_all(line).and_then(|()| record.sync())
}

/// A pipe that nobody reads is no place for a record: it is an error at once (ENXIO), where a plain open would wait for a reader. Once it is
/// open, a reader that is slow is waited for.
fn append(path: &Path, make: bool) -> std::io::Result<File> {
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().append(true).create(make).mode(0o600).custom_flags(at_once).open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

/// The sessions with an `opened` or `continued` line and no `closed` one. A last line without its end, as a crash leaves it, is no record; a
/// newline is put behind it so that it spoils no other.
fn left_open(path: &Path) -> std::io::Result<Vec<String>> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        // A pipe to a collector, say: what went into it cannot be read back, and to open it would wait for a writer, which is us.
        Ok(_) => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut open = HashSet::new();
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.last() != Some(&b'\n') {
            append(path, false)?.write_all(b"\n")?;
        }
        if let Ok(value) = serde_json::from_slice::<Value>(&line) {
            let session = value.get("session").and_then(Value::as_str).unwrap_or_default().to_owned();
            match value.get("event").and_then(Value::as_str) {
                Some("opened" | "continued") => drop(open.insert(session)),
                Some("closed") => drop(open.remove(&session)),
                _ => {}
            }
        }
        line.clear();
    }
    let mut open: Vec<String> = open.into_iter().collect();
    open.sort();
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_that_takes_nothing_yet_begins_with_the_open_sessions_once_it_does() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let (metrics, well) = (Metrics::default(), AtomicBool::new(true));
        let record = Record::append(&old).unwrap();
        let mut writing = Writing { record, open: HashSet::new(), torn: false, is_new: false, late: None, metrics: &metrics, well: &well };
        let session = SessionId::random();
        let opened = || Entry { line: b"{}\n".to_vec(), done: None, means: Means::Opened(session) };
        writing.take(&mut vec![opened()]);
        // As on a full disk: it is there, and no byte of it.
        let file = Record::append(&new).unwrap().file;
        let full = Record { file: File::open(&new).unwrap(), ..Record::append(&new).unwrap() };
        writing.go_on_in(full);
        let (done, mut reopened) = oneshot::channel();
        writing.take(&mut vec![Entry { line: Vec::new(), done: Some(done), means: Means::Reopen }]);
        let told = reopened.try_recv().unwrap().unwrap_err();
        assert!(told.starts_with("the audit record was opened anew and cannot be written: "), "{told}");
        writing.record.file = file;
        let line = |text: &str| Entry { line: format!("{text}\n").into_bytes(), done: None, means: Means::Nothing };
        writing.take(&mut vec![line("first")]);
        writing.take(&mut vec![line("second")]);
        let text = std::fs::read_to_string(&new).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        assert!(lines.len() == 3 && lines[0].contains("continued") && lines[0].contains(&session.to_string()), "{text}");
        assert_eq!(lines[1..], ["first", "second"]);
    }
}
