//! Tokens that somebody else made: vault.md §4.7.

use super::*;

#[tokio::test]
async fn a_token_is_looked_at_and_renewed_although_nobody_asks_and_a_reload_takes_it_over() {
    let (secrets, policy) = secrets().await;
    let auth = format!("auth: {{ method: token, token: {} }}", token(&policy, json!({"period": "9s"})).await);
    let connections = credential(&secrets);
    let keys = |more: &str| Bed::config(&format!("{auth}, {more}"), &[("db", &connections)]);
    let bed = Bed::from(Arc::new(tempfile::tempdir().unwrap()), keys("cache_ttl: 60s"));
    bed.seen.wait_for("token_renew ok", 2).await;
    let (config, mut problems) = keys("cache_ttl: 30s");
    bed.gate.replace(&config, &mut problems).unwrap_or_else(|| panic!("{problems}"));
    let renewed = bed.seen.count("token_renew ok");
    bed.seen.wait_for("token_renew ok", renewed + 1).await;
    assert_eq!(password(&*bed.credential("db").await), "x");
    assert_eq!(bed.seen.count("token_lookup ok"), 1);
}

#[tokio::test]
async fn a_token_that_comes_into_its_file_after_the_start_is_taken_although_nobody_asks() {
    let (secrets, policy) = secrets().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s.nobody-knows-it\n").unwrap();
    let bed = Bed::open(&format!("{{ method: token, token: {{ file: '{}' }} }}", file.display()), &[("db", &credential(&secrets))]);
    bed.seen.wait_for("token_lookup forbidden", 1).await;
    std::fs::write(&file, token(&policy, json!({"ttl": "1h"})).await + "\n").unwrap();
    bed.seen.wait_for("token_lookup ok", 1).await;
    assert_eq!(password(&*bed.credential("db").await), "x");
}
