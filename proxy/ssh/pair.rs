//! Two transports for tests that know each other: a client's and a server's, behind the login. And the relay between two such pairs.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream;
use keyward_auth::SessionId;
use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::policy::{Channels, Policy};
use keyward_ssh_transport::sign::{Signer, generate_ed25519};
use keyward_ssh_transport::{ClientConfig, Conn, Event, Limits, Method, Role, ServerConfig, SystemRandom};

use super::pace::Pace;
use super::relay::{Left, Leg, Relay, Words};
use super::wire::Wire;
use crate::registry::Traffic;
use crate::relay::Outcome;
use crate::stream::Stream;

/// Both, each with its limits.
pub(super) fn pair(of_client: Limits, of_server: Limits, now: Instant) -> (Conn, Conn) {
    let host_key = generate_ed25519().unwrap();
    let known = host_key.public().clone();
    let methods = vec![Method::Curve25519];
    let conn = |role| Conn::new(role, Box::new(SystemRandom), now);
    let of_server = ServerConfig { limits: of_server, ..ServerConfig::new(vec![Arc::new(host_key)]) };
    let mut server = conn(Role::Server(Arc::new(of_server)));
    let of_client = ClientConfig { limits: of_client, methods, ..ClientConfig::new(vec!["ssh-ed25519"]) };
    let mut client = conn(Role::Client(Arc::new(of_client)));
    for _ in 0..4 {
        carry(&mut server, &mut client, &known);
        carry(&mut client, &mut server, &known);
    }
    server.authenticated();
    client.authenticated();
    (client, server)
}

/// Relays between a user and an upstream what a rule allows, until it is over. Nobody ends or warns it.
pub(super) async fn relayed(user: (&mut Wire, &mut Stream), upstream: (&mut Wire, &mut Stream), allowed: Channels) -> Outcome {
    let traffic = Traffic::new(<_>::default());
    let relay = Relay {
        client: Leg { wire: user.0, stream: user.1, pace: Pace::default() },
        upstream: Leg { wire: upstream.0, stream: upstream.1, pace: Pace::default() },
        policy: Policy::new(Box::new(move || allowed)),
        traffic: &traffic,
        record: &mut |_| true,
        id: SessionId::random(),
        words: Words::default(),
        left: Left::default(),
    };
    relay.run(std::future::pending(), stream::pending()).await
}

fn carry(from: &mut Conn, to: &mut Conn, known: &PublicKey) {
    let output = from.output().to_vec();
    from.wrote(output.len());
    let mut taken = 0;
    loop {
        taken += to.receive(&output[taken..]);
        match to.next().unwrap() {
            Some(Event::HostKey { .. }) => to.accept_host_key(known).unwrap(),
            None if taken == output.len() => return,
            _ => {}
        }
    }
}
