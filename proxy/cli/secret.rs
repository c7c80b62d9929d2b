//! `keyward secret`: what operators do with the secrets of a store. With a token of their own; the login of the file is never used.

mod put;
mod show;
mod token;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use keyward_auth::StoreError;
use keyward_auth::operator::{Destroy, Folder, History, MetadataChange, SecretName, Secrets, make_key};
use keyward_config::Config;

use super::{DONE, File, Format, WRONG, failed, prompt, runtime};
use crate::reload;

const NAMES: &str = "\
A secret is named as the file names it, with its store before it: corp:prod_db/data/mysql (the `data/` of KV version 2 may be left out), or \
corp:prod_db/data/mysql?password for one of its keys. The store may be left out where the file has only one.

A store of type vault is asked with your own token, never with Keyward's login: the one in BAO_TOKEN or VAULT_TOKEN, else in ~/.vault-token \
(`vault login`, `bao login`), else it is asked for. Its address, namespace and TLS are those of the file.";

#[derive(Subcommand)]
pub(super) enum SecretCommand {
    /// Write values into a secret.
    ///
    /// They are asked for twice on a terminal, else read from standard input: all of it for one key, a line for each of several; never given
    /// as arguments. Other keys of the secret stay as they are, and nobody's change of the same moment is lost where the store has versions.
    #[command(after_help = NAMES)]
    Put {
        #[command(flatten)]
        file: File,
        /// The secret: corp:prod_db/data/mysql
        name: String,
        /// The keys to write, besides the one that the name may have.
        keys: Vec<String>,
        /// Read a JSON object of keys and values from standard input instead.
        #[arg(long)]
        json: bool,
        /// Keep nothing: afterwards the secret has only what is written now.
        #[arg(long)]
        replace: bool,
    },
    /// Say which keys a secret has, or print one value.
    ///
    /// Its version and the names of its keys; with `?key` in the name: that value, and nothing else.
    #[command(after_help = NAMES)]
    Get {
        #[command(flatten)]
        file: File,
        /// The secret: corp:prod_db/data/mysql, or corp:prod_db/data/mysql?password
        name: String,
        /// Print the values, too.
        #[arg(long)]
        show: bool,
        /// This version. Default: the newest.
        #[arg(long, value_name = "N")]
        version: Option<u64>,
        /// For people or for programs.
        #[arg(long, default_value = "table")]
        format: Format,
    },
    /// List the names in a folder.
    ///
    /// Folders in it end with `/`. Of the whole store (`corp:`): its KV mounts.
    #[command(after_help = NAMES)]
    List {
        #[command(flatten)]
        file: File,
        /// The folder: corp:prod_db/data/team
        folder: String,
        /// For people or for programs.
        #[arg(long, default_value = "table")]
        format: Format,
    },
    /// Delete the newest version of a secret, or others; `undelete` brings them back.
    ///
    /// A store that keeps no versions (KV version 1, a sealed file) loses it for good, and the name is asked for again.
    #[command(after_help = NAMES)]
    Delete {
        #[command(flatten)]
        file: File,
        /// The secret: corp:prod_db/data/mysql
        name: String,
        /// These versions: --version 3,4
        #[arg(long = "version", value_name = "N", value_delimiter = ',')]
        versions: Vec<u64>,
        /// Do not ask, where it would be gone for good.
        #[arg(long)]
        yes: bool,
    },
    /// Bring deleted versions back.
    #[command(after_help = NAMES)]
    Undelete {
        #[command(flatten)]
        file: File,
        /// The secret: corp:prod_db/data/mysql
        name: String,
        /// These versions: --version 3,4
        #[arg(long = "version", value_name = "N", value_delimiter = ',', required = true)]
        versions: Vec<u64>,
    },
    /// Destroy versions for good.
    ///
    /// The name is asked for again.
    #[command(after_help = NAMES)]
    Destroy {
        #[command(flatten)]
        file: File,
        /// The secret: corp:prod_db/data/mysql
        name: String,
        /// These versions: --version 3,4
        #[arg(long = "version", value_name = "N", value_delimiter = ',', required_unless_present = "all", conflicts_with = "all")]
        versions: Vec<u64>,
        /// The secret with all its versions and metadata.
        #[arg(long)]
        all: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Say what the store knows of a secret beside its values, or change that.
    ///
    /// Its versions, how many are kept and for how long, notes.
    #[command(after_help = NAMES)]
    Metadata {
        #[command(flatten)]
        file: File,
        /// The secret: corp:prod_db/data/mysql
        name: String,
        /// Keep this many versions. 0: as many as the mount says.
        #[arg(long, value_name = "N")]
        max_versions: Option<u64>,
        /// Delete new versions after this time: 720h. 0s: never.
        #[arg(long, value_name = "TIME")]
        delete_version_after: Option<String>,
        /// Note something on it, such as owner=payments; an empty text takes the note away. No secrets: whoever may list may read it.
        #[arg(long = "note", value_name = "NAME=TEXT")]
        notes: Vec<String>,
        /// For people or for programs.
        #[arg(long, default_value = "table")]
        format: Format,
    },
    /// Encrypt a secret for its row in a table (`type: table` with a `key`).
    ///
    /// What is printed goes into the row, by a login that may write there. Values are asked for as by `put`; without keys: one value. It opens
    /// in the row of its own name only.
    Seal {
        #[command(flatten)]
        file: File,
        /// The secret: rows:orders
        name: String,
        /// The keys that it gets.
        keys: Vec<String>,
        /// Read a JSON object of keys and values from standard input instead.
        #[arg(long)]
        json: bool,
    },
    /// Make a key for a sealed file (`type: file`, `sealed:`, `key: { file: … }`).
    ///
    /// A new file that only you may read.
    Key {
        /// The file; it must not be there yet.
        path: PathBuf,
    },
}

pub(super) fn secret(command: SecretCommand) -> u8 {
    dispatch(command).unwrap_or_else(|code| code)
}

fn dispatch(command: SecretCommand) -> Result<u8, u8> {
    match command {
        SecretCommand::Put { file, name, keys, json, replace } => put::put(&file.config, &name, keys, json, replace),
        SecretCommand::Get { file, name, show, version, format } => show::get(&file.config, &name, show, version, format),
        SecretCommand::List { file, folder, format } => list(&file.config, &folder, format),
        SecretCommand::Delete { file, name, versions, yes } => delete(&file.config, &name, versions, yes),
        SecretCommand::Undelete { file, name, versions } => {
            let (desk, name) = named(&file.config, &name)?;
            desk.does(async |secrets| secrets.undelete(&name, &versions).await)?;
            println!("{name}: undeleted {}", numbers(&versions));
            Ok(DONE)
        }
        SecretCommand::Destroy { file, name, versions, all, yes } => destroy(&file.config, &name, versions, all, yes),
        SecretCommand::Metadata { file, name, max_versions, delete_version_after, notes, format } => {
            let (desk, name) = named(&file.config, &name)?;
            let notes = notes.iter().map(|note| note_of(note)).collect::<Result<Vec<_>, u8>>()?;
            let change = MetadataChange { max_versions, delete_version_after, notes };
            if change.is_empty() {
                return show::metadata(&desk, &name, format);
            }
            desk.does(async |secrets| secrets.set_metadata(&name, &change).await)?;
            println!("{name}: changed");
            Ok(DONE)
        }
        SecretCommand::Seal { file, name, keys, json } => put::seal(&file.config, &name, keys, json),
        SecretCommand::Key { path } => key(&path),
    }
}

/// A store of the file, open for this operator.
struct Desk {
    store: String,
    secrets: Secrets,
    token: Option<token::From>,
    runtime: tokio::runtime::Runtime,
}

impl Desk {
    /// Looks for the token, or asks for it. Asks the store nothing yet.
    fn open(config: &Arc<Config>, store: &str) -> Result<Self, u8> {
        let wants = Secrets::wants_token(config, store).map_err(|text| wrong(&text))?;
        let (token, from) = token::find(wants.as_deref()).map_err(|text| failed(&text))?.unzip();
        let runtime = runtime().map_err(|text| failed(&text))?;
        // What a store is made of may want to be made inside a runtime.
        let opened = runtime.block_on(async { Secrets::open(config, store, token) });
        let store = store.to_owned();
        opened.map_err(|error| failed(&format!("{store}: {}", error.detail))).map(|secrets| Self { store, secrets, token: from, runtime })
    }

    /// Asks the store and says what it answered, if that is no.
    fn does<T>(&self, ask: impl AsyncFnOnce(&Secrets) -> Result<T, StoreError>) -> Result<T, u8> {
        self.runtime.block_on(ask(&self.secrets)).map_err(|error| {
            let hint = self.token.map(|from| from.hint(error.kind)).unwrap_or_default();
            failed(&format!("{}: {}{hint}", self.store, error.detail))
        })
    }
}

/// The file as far as it can be read: what is wrong elsewhere in it must not keep an operator from its stores.
fn load(path: &Path, store: &str) -> Result<Arc<Config>, u8> {
    let loaded = reload::read(path);
    match loaded.config {
        Some(config) if !loaded.problems.has_errors() || config.stores.contains_key(store) => Ok(Arc::new(config)),
        _ => {
            eprint!("{}", loaded.problems);
            Err(WRONG)
        }
    }
}

fn named(path: &Path, name: &str) -> Result<(Desk, SecretName), u8> {
    let config = load(path, name.split_once(':').map_or("", |(store, _)| store))?;
    let name = whole(&config, name)?;
    Ok((Desk::open(&config, name.store())?, name))
}

/// The name of a secret, without a key or a version.
fn whole(config: &Config, name: &str) -> Result<SecretName, u8> {
    let name = SecretName::parse(config, name).map_err(|text| wrong(&text))?;
    if name.key().is_some() || name.version().is_some() {
        return Err(wrong("this is about the whole secret: name it without `?…`; versions go to --version"));
    }
    Ok(name)
}

fn wrong(text: &str) -> u8 {
    eprintln!("keyward: {text}");
    WRONG
}

fn list(path: &Path, folder: &str, format: Format) -> Result<u8, u8> {
    let config = load(path, folder.split_once(':').map_or(folder, |(store, _)| store))?;
    let folder = Folder::parse(&config, folder).map_err(|text| wrong(&text))?;
    let desk = Desk::open(&config, folder.store())?;
    let names = desk.does(async |secrets| secrets.list(&folder).await)?;
    match format {
        Format::Table => names.iter().for_each(|name| println!("{name}")),
        Format::Json => println!("{:#}", serde_json::json!(names)),
    }
    Ok(DONE)
}

fn delete(path: &Path, name: &str, versions: Vec<u64>, yes: bool) -> Result<u8, u8> {
    let (desk, name) = named(path, name)?;
    let history = desk.does(async |secrets| secrets.history(&name).await)?;
    if history == History::None && versions.is_empty() {
        confirm(&name, yes)?;
    }
    desk.does(async |secrets| secrets.delete(&name, &versions).await)?;
    match (history, versions.as_slice()) {
        (History::Kept, []) => println!("{name}: deleted its newest version; `keyward secret undelete` brings it back"),
        (History::Kept, versions) => println!("{name}: deleted {}; `keyward secret undelete` brings back what was", numbers(versions)),
        (History::None, _) => println!("{name}: deleted"),
    }
    Ok(DONE)
}

fn destroy(path: &Path, name: &str, versions: Vec<u64>, all: bool, yes: bool) -> Result<u8, u8> {
    let (desk, name) = named(path, name)?;
    confirm(&name, yes)?;
    let (what, shown) =
        if all { (Destroy::All, "everything".to_owned()) } else { (Destroy::Versions(versions.clone()), numbers(&versions)) };
    desk.does(async |secrets| secrets.destroy(&name, &what).await)?;
    println!("{name}: destroyed {shown}");
    Ok(DONE)
}

/// For what nothing brings back.
fn confirm(name: &SecretName, yes: bool) -> Result<(), u8> {
    if yes {
        return Ok(());
    }
    if !prompt::is_terminal() {
        return Err(wrong("nothing brings it back: say --yes where nobody can be asked"));
    }
    let typed = prompt::open(&format!("Nothing brings it back. Type its name again ({name}): "), 2048);
    match typed {
        Ok(typed) if typed.trim() == name.to_string() => Ok(()),
        _ => Err(failed("this is not its name; nothing was done")),
    }
}

fn note_of(note: &str) -> Result<(String, String), u8> {
    let split = note.split_once('=').filter(|(name, _)| !name.is_empty());
    split.map(|(name, text)| (name.to_owned(), text.to_owned())).ok_or_else(|| wrong("--note takes NAME=TEXT"))
}

fn numbers(versions: &[u64]) -> String {
    let all: Vec<String> = versions.iter().map(u64::to_string).collect();
    format!("version{} {}", if all.len() == 1 { "" } else { "s" }, all.join(", "))
}

fn key(path: &Path) -> Result<u8, u8> {
    let text = make_key().map_err(|text| failed(&text))?;
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        // Exposed: to the file that it is made for.
        file.write_all(text.expose())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    match written {
        Ok(()) => {
            println!("{}: a new key, 32 random bytes; keep a copy where the sealed file is not", path.display());
            Ok(DONE)
        }
        Err(error) => Err(failed(&format!("{}: {error}", path.display()))),
    }
}
