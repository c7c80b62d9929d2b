//! A token whose end the store calls the last one at a renewal.

use super::*;

#[tokio::test]
async fn a_token_whose_last_end_is_known_is_not_renewed_again_and_its_leases_hear_of_it_once() {
    let warning = r#"TTL of "1h" exceeded the effective max_ttl of "20m"; TTL value is capped accordingly"#;
    let auth = json!({"client_token": "s.1", "lease_duration": 1200, "renewable": true});
    let capped = answer("200 OK", "", &json!({ "auth": auth, "warnings": [warning] }).to_string());
    let (server, former) = tokens(&[login("s.1", 3600), capped.clone(), login("s.2", 3600)]).await;
    let token = former.get().await.unwrap();
    let lease = token.end();
    assert!(!former.prolong(&token).await.unwrap(), "nothing more is to be done for it, which tells the lease that the end is fixed");
    assert!(token.is_alive() && former.get().await.unwrap().text == "s.2");
    assert_eq!(server.requests().len(), 3);
    drop(lease);

    let look = |ttl: u64| answer("200 OK", "", &json!({"data": {"ttl": ttl, "creation_ttl": 3600, "renewable": true}}).to_string());
    let (server, given) = tokens_by(json!({"method": "token", "token": "s.1"}), &[look(3600), capped, look(1200)]).await;
    let token = given.get().await.unwrap();
    let mut lease = token.end();
    for sent in [3, 4, 5] {
        assert!(given.prolong(&token).await.unwrap(), "nothing replaces it");
        assert_eq!(server.requests().len(), sent, "looked up, and renewed once");
        assert_eq!(lease.has_changed().unwrap(), sent == 3);
        lease.mark_unchanged();
    }
}
