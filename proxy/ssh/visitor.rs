//! Who comes in through a jump, and to what: the beginning of a link inside another one.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use keyward_auth::SessionId;
use keyward_ssh_transport::ServerConfig;
use keyward_ssh_transport::connection::served::Target;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;

use super::login::Who;
use super::settings::{AccessSettings, JumpLogin, ListenerSettings};
use super::{NAME, PREFACE, host_of, serve_inside};
use crate::error::{Party, SessionError, Stage};
use crate::link::{Claimed, Link};
use crate::refusal::Refusal;
use crate::server;
use crate::stream::Stream;

/// Bytes between a channel and the link inside it, each way.
const PIPE: usize = 256 * 1024;

/// Who comes in through a jump, and to what.
pub(super) struct Visitor {
    /// Who the outer link's user proved to be.
    pub(super) who: Arc<Who>,
    /// The name to authorise by.
    pub(super) target: String,
    /// What the inner link is served with.
    pub(super) config: Arc<ServerConfig>,
    /// The name on our certificate, and its number.
    certified: (String, u64),
    /// The outer link.
    outer: SessionId,
    origin: Origin,
    /// Dropped with the rest when the inner link has ended, which tells the outer one.
    _over: oneshot::Sender<Infallible>,
}

/// What the outer link has of an inner one.
pub(super) struct Begun {
    /// Its bytes.
    pub(super) pipe: DuplexStream,
    /// Closed once it has ended, whatever of its bytes is still unread.
    pub(super) over: oneshot::Receiver<Infallible>,
}

/// Where an inner link begins, as its client says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// In the client's own process, as with `-J` and `-W`.
    Client,
    /// Elsewhere: a port of the client's that others may connect to, as with `-L` and `-D`.
    Elsewhere,
}

impl Visitor {
    /// Whether an inner link may do without a proof at all, if no rule wants one.
    pub(super) fn may_pass(&self) -> bool {
        self.origin == Origin::Client
    }

    /// The account that a login inside names. The user's own name, which ssh sends where he says none, is none unless there is such an account.
    pub(super) fn account<'a>(&self, link: &Link, login: &'a str) -> Option<&'a str> {
        let named = link.proxy.gate.authorise(&self.who.identity, NAME, &self.target, Some(login), link.id);
        (named.is_ok() || login != self.who.identity.user().as_str()).then_some(login)
    }

    /// What the rules want of this login.
    pub(super) fn wanted(&self, link: &Link, login: &str) -> JumpLogin {
        let gate = &link.proxy.gate;
        let Ok(grant) = gate.authorise(&self.who.identity, NAME, &self.target, self.account(link, login), link.id) else {
            // He is told so once he is in.
            return JumpLogin::None;
        };
        let wants_key =
            |rule: &keyward_config::Settings| rule.downcast_ref::<AccessSettings>().is_some_and(|rule| rule.jump_login == JumpLogin::Key);
        if gate.rules(&grant).iter().any(wants_key) { JumpLogin::Key } else { JumpLogin::None }
    }

    /// What the record says of it.
    pub(super) fn noted(&self) -> Vec<(&'static str, String)> {
        let (name, serial) = &self.certified;
        vec![("jump", self.outer.to_string()), ("host_certificate", format!("{name} {serial}"))]
    }
}

/// Begins a link inside, if the user may reach that: unknown and forbidden are the same, and nothing is signed for either.
pub(super) fn visit(outer: &Link, who: &Arc<Who>, target: &Target<'_>) -> Result<Begun, &'static str> {
    let (host, port) = (target.host, target.port);
    let (gate, identity) = (&outer.proxy.gate, &who.identity);
    let Some(name) = gate.target(identity, NAME, host, port, PREFACE.default_port) else {
        let claimed = Claimed { user: Some(identity.user().to_string()), connection: Some(format!("{host}:{port}")) };
        let error = SessionError::new(Refusal::NotPermitted, Party::Client, Stage::Authorise, "a jump to no connection of this user's");
        server::refused(outer, &claimed, &error);
        return Err("no such connection, or it is not open to you");
    };
    let limits = ListenerSettings::of(&outer.door).map(ListenerSettings::limits).unwrap_or_default();
    let acting = match host_of(&outer.proxy).and_then(|keys| keys.acting_as(host, limits)) {
        Ok(acting) => acting,
        Err(text) => {
            tracing::error!(error = text, "no certificate for a jump");
            return Err("internal error");
        }
    };
    // What `-J` and `-W` say, and a listening port of the client's own that only it can reach.
    let local = target.originator.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    let (ends, over) = oneshot::channel();
    let visitor = Arc::new(Visitor {
        who: Arc::clone(who),
        target: name,
        config: acting.config,
        certified: (host.to_owned(), acting.serial),
        outer: outer.id,
        origin: if local { Origin::Client } else { Origin::Elsewhere },
        _over: ends,
    });
    let (pipe, theirs) = tokio::io::duplex(PIPE);
    if server::inside(outer, Stream::Inner(theirs), serve_inside(visitor)) {
        Ok(Begun { pipe, over })
    } else {
        Err("too many connections; try again later")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use keyward_auth::{Gate, Observer, Secret, Source, Verifier};
    use keyward_config::{Config, Kinds, OnFailure, Problems};
    use keyward_ssh_transport::key::PublicKey;
    use keyward_ssh_transport::sign::{CannotSign, NewKey, Signer, generate_ed25519};

    use super::super::State;
    use super::super::host::Host;
    use super::*;
    use crate::audit::Audit;
    use crate::link::Doorway;
    use crate::metrics::Metrics;
    use crate::server::Proxy;

    /// The authority of the certificates for jumps, and how often it has signed.
    struct Authority {
        key: NewKey,
        signed: AtomicUsize,
    }

    impl Signer for Authority {
        fn public(&self) -> &PublicKey {
            self.key.public()
        }

        fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign> {
            self.signed.fetch_add(1, Ordering::Relaxed);
            self.key.sign(algorithm, data)
        }
    }

    /// A jump of alice's, who may reach `web-1` and not `payroll`.
    struct Jump {
        outer: Link,
        who: Arc<Who>,
        authority: Arc<Authority>,
        _state: tempfile::TempDir,
    }

    impl Jump {
        async fn new(password: &str) -> Self {
            let state = tempfile::tempdir().unwrap();
            let metrics = Arc::new(Metrics::default());
            let audit = Audit::open(&state.path().join("audit"), OnFailure::Refuse, Arc::clone(&metrics)).unwrap();
            let (config, mut problems) = file(password);
            let gate = Gate::for_operator(&config, Arc::clone(&metrics) as Arc<dyn Observer>, &mut problems).unwrap();
            let source = Source::tcp(Ipv4Addr::LOCALHOST.into());
            let identity = gate.password("alice", Secret::from(password.to_owned()), source).await.unwrap();
            let proxy = Proxy::new(gate, audit, metrics, config.limits);
            let authority = Arc::new(Authority { key: generate_ed25519().unwrap(), signed: AtomicUsize::new(0) });
            let host = Host::of(Arc::new(generate_ed25519().unwrap()), Arc::clone(&authority) as Arc<dyn Signer>);
            assert!(proxy.kept::<State>(NAME).unwrap().0.set(host).is_ok());
            let settings = Arc::new(ListenerSettings::default());
            let door = Doorway { protocol: NAME, connection: None, identity: None, settings };
            let mut outer = Link::new(&proxy, &Arc::new(door));
            outer.source = source;
            Self { outer, who: Arc::new(Who::by_password(identity)), authority, _state: state }
        }

        fn to(&self, host: &str) -> Result<Begun, &'static str> {
            visit(&self.outer, &self.who, &Target { host, port: 22, originator: "127.0.0.1", originator_port: 4711 })
        }

        fn signed(&self) -> usize {
            self.authority.signed.load(Ordering::Relaxed)
        }
    }

    fn file(password: &str) -> (Config, Problems) {
        let verifier = Verifier::make_scram(&Secret::from(password.to_owned())).unwrap();
        let server = "protocol: ssh, address: \"127.0.0.1:9\", username: { literal: app }, password: { literal: hidden }";
        let text = format!(
            "state: /nowhere\nlisteners: [{{ protocol: ssh, address: \"127.0.0.1:22\" }}]\nusers:\n  alice: {{ password: \"{verifier}\" }}\n\
             connections:\n  web-1: {{ {server} }}\n  payroll: {{ {server} }}\naccess: [{{ allow: [alice], connections: [web-1] }}]\n"
        );
        let (protocols, stores) = crate::reload::rows();
        let loaded = keyward_config::parse(Path::new("keyward.yaml"), &text, &Kinds { protocols: &protocols, stores: &stores });
        assert!(!loaded.problems.has_errors(), "{}", loaded.problems);
        (loaded.config.unwrap(), Problems::new(Path::new("keyward.yaml")))
    }

    #[tokio::test]
    async fn a_certificate_is_signed_for_what_the_user_may_reach_now_and_for_nothing_else() {
        let jump = Jump::new("correct horse").await;
        let refused = Some("no such connection, or it is not open to you");
        for host in ["web-9", "payroll", "127.0.0.1", "192.0.2.1"] {
            assert_eq!(jump.to(host).err(), refused, "{host}");
        }
        assert_eq!(jump.signed(), 0);
        assert!(jump.to("web-1").is_ok());
        assert_eq!(jump.signed(), 1);

        let (config, mut problems) = file("another");
        jump.outer.proxy.gate.replace(&config, &mut problems).unwrap();
        assert_eq!(jump.to("web-1").err(), refused, "the password that proved him is his no more");
        assert_eq!(jump.signed(), 1);
    }
}
