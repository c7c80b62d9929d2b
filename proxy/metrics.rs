//! What is counted. Handles are passed in; there is no global. Labels are fixed words and names that the file declares, never text
//! from a peer.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::error::{SessionError, Stage};

/// Seconds; from what a loopback does to what a person gives up at.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByProtocol {
    protocol: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByConnection {
    protocol: &'static str,
    connection: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVerification {
    protocol: &'static str,
    connection: String,
    verified_by: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByRefusal {
    protocol: &'static str,
    refusal: &'static str,
    party: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByStage {
    protocol: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByOutcome {
    protocol: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    protocol: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByUse {
    protocol: &'static str,
    what: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByDirection {
    protocol: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByCall {
    store: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByStore {
    store: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByStoreEvent {
    store: String,
    event: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    links: Family<ByProtocol, Counter>,
    probes: Family<ByProtocol, Counter>,
    opened: Family<ByVerification, Counter>,
    live: Family<ByConnection, Gauge>,
    closed: Family<ByOutcome, Counter>,
    warnings: Family<ByReason, Counter>,
    refusals: Family<ByRefusal, Counter>,
    stages: Histograms<ByStage>,
    bytes: Family<ByDirection, Counter>,
    cancels: Family<ByOutcome, Counter>,
    uses: Family<ByUse, Counter>,
    store_calls: Family<ByCall, Counter>,
    store_time: Histograms<ByStore>,
    token_left: Family<ByStore, Gauge<f64, AtomicU64>>,
    cache: Family<ByStoreEvent, Counter>,
    away: Family<ByStore, Gauge>,
    /// How many of a name are away: the one of the file, and after a reload the former one while it has leases to give back.
    away_now: Mutex<BTreeMap<String, i32>>,
    leases: Family<ByStoreEvent, Counter>,
    security: Family<ByStoreEvent, Counter>,
    unverified: Family<ByStore, Gauge>,
    leases_live: Gauge,
    leases_waiting: Gauge,
    audit_failures: Counter,
    reload_ok: Gauge,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("keyward"),
            links: Family::default(),
            probes: Family::default(),
            opened: Family::default(),
            live: Family::default(),
            closed: Family::default(),
            warnings: Family::default(),
            refusals: Family::default(),
            stages: Family::new_with_constructor(histogram),
            bytes: Family::default(),
            cancels: Family::default(),
            uses: Family::default(),
            store_calls: Family::default(),
            store_time: Family::new_with_constructor(histogram),
            token_left: Family::default(),
            cache: Family::default(),
            away: Family::default(),
            away_now: Mutex::default(),
            leases: Family::default(),
            security: Family::default(),
            unverified: Family::default(),
            leases_live: Gauge::default(),
            leases_waiting: Gauge::default(),
            audit_failures: Counter::default(),
            reload_ok: Gauge::default(),
        };
        metrics.reload_ok.set(1);
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("links", "Links accepted", self.links.clone());
        registry.register("probes", "Links that closed before their first byte", self.probes.clone());
        registry.register(
            "sessions_opened",
            "Sessions opened, by what their upstream was verified by (`insecure`: by nothing)",
            self.opened.clone(),
        );
        registry.register("sessions", "Live sessions", self.live.clone());
        registry.register("sessions_closed", "Sessions closed, by what ended them", self.closed.clone());
        registry.register(
            "session_warnings",
            "Warnings of ends of sessions, by what will end them; MySQL clients cannot be told",
            self.warnings.clone(),
        );
        registry.register("refusals", "Logins refused and sessions broken, by reason, fault and stage", self.refusals.clone());
        registry.register_with_unit("stage", "Time spent in each stage of a login", Unit::Seconds, self.stages.clone());
        registry.register_with_unit("relayed", "Bytes relayed", Unit::Bytes, self.bytes.clone());
        registry.register("cancels", "Cancel requests, by whether a session was found", self.cancels.clone());
        registry.register("uses", "What sessions were used for, or were refused: channels of SSH", self.uses.clone());
        registry.register("store_calls", "Requests to stores", self.store_calls.clone());
        registry.register_with_unit("store_call", "Time of requests to stores", Unit::Seconds, self.store_time.clone());
        registry.register_with_unit(
            "store_token_left",
            "Life left in the store's token; absent: for ever",
            Unit::Seconds,
            self.token_left.clone(),
        );
        registry.register(
            "store_cache",
            "Reads of secrets, by whether the cache had them (`stale`: past their time, while the store could not be asked)",
            self.cache.clone(),
        );
        registry.register(
            "store_away",
            "Whether a store counts as away: its calls fail at once, but for one every few seconds",
            self.away.clone(),
        );
        registry.register("leases", "What happened to leases", self.leases.clone());
        let security = "Signs that somebody else had what only Keyward should have";
        registry.register("store_security_events", security, self.security.clone());
        registry.register("store_unverified", "1: nothing verifies the store's server; absent: something does", self.unverified.clone());
        registry.register("leases_live", "Leases that sessions hold", self.leases_live.clone());
        registry.register("leases_waiting", "Leases that wait to be given back", self.leases_waiting.clone());
        registry.register("audit_failures", "Audit records that could not be written", self.audit_failures.clone());
        registry.register("reload_ok", "1: the file was taken when it was read last; 0: that reload was refused", self.reload_ok.clone());
    }

    /// The text that Prometheus reads (OpenMetrics).
    #[must_use]
    pub fn render(&self, leases: keyward_auth::LeaseStats) -> String {
        self.leases_live.set(i64::try_from(leases.live).unwrap_or(i64::MAX));
        self.leases_waiting.set(i64::try_from(leases.waiting).unwrap_or(i64::MAX));
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// A link was accepted.
    pub fn link(&self, protocol: &'static str) {
        self.links.get_or_create(&ByProtocol { protocol }).inc();
    }

    /// A link closed before its first byte: a health probe.
    pub fn probe(&self, protocol: &'static str) {
        self.probes.get_or_create(&ByProtocol { protocol }).inc();
    }

    /// A session opened.
    pub fn session_opened(&self, protocol: &'static str, connection: &str, verified_by: &'static str) {
        let connection = connection.to_owned();
        self.opened.get_or_create(&ByVerification { protocol, connection: connection.clone(), verified_by }).inc();
        self.live.get_or_create(&ByConnection { protocol, connection }).inc();
    }

    /// A session closed.
    pub fn session_closed(&self, protocol: &'static str, connection: &str, outcome: &'static str) {
        self.live.get_or_create(&ByConnection { protocol, connection: connection.to_owned() }).dec();
        self.closed.get_or_create(&ByOutcome { protocol, outcome }).inc();
    }

    /// A session was warned of its end.
    pub fn warned(&self, protocol: &'static str, reason: &'static str) {
        self.warnings.get_or_create(&ByReason { protocol, reason }).inc();
    }

    /// Where the bytes of a session count while they move: from the client, and to it.
    #[must_use]
    pub fn bytes(&self, protocol: &'static str) -> (Counter, Counter) {
        let counter = |direction| self.bytes.get_or_create(&ByDirection { protocol, direction }).clone();
        (counter("up"), counter("down"))
    }

    /// A login was refused.
    pub fn refusal(&self, protocol: &'static str, error: &SessionError) {
        let labels = ByRefusal { protocol, refusal: error.refusal.word(), party: error.party.word(), stage: error.stage.word() };
        self.refusals.get_or_create(&labels).inc();
    }

    /// The stages of a login took this long.
    pub fn stages(&self, protocol: &'static str, taken: Vec<(Stage, Duration)>) {
        taken.into_iter().for_each(|(stage, took)| self.stage(protocol, stage, took));
    }

    fn stage(&self, protocol: &'static str, stage: Stage, took: Duration) {
        self.stages.get_or_create(&ByStage { protocol, stage: stage.word() }).observe(took.as_secs_f64());
    }

    /// A cancel request came.
    pub fn cancel(&self, protocol: &'static str, hit: bool) {
        let outcome = if hit { "hit" } else { "miss" };
        self.cancels.get_or_create(&ByOutcome { protocol, outcome }).inc();
    }

    /// A session was used for something, or was refused it; both are fixed words.
    pub fn used(&self, protocol: &'static str, what: &'static str, outcome: &'static str) {
        self.uses.get_or_create(&ByUse { protocol, what, outcome }).inc();
    }

    /// A reload was taken, or refused.
    pub fn reloaded(&self, ok: bool) {
        self.reload_ok.set(i64::from(ok));
    }

    /// An audit record could not be written.
    pub fn audit_failure(&self) {
        self.audit_failures.inc();
    }
}

impl keyward_auth::Observer for Metrics {
    fn store_call(&self, store: &str, operation: &'static str, outcome: &'static str, took: Duration) {
        self.store_calls.get_or_create(&ByCall { store: store.to_owned(), operation, outcome }).inc();
        self.store_time.get_or_create(&ByStore { store: store.to_owned() }).observe(took.as_secs_f64());
    }

    fn token_life(&self, store: &str, left: Option<Duration>) {
        let labels = ByStore { store: store.to_owned() };
        match left {
            Some(left) => drop(self.token_left.get_or_create(&labels).set(left.as_secs_f64())),
            None => drop(self.token_left.remove(&labels)),
        }
    }

    fn cache(&self, store: &str, outcome: &'static str) {
        self.cache.get_or_create(&ByStoreEvent { store: store.to_owned(), event: outcome }).inc();
    }

    fn store_away(&self, store: &str, away: bool) {
        let mut all = self.away_now.lock().unwrap_or_else(PoisonError::into_inner);
        let now = all.remove(store).unwrap_or_default();
        // Of two calls the later one may say so first: then it is below zero for a moment.
        let now = if away { now.saturating_add(1) } else { now.saturating_sub(1) };
        if now != 0 {
            all.insert(store.to_owned(), now);
        }
        self.away.get_or_create(&ByStore { store: store.to_owned() }).set(i64::from(now > 0));
    }

    fn lease(&self, store: &str, event: &'static str) {
        self.leases.get_or_create(&ByStoreEvent { store: store.to_owned(), event }).inc();
    }

    fn store_opened(&self, store: &str, unverified: bool) {
        let labels = ByStore { store: store.to_owned() };
        if unverified {
            self.unverified.get_or_create(&labels).set(1);
        } else {
            self.unverified.remove(&labels);
        }
    }

    fn security(&self, store: &str, event: &'static str) {
        self.security.get_or_create(&ByStoreEvent { store: store.to_owned(), event }).inc();
    }
}

#[cfg(test)]
mod tests {
    use keyward_auth::Observer;

    use super::*;

    #[test]
    fn a_store_is_away_while_any_of_its_name_is() {
        let metrics = Metrics::default();
        // The last two come in the wrong order.
        for (away, shown) in [(true, 1), (true, 1), (false, 1), (false, 0), (true, 1), (false, 0), (false, 0), (true, 0), (true, 1)] {
            metrics.store_away("corp", away);
            let text = metrics.render(keyward_auth::LeaseStats::default());
            assert!(text.contains(&format!("keyward_store_away{{store=\"corp\"}} {shown}\n")), "{text}");
        }
    }
}
