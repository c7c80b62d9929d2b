//! `keyward secret get` and `metadata`: values only where they are asked for.

use std::io::{IsTerminal, Write};
use std::path::Path;

use keyward_auth::Secret;
use keyward_auth::operator::{Held, Metadata, SecretName, Values, Version};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Desk, load, wrong};
use crate::cli::{DONE, Format, failed, output, table};

pub(super) fn get(path: &Path, name: &str, show: bool, version: Option<u64>, format: Format) -> Result<u8, u8> {
    let config = load(path, name.split_once(':').map_or("", |(store, _)| store))?;
    let name = SecretName::parse(&config, name).map_err(|text| wrong(&text))?;
    let version = match (version, name.version()) {
        (Some(one), Some(other)) if one != other => return Err(wrong("the name and --version name two versions")),
        (version, named) => version.or(named),
    };
    let desk = Desk::open(&config, name.store())?;
    if let Some(key) = name.key() {
        let value = desk.does(async |secrets| secrets.value(&name, key, version).await)?;
        return output::unless_closed(print(&value, format)).map(|()| DONE).map_err(|error| failed(&format!("standard output: {error}")));
    }
    let values = if show { Values::Shown } else { Values::Hidden };
    let held = desk.does(async |secrets| secrets.get(&name, version, values).await)?;
    match format {
        Format::Json => println!("{:#}", facts(&name, &held, values)),
        Format::Table => {
            println!("{name}{}", held.version.as_ref().map(|version| format!(", version {}", line(version))).unwrap_or_default());
            match values {
                Values::Hidden => held.keys().iter().for_each(|key| println!("  {}", key.escape_debug())),
                // Exposed: the operator asked for it.
                Values::Shown => table(&["KEY", "VALUE"], &held.values().iter().map(|(key, value)| shown(key, value)).collect::<Vec<_>>()),
            }
        }
    }
    Ok(DONE)
}

/// The value and nothing else, so that a program gets it as it is, or as a JSON string; people get a line.
fn print(value: &Secret, format: Format) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    // Exposed, both: the operator asked for it.
    match format {
        Format::Table => stdout.write_all(value.expose())?,
        Format::Json => {
            let text = value.expose_str().ok_or_else(|| std::io::Error::other("JSON has texts only, and this value is none"))?;
            stdout.write_all(Zeroizing::new(serde_json::to_string(text)?).as_bytes())?;
        }
    }
    if format == Format::Json || stdout.is_terminal() {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

fn shown(key: &str, value: &Secret) -> Vec<String> {
    let text = value.expose_str().unwrap_or_default();
    // A private key has lines; a terminal does what control characters say.
    vec![key.escape_debug().to_string(), text.chars().flat_map(escape).collect()]
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_debug());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

fn facts(name: &SecretName, held: &Held, values: Values) -> Value {
    let mut facts = json!({ "secret": name.to_string(), "keys": held.keys() });
    if let (Some(version), Value::Object(map)) = (&held.version, &mut facts) {
        map.insert("version".to_owned(), of_version(version));
    }
    if let (Values::Shown, Value::Object(map)) = (values, &mut facts) {
        // Exposed: the operator asked for it.
        map.insert("values".to_owned(), serde_json::from_slice(held.json().expose()).unwrap_or_default());
    }
    facts
}

pub(super) fn metadata(desk: &Desk, name: &SecretName, format: Format) -> Result<u8, u8> {
    let metadata = desk.does(async |secrets| secrets.metadata(name).await)?;
    match format {
        Format::Json => {
            let versions: Vec<Value> = metadata.versions.iter().map(of_version).collect();
            let Metadata { current, max_versions, delete_version_after, cas_required, notes, .. } = &metadata;
            let notes: Value = notes.iter().map(|(name, text)| (name.clone(), text.as_str())).collect();
            let facts = json!({ "secret": name.to_string(), "current": current, "max_versions": max_versions,
                "delete_version_after": delete_version_after, "cas_required": cas_required, "notes": notes, "versions": versions });
            println!("{facts:#}");
        }
        Format::Table => {
            println!("{name}, current version {}", metadata.current);
            let most = if metadata.max_versions == 0 { "as many as the mount says".to_owned() } else { metadata.max_versions.to_string() };
            println!("  versions kept: {most}");
            println!(
                "  new versions are deleted after: {}",
                if metadata.delete_version_after == "0s" { "never" } else { &metadata.delete_version_after }
            );
            metadata.notes.iter().for_each(|(name, text)| println!("  {}: {}", name.escape_debug(), text.escape_debug()));
            let row = |version: &Version| vec![version.number.to_string(), version.created.clone(), state(version)];
            table(&["VERSION", "CREATED", "STATE"], &metadata.versions.iter().map(row).collect::<Vec<_>>());
        }
    }
    Ok(DONE)
}

fn line(version: &Version) -> String {
    format!(
        "{} of {}{}",
        version.number,
        version.created,
        version.deleted.as_ref().map(|when| format!(", deleted at {when}")).unwrap_or_default()
    )
}

fn state(version: &Version) -> String {
    match &version.deleted {
        _ if version.destroyed => "destroyed".to_owned(),
        Some(when) => format!("deleted at {when}"),
        None => "there".to_owned(),
    }
}

fn of_version(version: &Version) -> Value {
    let Version { number, created, deleted, destroyed } = version;
    json!({ "number": number, "created": created, "deleted": deleted, "destroyed": destroyed })
}
