//! The lease journal: what was asked of a store and not yet given back, on disk, so that a crash gives it back later (vault.md §14.6).
//!
//! One file, JSON lines, mode 0600: lease ids, never a credential. All writes go through one thread, which writes what has piled up
//! and syncs once for all of it. A last line that a crash cut off is ignored and removed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::lease::LeaseId;

/// The file's name in the state folder.
const FILE: &str = "leases.journal";
/// A journal that grew beyond this is written anew with its open entries only.
const COMPACT_AT: u64 = 1024 * 1024;
/// A journal that is longer than this was not written by us.
const MAX_LEN: u64 = 256 * 1024 * 1024;
/// Records that may wait for the writing thread.
const QUEUE: usize = 1024;
/// Records written and synced together.
const GROUP: usize = 256;

/// The writing end of the journal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal(Option<mpsc::Sender<Command>>);

/// What one request for a lease became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    /// A lease is about to be asked for.
    Asked(Asked),
    /// It was issued.
    Issued {
        lease: LeaseId,
        /// Unix seconds after which the store has ended it by itself.
        until: u64,
    },
    /// Its session has ended; it is being given back.
    Closing,
    /// It was given back.
    Done,
    /// Its time was over before it was given back.
    Expired,
    /// It was never issued, or it was named in the log as a possible orphan.
    Failed,
}

/// Who asked which store for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The store's name in the file, for people.
    pub(crate) store: String,
    /// The store's identity, by which it is found again.
    pub(crate) at: String,
    pub(crate) path: String,
    pub(crate) session: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    #[serde(flatten)]
    event: Event,
}

/// A request that had no end when the process died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) asked: Asked,
    /// The lease id and the Unix seconds of its end. `None`: asked, and nothing is known of the answer.
    pub(crate) issued: Option<(LeaseId, u64)>,
}

/// What a journal held when it was opened: the open entries by number.
pub(crate) type Recovered = BTreeMap<u64, Open>;

enum Command {
    Record { number: u64, event: Event, durable: bool, done: Option<oneshot::Sender<Result<(), String>>> },
}

impl Journal {
    /// A journal that remembers nothing, for one-shot commands.
    pub(crate) fn in_memory() -> Self {
        Self(None)
    }

    /// Whether it is one of a process that stays, and not of a one-shot command.
    pub(crate) fn remembers(&self) -> bool {
        self.0.is_some()
    }

    /// Opens the journal in the state folder, compacts it and starts its thread, which ends with the last clone.
    ///
    /// # Errors
    /// The file cannot be read, written or synced; the text names it.
    pub(crate) fn open(state: &Path) -> Result<(Self, Recovered), String> {
        let path = state.join(FILE);
        let say = |what: &str, error: &dyn std::fmt::Display| format!("{}: {what}: {error}", path.display());
        let mut file = open_file(&path).map_err(|error| say("cannot open the lease journal", &error))?;
        let open = replay(&mut file).map_err(|error| say("cannot read the lease journal", &error))?;
        let mut writer = Writer { path: path.clone(), file, len: 0, compact_at: COMPACT_AT, open: open.clone() };
        writer.compact().map_err(|error| say("cannot write the lease journal", &error))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let run = move || writer.run(receiver);
        std::thread::Builder::new()
            .name("lease-journal".to_owned())
            .spawn(run)
            .map_err(|error| say("no thread for the journal", &error))?;
        Ok((Self(Some(sender)), open))
    }

    /// Appends a record some time soon, if there is room for it. For what does no harm if it is lost.
    pub(crate) fn note(&self, number: u64, event: Event) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(Command::Record { number, event, durable: false, done: None });
        }
    }

    /// Appends a record and waits until it is written; with `durable` until it is on disk.
    ///
    /// # Errors
    /// It could not be written. Nothing of it is in the file then.
    pub(crate) async fn record(&self, number: u64, event: Event, durable: bool) -> Result<(), String> {
        let Some(sender) = &self.0 else { return Ok(()) };
        let (done, written) = oneshot::channel();
        let gone = |_| "the journal's thread has ended".to_owned();
        sender.send(Command::Record { number, event, durable, done: Some(done) }).await.map_err(|_| gone(()))?;
        written.await.map_err(|_| gone(()))?
    }
}

#[cfg(test)]
impl Journal {
    /// A journal whose disk is gone.
    pub(crate) fn broken() -> Self {
        Self(Some(mpsc::channel(1).0))
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    /// How much of the file is whole records. What a failed write left behind it is cut off before the next one.
    len: u64,
    compact_at: u64,
    open: Recovered,
}

impl Writer {
    fn run(mut self, mut receiver: mpsc::Receiver<Command>) {
        while let Some(first) = receiver.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = receiver.try_recv()
            {
                group.push(next);
            }
            let result = self.append(&group);
            if let Err(error) = &result {
                tracing::error!(file = %self.path.display(), %error, "the lease journal cannot be written");
            }
            for Command::Record { number, event, done, .. } in group {
                if result.is_ok() {
                    follow(&mut self.open, number, event);
                }
                if let Some(done) = done {
                    let _ = done.send(result.clone());
                }
            }
            if self.len > self.compact_at
                && let Err(error) = self.compact()
            {
                tracing::warn!(file = %self.path.display(), %error, "the lease journal could not be compacted");
                self.compact_at = self.len.saturating_mul(2);
            }
        }
    }

    fn append(&mut self, group: &[Command]) -> Result<(), String> {
        let mut text = Vec::new();
        let mut durable = false;
        for Command::Record { number, event, durable: wanted, .. } in group {
            write_line(&mut text, *number, event)?;
            durable |= wanted;
        }
        let written = (|| {
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::Start(self.len))?;
            self.file.write_all(&text)?;
            if durable { self.file.sync_data() } else { Ok(()) }
        })();
        written.map_err(|error: std::io::Error| error.to_string())?;
        self.len = self.len.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Writes the open entries to a new file and puts it in the place of the old one.
    fn compact(&mut self) -> Result<(), String> {
        let text = written(&self.open)?;
        let fresh = self.path.with_extension("journal.new");
        let replaced = (|| {
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = open_file(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &self.path)?;
            Ok(file)
        })();
        // From the renaming on this is the journal, whatever happens next: what went to the old file would be lost.
        self.file = replaced.map_err(|error: std::io::Error| error.to_string())?;
        self.len = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.compact_at = COMPACT_AT.max(self.len.saturating_mul(2));
        let folder = self.path.parent().map(|folder| File::open(folder)?.sync_all());
        folder.unwrap_or(Ok(())).map_err(|error| format!("its folder cannot be synced: {error}"))
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// The open entries as a journal of their own.
pub(super) fn written(open: &Recovered) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    for (number, entry) in open {
        write_line(&mut text, *number, &Event::Asked(entry.asked.clone()))?;
        if let Some((lease, until)) = &entry.issued {
            write_line(&mut text, *number, &Event::Issued { lease: lease.clone(), until: *until })?;
        }
    }
    Ok(text)
}

fn write_line(text: &mut Vec<u8>, number: u64, event: &Event) -> Result<(), String> {
    serde_json::to_writer(&mut *text, &Line { n: number, event: event.clone() }).map_err(|error| error.to_string())?;
    text.push(b'\n');
    Ok(())
}

/// The open entries of a journal. Only whole lines count; a line that is none of ours is skipped and said.
fn replay(file: &mut File) -> std::io::Result<Recovered> {
    if file.metadata()?.len() > MAX_LEN {
        return Err(std::io::Error::other("it is too long to be ours"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut bytes)?;
    let (open, broken) = replay_bytes(&bytes);
    if broken > 0 {
        tracing::warn!(lines = broken, "lines of the lease journal could not be read; their leases end by themselves");
    }
    Ok(open)
}

pub(super) fn replay_bytes(bytes: &[u8]) -> (Recovered, usize) {
    let mut open = Recovered::new();
    let mut broken = 0_usize;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').and_then(|end| bytes.get(..end)).unwrap_or_default();
    for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => follow(&mut open, line.n, line.event),
            Err(_) => broken = broken.saturating_add(1),
        }
    }
    (open, broken)
}

fn follow(open: &mut Recovered, number: u64, event: Event) {
    match event {
        Event::Asked(asked) => {
            open.insert(number, Open { asked, issued: None });
        }
        Event::Issued { lease, until } => {
            if let Some(entry) = open.get_mut(&number) {
                entry.issued = Some((lease, until));
            }
        }
        Event::Closing => {}
        Event::Done | Event::Expired | Event::Failed => {
            open.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests;
