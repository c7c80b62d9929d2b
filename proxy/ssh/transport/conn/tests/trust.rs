//! The server must be who it should be. Rules 9 and 25 (as far as it is the transport's).

use super::*;
use crate::key::PublicKey;

/// A server that shows what it is told to and signs what it is told to.
struct Liar {
    shown: Arc<dyn Signer>,
    signs: Arc<dyn Signer>,
    flip: bool,
}

impl Signer for Liar {
    fn algorithms(&self) -> &'static [&'static str] {
        self.shown.algorithms()
    }

    fn public(&self) -> &PublicKey {
        self.shown.public()
    }

    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, crate::sign::CannotSign> {
        let mut signature = self.signs.sign(algorithm, data)?;
        if self.flip {
            *signature.last_mut().unwrap() ^= 1;
        }
        Ok(signature)
    }
}

fn another() -> Arc<dyn Signer> {
    Arc::new(generate_ed25519().unwrap())
}

fn against(liar: Liar) -> Result<[Vec<Seen>; 2], Fatal> {
    let (mut client, mut server) = (client(client_config()), server(ServerConfig { host_keys: vec![Arc::new(liar)], ..server_config() }));
    settle(&mut client, &mut server)
}

const UNPROVEN: Fatal = Fatal::HostKey("the server did not prove that it has its host key");

#[test]
fn a_server_must_have_the_key_that_it_shows() {
    let good = Liar { shown: host_key(), signs: host_key(), flip: false };
    assert!(against(good).is_ok());
    assert_eq!(against(Liar { shown: host_key(), signs: another(), flip: false }).err(), Some(UNPROVEN));
    assert_eq!(against(Liar { shown: host_key(), signs: host_key(), flip: true }).err(), Some(UNPROVEN));
}

/// Another key than the one that the caller knows, and it is the server's own: what counts is what the caller said.
#[test]
fn a_key_that_the_caller_does_not_know_proves_nothing() {
    let other = another();
    assert_eq!(against(Liar { shown: Arc::clone(&other), signs: other, flip: false }).err(), Some(UNPROVEN));
}

/// Nothing of ours goes out, and nothing of the server's is believed, before the caller has decided.
#[test]
fn nothing_goes_out_before_the_host_key_is_accepted() {
    let (mut client, mut server) = (client(client_config()), server(server_config()));
    client.send(&[5, 1]).unwrap();
    for _ in 0..3 {
        let output = drain(&mut client);
        server.receive(&output);
        events(&mut server).unwrap();
        client.receive(&drain(&mut server));
        let seen = events(&mut client).unwrap();
        if seen == [Seen::HostKey] {
            break;
        }
    }
    assert!(client.output().is_empty() && client.held.bytes() > 0);
    assert_eq!(client.session_id(), None);
    assert_eq!(client.accept_host_key(another().public()), Err(UNPROVEN));
    assert_eq!(client.accept_host_key(host_key().public()), Err(UNPROVEN), "once is enough");
    let output = drain(&mut client);
    assert_eq!(feed(&mut server, &output), Ok(vec![Seen::Disconnect(9, "the host key could not be verified".to_owned())]));
}

#[test]
fn nobody_can_accept_what_was_not_shown() {
    let mut client = client(client_config());
    assert!(client.accept_host_key(host_key().public()).is_err());
    let (mut client, _server) = logged_in();
    assert!(client.accept_host_key(host_key().public()).is_err());
}

/// RFC 8332 section 3: the blob's type is the algorithm's.
#[test]
fn a_host_key_of_another_type_is_refused() {
    struct Odd(Arc<dyn Signer>);
    impl Signer for Odd {
        fn algorithms(&self) -> &'static [&'static str] {
            &["ecdsa-sha2-nistp256"]
        }
        fn public(&self) -> &PublicKey {
            self.0.public()
        }
        fn sign(&self, _: &str, data: &[u8]) -> Result<Vec<u8>, crate::sign::CannotSign> {
            self.0.sign("ssh-ed25519", data)
        }
    }
    let mut server = server(ServerConfig { host_keys: vec![Arc::new(Odd(host_key()))], ..server_config() });
    let mut client = client(ClientConfig { host_key_algorithms: vec!["ecdsa-sha2-nistp256"], ..client_config() });
    let settled = settle(&mut client, &mut server);
    assert_eq!(settled.err(), Some(Fatal::HostKey("the host key is not of the type that was agreed on")));
}

/// The name inside the signature must be the algorithm that was agreed on.
#[test]
fn a_signature_by_another_algorithm_is_refused() {
    struct Renamed(Arc<dyn Signer>);
    impl Signer for Renamed {
        fn algorithms(&self) -> &'static [&'static str] {
            self.0.algorithms()
        }
        fn public(&self) -> &PublicKey {
            self.0.public()
        }
        fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, crate::sign::CannotSign> {
            let signature = self.0.sign(algorithm, data)?;
            let mut reader = crate::wire::Reader::new(&signature);
            let _name = reader.string();
            let mut renamed = Vec::new();
            renamed.put_string("ssh-ed448").put_bytes(reader.rest());
            Ok(renamed)
        }
    }
    let mut server = server(ServerConfig { host_keys: vec![Arc::new(Renamed(host_key()))], ..server_config() });
    let mut client = client(client_config());
    assert_eq!(settle(&mut client, &mut server).err(), Some(UNPROVEN));
}

/// A server that has another key at a rekey is another server.
#[test]
fn the_host_key_stays_the_same() {
    let (mut client, mut server) = logged_in();
    let other = ServerConfig { host_keys: vec![another()], ..server_config() };
    server.role = Role::Server(Arc::new(other));
    client.rekey();
    let settled = settle(&mut client, &mut server);
    assert_eq!(settled.err(), Some(Fatal::HostKey("the host key changed during the connection")));
}

#[test]
fn a_host_key_that_cannot_sign_ends_the_connection() {
    struct Broken(Arc<dyn Signer>);
    impl Signer for Broken {
        fn algorithms(&self) -> &'static [&'static str] {
            self.0.algorithms()
        }
        fn public(&self) -> &PublicKey {
            self.0.public()
        }
        fn sign(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, crate::sign::CannotSign> {
            Err(crate::sign::CannotSign("a token was pulled out"))
        }
    }
    let mut server = server(ServerConfig { host_keys: vec![Arc::new(Broken(host_key()))], ..server_config() });
    let mut client = client(client_config());
    assert_eq!(settle(&mut client, &mut server).err(), Some(Fatal::Internal("a host key could not sign")));
    assert_eq!(server.session_id(), None);
}
