//! `keyward check`: every problem of the file at once; then each store and each connection for real.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyward_auth::{Connection, Gate, Grant, Provenance, Rights, StoreErrorKind, StoreStatus};
use keyward_config::{Config, OnFailure, Problems};
use serde_json::{Value, json};

use super::{DONE, FAILED, Format, WRONG, failed, runtime, table};
use crate::audit::{self, Audit};
use crate::error::{Party, SessionError, Stage};
use crate::metrics::Metrics;
use crate::protocol::{self, KINDS, Kind, Probed};
use crate::refusal::Refusal;
use crate::reload;
use crate::server::Proxy;
use crate::upstream::Security;

/// Leases of the check are given back before it ends.
const GIVE_BACK: Duration = Duration::from_secs(20);

/// A login has as long as a user's.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many sentences on the rights of a token are shown in one line.
const FEW: usize = 10;

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    /// It works, and allows more than it should.
    Lax,
    Failed,
    /// Nobody can.
    Untried,
}

impl Outcome {
    /// For programs.
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Lax => "warning",
            Self::Failed => "failed",
            Self::Untried => "untried",
        }
    }
}

/// One line of the result.
struct Row {
    kind: &'static str,
    name: String,
    outcome: Outcome,
    /// How far it came: the stages that were reached, or the one that failed.
    stage: &'static str,
    detail: String,
}

pub(super) fn check(path: &Path, offline: bool, format: Format) -> u8 {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(text) => return failed(&text),
    };
    runtime.block_on(async {
        let (loaded, gate) = reload::load(path);
        let wrong = loaded.problems.has_errors();
        let rows = match (&loaded.config, gate) {
            (Some(config), Some(gate)) if !offline && !wrong => ask(config, &gate).await,
            _ => Ok(Vec::new()),
        };
        let rows = match rows {
            Ok(rows) => rows,
            Err(text) => return failed(&text),
        };
        match format {
            Format::Table => people(&loaded.problems, &rows),
            Format::Json => programs(&loaded.problems, &rows),
        }
        match (wrong, rows.iter().any(|row| row.outcome == Outcome::Failed)) {
            (true, _) => WRONG,
            (false, false) => DONE,
            (false, true) => FAILED,
        }
    })
}

async fn ask(config: &Config, gate: &Arc<Gate>) -> Result<Vec<Row>, String> {
    let mut rows = stores(config, gate).await;
    // A session of the check is never established, so that it has no record of its own: what it did is appended to the process's.
    let metrics = Arc::new(Metrics::default());
    let audit = Audit::open(Path::new("/dev/null"), OnFailure::Continue, Arc::clone(&metrics))?;
    let proxy = Proxy::new(Arc::clone(gate), audit, metrics, config.limits.clone());
    let record = config.audit.file.clone().unwrap_or_else(|| audit::default_file(&config.state));
    let slow = |_| Err(SessionError::new(Refusal::TooSlow, Party::Upstream, Stage::Inject, "no login within 30 s"));
    for grant in gate.operator_grants() {
        let Some(kind) = protocol::kind(grant.connection().protocol()) else { continue };
        if grant.account().is_per_user() {
            rows.push(per_user(&grant));
            continue;
        }
        let probed = tokio::select! {
            probed = tokio::time::timeout(PROBE_TIMEOUT, (kind.probe)(Arc::clone(&proxy), grant.clone())) => probed.unwrap_or_else(slow),
            // Ctrl-C must not leave an account behind: what was leased is given back below.
            _ = tokio::signal::ctrl_c() => {
                rows.push(Row { kind: "check", name: String::new(), outcome: Outcome::Failed, stage: "interrupted", detail: String::new() });
                break;
            }
        };
        let outcome = probed.as_ref().map_or_else(|error| error.refusal.word(), |_| "ok");
        let from: Option<&Provenance> = probed.as_ref().ok().map(|probed| &probed.provenance);
        if let Err(error) = audit::checked(&record, &grant, outcome, from) {
            let detail = format!("{}: {error}", record.display());
            rows.push(Row { kind: "audit", name: "record".to_owned(), outcome: Outcome::Failed, stage: "write", detail });
        }
        rows.push(connection(&grant, kind, probed));
    }
    rows.extend(patterns(gate));
    let left = gate.drain(GIVE_BACK).await;
    if left > 0 {
        rows.push(Row {
            kind: "lease",
            name: "of the check".to_owned(),
            outcome: Outcome::Failed,
            stage: "revoke",
            detail: format!("{left} not given back"),
        });
    }
    Ok(rows)
}

/// Whether each can be asked, and what it lets us do.
async fn stores(config: &Config, gate: &Gate) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in gate.store_names() {
        let origin = origin(config, &name);
        match gate.store_status(&name).await {
            Ok(status) => {
                let stage = if status.has_token { "logged in" } else { "readable" };
                let detail = token(&status) + &origin;
                let rights = rights(config, gate, &name).await;
                rows.push(Row { kind: "store", name, outcome: Outcome::Ok, stage, detail });
                rows.extend(rights);
            }
            Err(error) if error.kind == StoreErrorKind::Disabled => {
                let detail = error.detail + &origin;
                rows.push(Row { kind: "store", name, outcome: Outcome::Untried, stage: "not asked", detail });
            }
            Err(error) => {
                let detail = error.detail + &origin;
                rows.push(Row { kind: "store", name, outcome: Outcome::Failed, stage: error.kind.word(), detail });
            }
        }
    }
    for store in config.stores.values() {
        let Some(why) = store.off() else { continue };
        let name = store.name.value.to_string();
        let detail = why + &origin(config, &name);
        rows.push(Row { kind: "store", name, outcome: Outcome::Untried, stage: "not asked", detail });
    }
    rows
}

/// What the store denies our token of what the file needs, and what it allows beside it.
async fn rights(config: &Config, gate: &Gate, label: &str) -> Option<Row> {
    let (store, runner) = label.split_once('/').map_or((label, String::new()), |(store, runner)| (store, format!(" --runner {runner}")));
    let row = |outcome, detail| Row { kind: "store", name: label.to_owned(), outcome, stage: "rights", detail };
    let print = format!("`keyward policy {store}{runner}` prints what it needs");
    Some(match gate.store_rights(config, label).await {
        Ok(None) => return None,
        Ok(Some(Rights { lacks, beyond })) => match (lacks.is_empty(), beyond.is_empty()) {
            (true, true) => row(Outcome::Ok, "what the file needs, and no more".to_owned()),
            (true, false) => row(Outcome::Lax, format!("{}; {print}", few(&beyond))),
            (false, _) => row(Outcome::Failed, format!("{}; {print}", few(&lacks.into_iter().chain(beyond).collect::<Vec<_>>()))),
        },
        Err(error) if error.kind == StoreErrorKind::Denied => row(Outcome::Untried, format!("{}; {print}", error.detail)),
        Err(error) => row(Outcome::Failed, error.detail),
    })
}

/// As many as can be read.
fn few(all: &[String]) -> String {
    let mut text = all.iter().take(FEW).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = all.len().saturating_sub(FEW);
    if more > 0 {
        text += &format!("; and {more} more");
    }
    text
}

fn name_of(grant: &Grant) -> String {
    let server = super::beside(grant.connection().name().as_str(), grant.host());
    match grant.account().name().as_str() {
        keyward_auth::Account::DEFAULT => server,
        account => format!("{server}+{account}"),
    }
}

fn connection(grant: &Grant, kind: &Kind, probed: Result<Probed, SessionError>) -> Row {
    let name = name_of(grant);
    match probed {
        Ok(probed) => {
            let insecure = grant.connection().insecure().map(|reason| format!("; insecure: {reason}")).unwrap_or_default();
            let stale = if probed.provenance.stale { "; its secret is past its time: the store could not be asked" } else { "" };
            let detail = format!("server {}, verified by {}{stale}{insecure}", probed.version, probed.verified_by.word());
            Row { kind: "connection", name, outcome: Outcome::Ok, stage: "logged in", detail }
        }
        Err(error) if error.stage == Stage::Lease && error.source.starts_with(StoreErrorKind::Disabled.word()) => {
            let detail = error.source.into_owned();
            Row { kind: "connection", name, outcome: Outcome::Untried, stage: "not tried", detail }
        }
        Err(error) => {
            let stage = match error.stage {
                Stage::Lease => "secret",
                Stage::Connect => "connect",
                _ => "login",
            };
            let mut detail = format!("{}: {}", error.refusal.word(), error.source);
            if error.refusal == Refusal::UpstreamUnverified && kind.preface.security == Security::HostKeys {
                let asked = grant.host().unwrap_or_else(|| grant.connection().name().as_str());
                detail += &format!("; `keyward trust {asked}` shows its keys as they are now");
            }
            Row { kind: "connection", name, outcome: Outcome::Failed, stage, detail }
        }
    }
}

/// The file does not say whose secret to try.
fn per_user(grant: &Grant) -> Row {
    let detail = "each user has a credential of his own".to_owned();
    Row { kind: "connection", name: name_of(grant), outcome: Outcome::Untried, stage: "not tried", detail }
}

/// A pattern says which servers may be named, not which there are.
fn patterns(gate: &Gate) -> Vec<Row> {
    let connections = KINDS.iter().flat_map(|kind| gate.connections(kind.settings.name));
    let row = |connection: &Connection| {
        let name = connection.name().as_str();
        let patterns = connection.hosts().iter().filter(|host| host.is_pattern());
        let untried = patterns.map(|pattern| Row {
            kind: "connection",
            name: super::beside(name, Some(pattern.as_str())),
            outcome: Outcome::Untried,
            stage: "not tried",
            detail: "a pattern of names: the file does not say which servers there are".to_owned(),
        });
        untried.collect::<Vec<_>>()
    };
    connections.flat_map(|connection| row(&connection)).collect()
}

/// What of a store, or of the store of a runner (`store/runner`), is not from the file.
fn origin(config: &Config, label: &str) -> String {
    let name = label.split('/').next().unwrap_or_default();
    let Some(origin) = config.origins.get(name) else { return String::new() };
    let declared = origin.declared.map(|variable| format!("; from {variable}"));
    let keys = origin.keys.iter().map(|(key, variable)| format!("; {key} from {variable}"));
    declared.into_iter().chain(keys).collect()
}

fn token(status: &StoreStatus) -> String {
    let life = status.token_left.map_or_else(|| "for ever".to_owned(), |left| format!("{} s", left.as_secs()));
    let renewable = if status.renewable { ", renewable" } else { "" };
    let warnings: String = status.warnings.iter().map(|warning| format!("; {warning}")).collect();
    if !status.has_token {
        return format!("{}{warnings}", status.version);
    }
    format!("version {}, token lives {life}{renewable}{warnings}", status.version)
}

fn people(problems: &Problems, rows: &[Row]) {
    if !problems.is_empty() {
        print!("{problems}");
    }
    if !rows.is_empty() {
        let cells = |row: &Row| {
            let mark = match row.outcome {
                Outcome::Ok => "ok",
                Outcome::Lax => "warning",
                Outcome::Failed => "FAILED",
                Outcome::Untried => "-",
            };
            vec![mark.to_owned(), row.kind.to_owned(), row.name.clone(), row.stage.to_owned(), row.detail.clone()]
        };
        table(&["", "KIND", "NAME", "STAGE", "DETAIL"], &rows.iter().map(cells).collect::<Vec<_>>());
    } else if !problems.has_errors() {
        println!("the file is good");
    }
}

fn programs(problems: &Problems, rows: &[Row]) {
    let problems: Vec<_> = problems.iter().collect();
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            // Neither true nor false where nothing was tried.
            let ok = (row.outcome != Outcome::Untried).then_some(row.outcome != Outcome::Failed);
            let outcome = row.outcome.word();
            json!({ "kind": row.kind, "name": row.name, "outcome": outcome, "ok": ok, "stage": row.stage, "detail": row.detail })
        })
        .collect();
    println!("{:#}", json!({ "problems": problems, "results": rows }));
}
