//! Which of a store's servers is asked, and where one of them may send us (vault.md §11.2).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use reqwest::Url;
use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use serde_json::Value;

use super::super::answer::{Failure, Refused};
use super::super::settings::Settings;
use super::super::tls;
use crate::store::{StoreError, StoreErrorKind};

/// TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(4);
/// Shorter than what load balancers and the server itself keep a connection for: one that they close just when we use it may have got
/// our request or not.
const IDLE: Duration = Duration::from_secs(30);
/// A peer that vanished is noticed by the kernel, which answers for a frozen server: no request is cut off that may yet go on.
const KEEPALIVE: Duration = Duration::from_secs(15);
const PROBED_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// The servers of one store: at least one.
pub(super) struct Route {
    first: Node,
    others: Vec<Node>,
    current: AtomicUsize,
}

/// One server, or whatever a name leads to.
pub(super) struct Node {
    /// The address as the file says it.
    origin: String,
    host: String,
    base: Url,
    connections: Connections,
}

/// Connections to a node. Each new one resolves the name anew.
struct Connections {
    tls: ArcSwap<ClientConfig>,
    /// Resolve every name to this host: the name in the URL is one to ask for and to verify.
    leads_to: Option<String>,
    open: ArcSwap<reqwest::Client>,
}

impl Route {
    /// # Errors
    /// What of the settings cannot be used, without a secret.
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let mut nodes = settings.addresses()?.iter().map(|address| Node::new(address, settings)).collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err("address: write https://host:8200".to_owned());
        }
        let first = nodes.remove(0);
        Ok(Self { first, others: nodes, current: AtomicUsize::new(0) })
    }

    /// The addresses of the file.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.first).chain(&self.others).map(|node| node.origin.as_str())
    }

    pub(super) fn len(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    /// The node that answered last, with its number.
    pub(super) fn current(&self) -> (usize, &Node) {
        let number = self.current.load(Ordering::Relaxed);
        match number.checked_sub(1).and_then(|index| self.others.get(index)) {
            Some(node) => (number, node),
            None => (0, &self.first),
        }
    }

    /// The next one from now on, unless somebody else has moved on already. `false`: there is no other.
    pub(super) fn leave(&self, number: usize) -> bool {
        let next = number.checked_add(1).filter(|next| *next < self.len()).unwrap_or(0);
        let _ = self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
        self.len() > 1
    }

    /// Shows this certificate to every node from now on.
    pub(super) fn show(&self, certificate: &Arc<dyn ResolvesClientCert>) {
        std::iter::once(&self.first).chain(&self.others).for_each(|node| node.show(certificate));
    }

    /// Where a standby sends us, with the node whose connections lead there. A token is shown to no other server than those of the file:
    /// another address of the store, the same host, or from loopback to loopback; never by another scheme.
    ///
    /// # Errors
    /// It is none of these: nothing ran, as far as the standby says, and while there is a leader that it reaches it mostly hands calls on by
    /// itself. Or it is no address at all, which the server answers to a path that is not in its canonical form.
    pub(super) fn redirect<'a>(&'a self, from: &'a Node, location: &str) -> Result<(&'a Node, Url), Failure> {
        let Ok(target) = Url::parse(location) else {
            let what = "the server knows the path in another form; Keyward should have sent it in that one";
            return Err(Failure::Store(StoreError::new(StoreErrorKind::Malformed, what)));
        };
        let known = |node: &&Node| node.is_at(&target);
        let node =
            std::iter::once(&self.first).chain(&self.others).find(known).or_else(|| Some(from).filter(|from| from.may_lead_to(&target)));
        let url = node.and_then(|node| Some((node, node.rewritten(target.clone())?)));
        url.ok_or_else(|| {
            let origin = target.origin().ascii_serialization();
            let why = format!("a standby sent us to {origin}, which is no address of the store; add it, if it is one");
            Failure::Refused(Refused { status: 307, errors: vec![why], body: Value::Null, retry_after: None, location: Some(origin) })
        })
    }
}

impl Node {
    fn new(address: &str, settings: &Settings) -> Result<Self, String> {
        let mut base = Url::parse(address.trim()).map_err(|error| format!("address: {error}; write https://host:8200"))?;
        let host = base.host_str().ok_or("address: there is no host in it; write https://host:8200")?.to_owned();
        match base.scheme() {
            "https" => {}
            "http" if is_loopback(&host) || settings.insecure.is_some() => {}
            "http" => return Err("address: plain http would show every secret; write https://, or say why not in `insecure`".to_owned()),
            _ => return Err("address: write https://host:8200".to_owned()),
        }
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() || base.fragment().is_some() {
            return Err("address: only a scheme, a host, a port and a path".to_owned());
        }
        let origin = base.as_str().trim_end_matches('/').to_owned();
        let mut leads_to = None;
        if let Some(server_name) = &settings.tls_server_name {
            let port = base.port_or_known_default();
            base.set_host(Some(server_name)).map_err(|error| format!("tls_server_name: {error}"))?;
            base.set_port(port).map_err(|()| "address: no port can be set")?;
            leads_to = Some(host.clone());
        }
        let tls = tls::config(settings)?;
        let open = ArcSwap::from_pointee(connect(&tls, leads_to.as_deref())?);
        Ok(Self { origin, host, base, connections: Connections { tls: ArcSwap::from_pointee(tls), leads_to, open } })
    }

    /// The URL of a path below `/v1/`, which is encoded already.
    pub(super) fn url(&self, path: &str, query: Option<&(&'static str, String)>) -> Result<Url, Failure> {
        let mut url = format!("{}/v1/{path}", self.base.as_str().trim_end_matches('/'));
        if let Some((key, value)) = query {
            url.push_str(&format!("?{key}={value}"));
        }
        Url::parse(&url).map_err(|error| Failure::Store(StoreError::new(StoreErrorKind::Malformed, error.to_string())))
    }

    pub(super) fn connections(&self) -> Arc<reqwest::Client> {
        self.connections.open.load_full()
    }

    /// From now on, new connections: those that are open lead to a server that is of no use, and the name may lead to others by now.
    /// Requests under way keep theirs.
    pub(super) fn reconnect(&self) {
        let Connections { tls, leads_to, open } = &self.connections;
        if let Ok(new) = connect(&tls.load(), leads_to.as_deref()) {
            open.store(Arc::new(new));
        }
    }

    /// From now on this certificate is shown, on new connections: none goes on that began with another one.
    fn show(&self, certificate: &Arc<dyn ResolvesClientCert>) {
        let mut tls = ClientConfig::clone(&self.connections.tls.load());
        tls.client_auth_cert_resolver = Arc::clone(certificate);
        tls.resumption = Resumption::default();
        self.connections.tls.store(Arc::new(tls));
        self.reconnect();
    }

    fn is_at(&self, target: &Url) -> bool {
        target.scheme() == self.base.scheme()
            && target.port_or_known_default() == self.base.port_or_known_default()
            && target.host_str().is_some_and(|there| self.is_named(there))
    }

    fn may_lead_to(&self, target: &Url) -> bool {
        let there = target.host_str().unwrap_or_default();
        target.scheme() == self.base.scheme() && (self.is_named(there) || (is_loopback(&self.host) && is_loopback(there)))
    }

    fn is_named(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(host) || self.base.host_str().is_some_and(|name| name.eq_ignore_ascii_case(host))
    }

    /// The same place, by the name that is asked for and verified.
    fn rewritten(&self, mut target: Url) -> Option<Url> {
        if self.connections.leads_to.is_some() {
            let port = target.port_or_known_default();
            target.set_host(self.base.host_str()).ok()?;
            target.set_port(port).ok()?;
        }
        Some(target)
    }
}

fn connect(tls: &ClientConfig, leads_to: Option<&str>) -> Result<reqwest::Client, String> {
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(PROBED_EVERY)
        .tcp_keepalive_retries(PROBES)
        .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")));
    let http = match leads_to {
        Some(host) => http.dns_resolver(Arc::new(LeadsTo(host.to_owned()))),
        None => http,
    };
    http.build().map_err(|error| error.to_string())
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    literal.eq_ignore_ascii_case("localhost") || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Resolves every name to the addresses of one host.
struct LeadsTo(String);

impl reqwest::dns::Resolve for LeadsTo {
    fn resolve(&self, _name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let host = self.0.trim_start_matches('[').trim_end_matches(']').to_owned();
        let found: BoxFuture<'static, _> = Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(addresses: &[&str], tls_server_name: Option<&str>) -> Route {
        let settings = json!({ "address": addresses, "tls_server_name": tls_server_name, "insecure": "a test", "auth": { "method": "approle", "role_id": "r" } });
        Route::new(&serde_json::from_value(settings).unwrap()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn led(route: &Route, location: &str) -> Option<String> {
        route.redirect(route.current().1, location).ok().map(|(_, url)| url.to_string())
    }

    #[test]
    fn the_node_that_answered_last_is_kept_until_it_is_left() {
        let route = route(&["https://a:8200", "https://b:8200", "https://c:8200"], None);
        let current = || route.current().1.host.clone();
        assert_eq!(current(), "a");
        assert_eq!(route.origins().collect::<Vec<_>>(), ["https://a:8200", "https://b:8200", "https://c:8200"]);
        assert!(route.leave(0));
        assert!(route.leave(0), "another call had the same trouble");
        assert_eq!(current(), "b");
        assert!(route.leave(1) && route.leave(2));
        assert_eq!(current(), "a");
    }

    #[test]
    fn a_store_of_one_address_has_no_other() {
        let route = route(&["https://a:8200"], None);
        assert!(!route.leave(0));
        assert_eq!(route.current().1.host, "a");
    }

    #[test]
    fn a_standby_leads_to_other_addresses_of_the_file_and_to_other_ports_of_its_host() {
        let nodes = route(&["https://a.internal:8200", "https://10.0.0.2"], None);
        for location in ["https://10.0.0.2/v1/x", "https://10.0.0.2:443/v1/x", "https://A.internal:9200/v1/x?y=1"] {
            assert!(led(&nodes, location).is_some(), "{location}");
        }
        for location in
            ["http://a.internal:8200/v1/x", "https://b.internal:8200/v1/x", "https://10.0.0.2:8300/v1/x", "https://127.0.0.1/v1/x"]
        {
            let failure = nodes.redirect(nodes.current().1, location).err();
            assert!(matches!(failure, Some(Failure::Refused(refused)) if refused.says("no address of the store")), "{location}");
        }
        let local = route(&["http://localhost:8200"], None);
        assert!(led(&local, "http://127.0.0.1:8202/v1/x").is_some());
        let relative = local.redirect(local.current().1, "/v1/a/b").err();
        assert!(matches!(relative, Some(Failure::Store(error)) if error.kind == StoreErrorKind::Malformed));
    }

    #[test]
    fn the_name_that_is_verified_stays_the_one_of_the_file() {
        let nodes = route(&["https://10.0.0.1:8200", "https://10.0.0.2:8200"], Some("vault.internal"));
        let (node, url) = nodes.redirect(nodes.current().1, "https://10.0.0.2:8200/v1/x").ok().unwrap();
        assert_eq!((node.host.as_str(), url.as_str()), ("10.0.0.2", "https://vault.internal:8200/v1/x"));
        assert_eq!(led(&nodes, "https://10.0.0.1:8300/v1/x").unwrap(), "https://vault.internal:8300/v1/x");
    }
}
