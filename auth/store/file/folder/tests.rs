use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;

struct Bed {
    /// Holds the store's folder and what is beside it.
    around: tempfile::TempDir,
    folder: Folder,
}

impl Bed {
    fn new(files: &[(&str, &str)]) -> Self {
        let around = tempfile::tempdir().unwrap();
        let root = around.path().join("store");
        fs::create_dir(&root).unwrap();
        let bed = Self { folder: Folder::new(&root, "files"), around };
        files.iter().for_each(|(name, text)| bed.write(name, text));
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.around.path().join("store").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Another state of the volume `db`, as kubelet makes one: a new folder, a link that is renamed over `..data`, the old folder removed.
    fn turn(&self, state: &str, files: &[(&str, &str)]) {
        for (name, text) in files {
            self.write(&format!("db/{state}/{name}"), text);
            if !self.path(&format!("db/{name}")).exists() {
                let _ = symlink(format!("..data/{name}"), self.path(&format!("db/{name}")));
            }
        }
        let old = fs::read_link(self.path("db/..data")).ok();
        symlink(state, self.path("db/..data_tmp")).unwrap();
        fs::rename(self.path("db/..data_tmp"), self.path("db/..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.path("db").join(old)).unwrap();
        }
    }

    fn read(&self, name: &str) -> Result<Value, StoreError> {
        let path = SecretPath::of_name(name, None).unwrap();
        self.folder.read(&path).map(|mut document| document.fields.take())
    }

    fn kind(&self, name: &str) -> StoreErrorKind {
        let error = self.read(name).unwrap_err();
        assert!(!error.detail.contains("canary"), "{error}");
        error.kind
    }
}

#[test]
fn files_are_values_json_files_have_keys_and_so_have_folders() {
    let bed = Bed::new(&[
        ("password", "canary\n"),
        ("a/b/deep", "two\r\n"),
        ("orders.json", r#"{"db": {"password": "canary"}}"#),
        ("db/username", "app\n"),
        ("db/password", "canary"),
        ("db/.hidden", "no"),
        ("db/inner/x", "own path"),
    ]);
    fs::write(bed.path("db/store.jks"), [0xff, 0xfe]).unwrap();
    assert_eq!(bed.read("password").unwrap(), json!({"value": "canary"}));
    assert_eq!(bed.read("a/b/deep").unwrap(), json!({"value": "two"}));
    assert_eq!(bed.read("orders.json").unwrap(), json!({"db": {"password": "canary"}}));
    assert_eq!(bed.read("db").unwrap(), json!({"username": "app", "password": "canary", "store.jks": null}));
    assert_eq!(bed.read("db/inner").unwrap(), json!({"x": "own path"}));
}

#[test]
fn links_lead_nowhere_outside_of_the_folder() {
    let bed = Bed::new(&[("real/password", "inside")]);
    fs::write(bed.around.path().join("outside"), "canary").unwrap();
    symlink("real/password", bed.path("near")).unwrap();
    symlink("real", bed.path("folder")).unwrap();
    symlink("../../outside", bed.path("real/up")).unwrap();
    symlink("../outside", bed.path("up")).unwrap();
    symlink(bed.around.path().join("outside"), bed.path("absolute")).unwrap();
    symlink("/proc/self/environ", bed.path("proc")).unwrap();
    symlink("..", bed.path("parent")).unwrap();
    symlink("round", bed.path("round")).unwrap();
    assert_eq!(bed.read("near").unwrap(), json!({"value": "inside"}));
    assert_eq!(bed.read("folder/password").unwrap(), json!({"value": "inside"}));
    for out in ["up", "absolute", "proc", "parent", "parent/outside", "real"] {
        assert_eq!(bed.kind(out), StoreErrorKind::Denied, "{out}");
    }
    assert_eq!(bed.kind("round"), StoreErrorKind::Malformed);
}

#[test]
fn what_is_no_secret_says_why() {
    let bed = Bed::new(&[("text", "x"), ("bad.json", "{\"canary"), ("list.json", "[\"canary\"]")]);
    fs::write(bed.path("binary"), [0xff, 0xfe]).unwrap();
    fs::write(bed.path("long"), "canary".repeat(text::MAX / 6 + 1)).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(bed.path("pipe")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(bed.path("socket")).unwrap();
    for malformed in ["bad.json", "list.json", "binary", "long", "pipe", "socket", "two words", ".hidden", "a/..data"] {
        assert_eq!(bed.kind(malformed), StoreErrorKind::Malformed, "{malformed}");
    }
    for absent in ["nothing", "nothing/at/all", "text/below"] {
        assert_eq!(bed.kind(absent), StoreErrorKind::NotFound, "{absent}");
    }
    fs::remove_dir_all(bed.path("")).unwrap();
    assert_eq!(bed.kind("text"), StoreErrorKind::Unavailable, "a volume that is not mounted");
    assert_eq!(bed.folder.check().unwrap_err().kind, StoreErrorKind::Unavailable);
}

#[test]
fn a_folder_that_is_turned_all_the_time_is_never_read_in_two_states() {
    let bed = Bed::new(&[]);
    let state = |number: u32| [("username", format!("user-{number}")), ("password", format!("pass-{number}"))];
    let turn = |bed: &Bed, number: u32| {
        let state = state(number);
        bed.turn(&format!("..state-{number}"), &state.each_ref().map(|(name, text)| (*name, text.as_str())));
    };
    turn(&bed, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..400).for_each(|number| turn(&bed, number));
            done.store(true, Ordering::Relaxed);
        });
        let mut read = 0;
        while !done.load(Ordering::Relaxed) || read == 0 {
            // It may well give up on a folder that never rests.
            let Ok(fields) = bed.read("db") else { continue };
            read += 1;
            let of = |key: &str| fields[key].as_str().unwrap()["user-".len()..].to_owned();
            assert_eq!(of("username"), of("password"));
        }
    });
    assert_eq!(bed.read("db").unwrap(), json!({"username": "user-399", "password": "pass-399"}));
    assert_eq!(bed.read("db/password").unwrap(), json!({"value": "pass-399"}), "a single file behind the link");
}

#[test]
fn who_reads_a_file_that_others_can_read_is_warned_once() {
    let bed = Bed::new(&[("open", "x"), ("closed", "x")]);
    let mode = |name: &str, mode: u32| fs::set_permissions(bed.path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("open", 0o644);
    mode("closed", 0o640);
    mode("", 0o700);
    bed.read("open").unwrap();
    assert!(bed.folder.warned.lock().unwrap().is_empty(), "nobody else gets into the folder");
    mode("", 0o755);
    for _ in 0..2 {
        bed.read("open").unwrap();
        bed.read("closed").unwrap();
    }
    assert_eq!(*bed.folder.warned.lock().unwrap(), BTreeSet::from(["open".to_owned()]));
}
