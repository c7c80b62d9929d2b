use super::*;

#[test]
fn an_address_is_in_the_networks_that_are_listed() {
    for (list, address, wanted) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "192.0.2.8", false),
        ("192.0.2.7/32", "192.0.2.7", true),
        ("0.0.0.0/0", "203.0.113.9", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "2001:db8::1", true),
        ("::/0", "203.0.113.9", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("192.0.2.0/24,10.1.2.3", "10.1.2.3", true),
        // A client over IPv4 on a socket of both families.
        ("10.0.0.0/8", "::ffff:10.0.0.1", true),
    ] {
        assert_eq!(contains(list, address.parse().unwrap()), wanted, "{list} {address}");
    }
}

#[test]
fn a_list_with_an_entry_that_cannot_be_read_lets_nobody_in() {
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    for entry in
        ["", " 10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "!10.0.0.2", "host", "*", "::/129"]
    {
        assert!(!contains(&format!("10.0.0.0/8,{entry}"), address), "{entry}");
    }
    assert!(contains(&["10.0.0.0/8"; 256].join(","), address));
    assert!(!contains(&["10.0.0.0/8"; 257].join(","), address));
}
