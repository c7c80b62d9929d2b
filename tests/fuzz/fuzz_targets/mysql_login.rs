//! Everything that a client or an upstream says before a MySQL session is established, and what is written of it. The first four bytes are
//! the capabilities of who sends the rest; the packets that begin with their own are read from there.
#![no_main]

use keyward::mysql::capabilities::{self, Capabilities};
use keyward::mysql::wire::{self, Answer, ChangeUser, ClientFirst, Greeting, Reply, ServerError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    client(bytes);
    if let Some((flags, rest)) = bytes.split_first_chunk::<4>() {
        server(rest);
        let client = Capabilities(u32::from_le_bytes(*flags).into());
        if let Ok(change) = ChangeUser::parse(rest, client) {
            assert!(change.user.len() + change.auth.len() < rest.len() && !change.user.contains(&0));
        }
        if let Ok(bare) = wire::bare_ok(rest) {
            assert_eq!(wire::bare_ok(&bare).as_ref(), Ok(&bare), "nothing more to take off");
        }
    }
});

fn client(bytes: &[u8]) {
    match wire::client_first(bytes) {
        Ok(ClientFirst::Tls { capabilities, max_packet, charset }) => {
            assert_eq!(wire::ssl_request(capabilities, max_packet, charset)[..9], bytes[..9]);
        }
        Ok(ClientFirst::Answer(answer)) => {
            let again = Answer::parse(&answer.encode());
            assert!(again.is_ok_and(|again| again == *answer), "what is written is what was read");
        }
        Ok(ClientFirst::Unsupported) => assert!(Answer::parse(bytes).is_err()),
        Err(_) => {}
    }
}

fn server(bytes: &[u8]) {
    if let Ok(greeting) = Greeting::parse(bytes) {
        assert_eq!(Greeting::parse(&greeting.encode()).as_ref(), Ok(&greeting));
        let offered = capabilities::offer(greeting.capabilities, true, true);
        match capabilities::upstream_answer(offered, offered, greeting.capabilities) {
            Ok(said) => assert!(said.without(greeting.capabilities.or(Capabilities::LONG_PASSWORD)) == Capabilities::NONE),
            Err(_) => assert!(!greeting.capabilities.has(Capabilities::PROTOCOL_41), "it can do what is offered for it"),
        }
    }
    match wire::reply(bytes) {
        Ok(Reply::Error(error)) => {
            assert_eq!(ServerError::parse(bytes).as_ref(), Ok(&error));
            assert!(error.message.len() < bytes.len());
        }
        Ok(Reply::Switch { plugin, data }) => {
            let again = wire::auth_switch(plugin, data);
            assert_eq!(wire::reply(&again[..again.len() - 1]), Ok(Reply::Switch { plugin, data }));
        }
        Ok(Reply::More(data)) => assert_eq!(wire::auth_more(data), bytes),
        Ok(Reply::Ok(payload)) => assert_eq!(payload, bytes),
        Err(_) => {}
    }
}
