use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::json;

use super::*;
use crate::operator::{Change, Destroy, Folder, History, Others, SecretName, Secrets, Values, make_key};
use crate::sample;
use crate::{Secret, SessionId};
use keyward_config::Config;

const PHRASE: &str = "correct horse battery staple";

/// A sealed file in a folder of its own, as the file of the configuration declares it.
struct Bed {
    folder: tempfile::TempDir,
    config: Arc<Config>,
}

impl Bed {
    /// `key` is what the key's file holds.
    fn new(key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), key).unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let stores = format!("stores: {{ files: {{ type: file, sealed: '{}', key: {{ file: '{}' }} }} }}\n", at("secrets"), at("key"));
        Self { config: Arc::new(sample::config(&stores).0), folder }
    }

    fn with_key() -> Self {
        Self::new(make_key().unwrap().expose_str().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("secrets")
    }

    fn secrets(&self) -> Secrets {
        Secrets::open(&self.config, "files", None).unwrap()
    }

    fn name(&self, name: &str) -> SecretName {
        SecretName::parse(&self.config, name).unwrap()
    }

    async fn put(&self, name: &str, values: &[(&str, &str)]) -> Result<Vec<String>, StoreError> {
        let mut change = Change::new(Others::Kept);
        values.iter().for_each(|(key, value)| change.set(key, &Secret::from((*value).to_owned())).unwrap());
        self.secrets().put(&self.name(name), &change).await.map(|written| written.keys)
    }

    async fn value(&self, name: &str, key: &str) -> Result<String, StoreError> {
        let value = self.secrets().value(&self.name(name), key, None).await?;
        Ok(value.expose_str().unwrap().to_owned())
    }

    /// As a session reads it.
    async fn read(&self, path: &str) -> Result<Value, StoreError> {
        let store = self.config.stores.get("files").unwrap();
        let opening = Opening {
            store,
            label: "files",
            runner: None,
            stay: crate::store::Stay::Serves,
            observer: sample::nobody(),
            outer: sample::nowhere(),
            former: None,
        };
        let path = SecretPath::of_name(path, None).unwrap();
        open(&opening).unwrap().read(SessionId::random(), &path, false).await.map(|mut document| document.fields.take())
    }

    async fn list(&self, folder: &str) -> Vec<String> {
        self.secrets().list(&Folder::parse(&self.config, folder).unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn what_could_not_be_read_again_is_not_written() {
    let bed = Bed::with_key();
    bed.put("files:orders", &[("password", "one")]).await.unwrap();
    let put = async |json: String| {
        let mut change = Change::new(Others::Kept);
        change.set_json(&Secret::from(json)).unwrap();
        bed.secrets().put(&bed.name("files:other"), &change).await.err().unwrap()
    };
    let deep = put(format!("{}1{}", "{\"k\":".repeat(127), "}".repeat(127))).await;
    assert!(deep.kind == StoreErrorKind::Malformed && deep.detail.contains("nested too deeply"), "{deep}");
    let long = put(format!("{{\"k\":\"{}\"}}", "canary".repeat(700_000))).await;
    assert!(long.detail.contains("at most 4 MiB; nothing was written") && !long.detail.contains("canary"), "{long}");
    assert_eq!(bed.read("orders").await.unwrap(), json!({"password": "one"}), "what was there is as it was");
    assert_eq!(bed.list("files:").await, ["orders"]);
}

#[tokio::test]
async fn what_an_operator_writes_a_session_reads_and_the_file_shows_nothing() {
    for key in [make_key().unwrap().expose_str().unwrap(), PHRASE] {
        let bed = Bed::new(key);
        assert_eq!(Secrets::wants_token(&bed.config, "files").unwrap(), None);
        assert_eq!(bed.put("files:orders", &[("username", "app"), ("password", "canary-one")]).await.unwrap(), ["password", "username"]);
        bed.put("files:team/reports", &[("password", "canary-two")]).await.unwrap();
        bed.put("files:orders", &[("password", "canary-three")]).await.unwrap();
        assert_eq!(bed.read("orders").await.unwrap(), json!({"username": "app", "password": "canary-three"}));
        assert_eq!(bed.value("files:team/reports", "password").await.unwrap(), "canary-two");
        assert_eq!(bed.list("files:").await, ["orders", "team/"]);
        assert_eq!(bed.list("files:team").await, ["reports"]);
        let text = std::fs::read_to_string(bed.path()).unwrap();
        assert!(text.starts_with("keyward-sealed-file 1\nv1:"), "{text}");
        assert!(!["canary", "orders", "team", "password"].iter().any(|word| text.contains(word)));
        assert_eq!(std::fs::metadata(bed.path()).unwrap().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn names_are_shown_without_values_and_a_deleted_secret_is_gone() {
    let bed = Bed::with_key();
    bed.put("files:orders", &[("username", "app"), ("password", "canary")]).await.unwrap();
    let (secrets, name) = (bed.secrets(), bed.name("files:orders"));
    let hidden = secrets.get(&name, None, Values::Hidden).await.unwrap();
    assert_eq!(
        (hidden.keys(), hidden.json().expose_str()),
        (vec!["password".to_owned(), "username".to_owned()], Some("{\"password\":null,\"username\":null}"))
    );
    assert_eq!(secrets.history(&name).await.unwrap(), History::None);
    for error in [
        secrets.delete(&name, &[1]).await.unwrap_err(),
        secrets.undelete(&name, &[1]).await.unwrap_err(),
        secrets.destroy(&name, &Destroy::Versions(vec![1])).await.unwrap_err(),
        secrets.metadata(&name).await.err().unwrap(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Malformed, "{error}");
    }
    secrets.delete(&name, &[]).await.unwrap();
    for error in [secrets.delete(&name, &[]).await.unwrap_err(), bed.read("orders").await.unwrap_err()] {
        assert_eq!(error.kind, StoreErrorKind::NotFound, "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_or_not_ours_to_open_says_so() {
    let bed = Bed::with_key();
    assert_eq!(bed.read("orders").await.unwrap_err().kind, StoreErrorKind::Unavailable);
    bed.put("files:orders", &[("password", "canary")]).await.unwrap();
    let sealed = std::fs::read_to_string(bed.path()).unwrap();
    // Another key, and a passphrase.
    for key in [make_key().unwrap().expose_str().unwrap(), PHRASE] {
        std::fs::write(bed.folder.path().join("key"), key).unwrap();
        for error in [bed.read("orders").await.unwrap_err(), bed.put("files:x", &[("a", "b")]).await.unwrap_err()] {
            assert_eq!(error.kind, StoreErrorKind::LoginFailed, "{error}");
        }
    }
    assert_eq!(std::fs::read_to_string(bed.path()).unwrap(), sealed, "who cannot open it does not write it");
    std::fs::remove_file(bed.folder.path().join("key")).unwrap();
    assert_eq!(bed.read("orders").await.unwrap_err().kind, StoreErrorKind::LoginFailed);
    std::fs::write(bed.folder.path().join("key"), make_key().unwrap().expose()).unwrap();
    for (text, kind) in [
        ("", StoreErrorKind::Malformed),
        ("{\"orders\": {}}", StoreErrorKind::Malformed),
        ("keyward-sealed-file 2\nv1:AAAA", StoreErrorKind::Malformed),
        ("keyward-sealed-file 1\nv1:AAAA", StoreErrorKind::Malformed),
        (sealed.replace("file 1\n", "file 1\n\n").as_str(), StoreErrorKind::LoginFailed),
    ] {
        std::fs::write(bed.path(), text).unwrap();
        assert_eq!(bed.read("orders").await.unwrap_err().kind, kind, "{text}");
    }
    // What another program has encrypted.
    std::fs::write(bed.path(), [0x85, 0x01, 0x0c, 0x03, 0xff]).unwrap();
    assert!(bed.read("orders").await.unwrap_err().detail.contains("this is no sealed file"));
    std::fs::write(bed.path(), vec![b'a'; 4 * 1024 * 1024 + 1]).unwrap();
    assert!(bed.read("orders").await.unwrap_err().detail.contains("4 MiB"));
}

#[tokio::test]
async fn a_pipe_in_its_place_keeps_nobody_waiting() {
    let bed = Bed::with_key();
    rustix::fs::mknodat(rustix::fs::CWD, bed.path(), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0)
        .unwrap();
    assert!(bed.read("orders").await.unwrap_err().detail.contains("not a regular file"));
}

#[tokio::test]
async fn of_two_writers_of_the_same_moment_neither_is_lost() {
    let bed = Arc::new(Bed::with_key());
    let writers = (0..8).map(|number| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { bed.put(&format!("files:secret{number}"), &[("password", "x")]).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(bed.list("files:").await.len(), 8);
    let left: Vec<_> = std::fs::read_dir(bed.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the key and the file: {left:?}");
}

#[tokio::test]
async fn a_rewritten_file_keeps_its_owner_its_group_and_its_link() {
    let bed = Bed::with_key();
    bed.put("files:orders", &[("password", "one")]).await.unwrap();
    let real = bed.folder.path().join("real");
    std::fs::rename(bed.path(), &real).unwrap();
    std::os::unix::fs::symlink(&real, bed.path()).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
    let owner = if rustix::process::geteuid().is_root() { Some((12345, 54321)) } else { None };
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(&real, Some(user), Some(group)).unwrap();
    }
    bed.put("files:orders", &[("password", "two")]).await.unwrap();
    assert!(std::fs::symlink_metadata(bed.path()).unwrap().is_symlink());
    let after = std::fs::metadata(&real).unwrap();
    assert_eq!(after.mode() & 0o777, 0o640, "and others may not read it");
    assert!(owner.is_none_or(|owner| owner == (after.uid(), after.gid())));
    assert_eq!(bed.value("files:orders", "password").await.unwrap(), "two");
}

#[tokio::test]
async fn a_writer_who_cannot_write_leaves_what_was() {
    let bed = Bed::with_key();
    bed.put("files:orders", &[("password", "one")]).await.unwrap();
    let before = std::fs::read(bed.path()).unwrap();
    // A folder in the way of the new file, with something in it.
    let way = bed.folder.path().join("secrets.new");
    std::fs::create_dir_all(way.join("in")).unwrap();
    assert_eq!(bed.put("files:orders", &[("password", "two")]).await.unwrap_err().kind, StoreErrorKind::Unavailable);
    assert_eq!(std::fs::read(bed.path()).unwrap(), before);
    std::fs::remove_dir_all(way).unwrap();
    // One that was left by a writer who was killed is none.
    std::fs::write(bed.folder.path().join("secrets.new"), "half").unwrap();
    bed.put("files:orders", &[("password", "two")]).await.unwrap();
    assert_eq!(bed.value("files:orders", "password").await.unwrap(), "two");
}

#[test]
fn a_folder_of_files_is_not_written_by_us() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _) = sample::config(&format!("stores: {{ files: {{ type: file, folder: '{}' }} }}\n", folder.path().display()));
    let error = Secrets::open(&Arc::new(config), "files", None).err().unwrap();
    assert!(error.detail.contains("other programs"), "{error}");
}
