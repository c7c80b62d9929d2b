//! `keyward secret put`: values from people or from programs into a secret.

use std::path::Path;
use std::sync::Arc;

use keyward_auth::operator::{Change, Others, Seal, SecretName};
use keyward_auth::{Secret, StoreError};
use keyward_config::Config;

use super::{Desk, load, token, wrong};
use crate::cli::{DONE, failed, prompt, runtime};

/// The longest value, and the longest JSON, in bytes. Sessions read answers of 1 MiB.
const MAX: usize = 512 * 1024;
/// The longest line that is typed or is one of several, in bytes.
const LINE: usize = 64 * 1024;

pub(super) fn put(path: &Path, name: &str, keys: Vec<String>, json: bool, replace: bool) -> Result<u8, u8> {
    let (config, name, keys) = read(path, name, keys)?;
    match (keys.is_empty(), json) {
        (true, false) => return Err(wrong("say which keys to write (username password), or give a JSON object to --json")),
        (false, true) => return Err(wrong("--json has the keys in it: name none beside it")),
        (true, true) | (false, false) => {}
    }
    let desk = Desk::open(&config, name.store())?;
    let mut change = Change::new(if replace { Others::Dropped } else { Others::Kept });
    take(&keys, json, &mut change).map_err(|text| failed(&text))?;
    let written = desk.does(async |secrets| secrets.put(&name, &change).await)?;
    let version = written.version.map(|version| format!("version {version}, ")).unwrap_or_default();
    println!("{name}: {version}keys: {}", written.keys.join(", "));
    Ok(DONE)
}

pub(super) fn seal(path: &Path, name: &str, keys: Vec<String>, json: bool) -> Result<u8, u8> {
    let (config, name, keys) = read(path, name, keys)?;
    if json && !keys.is_empty() {
        return Err(wrong("--json has the keys in it: name none beside it"));
    }
    let wants = Seal::wants_token(&config, name.store()).map_err(|text| wrong(&text))?;
    let token = token::find(wants.as_deref()).map_err(|text| failed(&text))?.map(|(token, _)| token);
    let runtime = runtime().map_err(|text| failed(&text))?;
    let refused = |error: StoreError| failed(&format!("{}: {}", name.store(), error.detail));
    let seal = Seal::open(&config, name.store(), token).map_err(refused)?;
    let sealed = if json || !keys.is_empty() {
        let mut change = Change::new(Others::Dropped);
        take(&keys, json, &mut change).map_err(|text| failed(&text))?;
        runtime.block_on(seal.keys(&name, &change))
    } else {
        let value = value("value", 0, 1).map_err(|error| failed(&format!("the value: {error}")))?;
        if value.is_empty() {
            return Err(failed("the value is empty"));
        }
        runtime.block_on(seal.value(&name, value))
    };
    println!("{}", sealed.map_err(refused)?);
    Ok(DONE)
}

/// What the arguments of a write say.
fn read(path: &Path, name: &str, keys: Vec<String>) -> Result<(Arc<Config>, SecretName, Vec<String>), u8> {
    // Said without repeating it. Vault's own command takes them so.
    if keys.iter().chain([&name.to_owned()]).any(|text| text.contains('=') && !text.contains("&version=")) {
        let text = "a value is never an argument, where the history and the process list would keep it: name only the key, and the value \
                    is asked for, or read from standard input (a value that you typed here may be in your history now)";
        return Err(wrong(text));
    }
    let config = load(path, name.split_once(':').map_or("", |(store, _)| store))?;
    if keys.iter().filter_map(|key| key.split_once(':')).any(|(store, _)| config.stores.contains_key(store)) {
        return Err(wrong("the secret is named first, its keys come after it: corp:prod_db/data/mysql username password"));
    }
    let name = SecretName::parse(&config, name).map_err(|text| wrong(&text))?;
    if name.version().is_some() {
        return Err(wrong("a version that is there does not change; a write makes a new one"));
    }
    let keys = name.key().map(str::to_owned).into_iter().chain(keys).collect();
    Ok((config, name, keys))
}

fn take(keys: &[String], json: bool, change: &mut Change) -> Result<(), String> {
    if json {
        return prompt::rest(MAX).map_err(|error| error.to_string()).and_then(|text| change.set_json(&text));
    }
    for (number, key) in keys.iter().enumerate() {
        let value = value(key, number, keys.len()).map_err(|error| format!("{key}: {error}"))?;
        change.set(key, &value)?;
    }
    if keys.len() > 1 && !prompt::is_terminal() && prompt::line(LINE).is_ok_and(|line| !line.is_empty()) {
        return Err("there are more lines than keys; a value of several lines is written by itself, or with --json".to_owned());
    }
    Ok(())
}

fn value(key: &str, number: usize, of: usize) -> std::io::Result<Secret> {
    if prompt::is_terminal() {
        prompt::twice(&format!("{key}: "), &format!("{key}, again: "), LINE)
    } else if of == 1 {
        prompt::rest(MAX)
    } else {
        let line = prompt::line(LINE)?;
        let missing = || {
            std::io::Error::other(format!(
                "standard input has no line for it: expected {of}, one for each key, and this is number {}",
                number.saturating_add(1)
            ))
        };
        if line.is_empty() { Err(missing()) } else { Ok(line) }
    }
}
