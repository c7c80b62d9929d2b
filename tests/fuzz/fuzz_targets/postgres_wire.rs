//! Everything that a client or an upstream says before a PostgreSQL session is established.
#![no_main]

use keyward::postgres::wire::{self, First};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(length) = bytes.first_chunk::<4>()
        && let Ok(length) = wire::body_length(*length, wire::STARTUP_MAX)
    {
        assert!(length <= wire::STARTUP_MAX);
    }
    match wire::first(bytes) {
        Ok(First::Cancel { number, key }) => assert_eq!(&wire::cancel_request(number, &key).bytes()[4..], bytes),
        Ok(First::Startup(startup)) => same_upstream(&startup),
        _ => {}
    }
    let fields = wire::fields(bytes);
    assert!(!fields.message.chars().chain(fields.code.chars()).any(char::is_control), "shown in the log: {fields:?}");
    let _ = wire::authentication(bytes);
    if let Ok((mechanism, message)) = wire::sasl_initial(bytes) {
        assert_eq!(mechanism.len() + message.len() + 5, bytes.len());
    }
    if let Ok(password) = wire::password(bytes) {
        assert!(!password.contains(&0) && password.len() + 1 == bytes.len());
    }
});

/// What we would send upstream of it is read back as the same.
fn same_upstream(startup: &wire::Startup) {
    let database = startup.database.as_deref().unwrap_or("postgres");
    let others: Vec<(&[u8], &[u8])> = startup.others.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
    let packet = wire::upstream_startup(&startup.user, database, &others);
    let Ok(First::Startup(again)) = wire::first(&packet.bytes()[4..]) else { panic!("not a startup message: {startup:?}") };
    assert_eq!((again.user.as_str(), again.database.as_deref()), (startup.user.as_str(), Some(database)));
    assert_eq!(again.others, startup.others);
}
