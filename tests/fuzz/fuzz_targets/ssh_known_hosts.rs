//! A known_hosts file, and the name of a host in its first line that is looked up in the rest.
#![no_main]

use keyward_ssh_transport::certificate::Presented;
use keyward_ssh_transport::key::Untrusted;
use keyward_ssh_transport::known_hosts::{KnownHosts, line};
use keyward_ssh_transport::revocation::Revocations;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (host, file) = text.split_once('\n').unwrap_or(("web-1", text));
    let hosts = match KnownHosts::parse(file) {
        Ok(hosts) => hosts,
        Err(bad) => return assert!(!bad.is_empty()),
    };
    for port in [22, 2222] {
        let trusted = hosts.lookup(host, port);
        assert_eq!(trusted.algorithms().is_empty(), !trusted.knows_any());
        for key in trusted.keys.iter().chain(&trusted.authorities) {
            let presented = Presented::parse(key.kind().algorithms()[0], key.blob()).unwrap();
            let checked = trusted.check(&presented, host, 0, &Revocations::default());
            let revoked = trusted.revoked.iter().any(|blob| blob == key.blob());
            let wanted = match (revoked, trusted.keys.contains(key)) {
                (true, _) => Err(Untrusted::Revoked),
                (false, true) => Ok(()),
                (false, false) => Err(Untrusted::AnotherHostKey),
            };
            assert_eq!(checked, wanted);
            // What we would write for it is what we find again, unless the name is none.
            if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                let again = KnownHosts::parse(&line(host, port, key)).unwrap();
                assert_eq!(again.lookup(host, port).keys, std::slice::from_ref(key));
            }
        }
    }
});
