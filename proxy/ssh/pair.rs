//! Two transports for tests that know each other: a client's and a server's, behind the login.

use std::sync::Arc;
use std::time::Instant;

use keyward_ssh_transport::key::PublicKey;
use keyward_ssh_transport::sign::{Signer, generate_ed25519};
use keyward_ssh_transport::{ClientConfig, Conn, Event, Limits, Method, Role, ServerConfig, SystemRandom};

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
