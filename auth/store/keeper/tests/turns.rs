//! Whose turn it is at a store, and who waits for whom.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_no_other_store_from_getting_its_leases_back() {
    let leases = Leases::open(None).unwrap();
    let hung = Bed::new(Fake { hangs: true, ..Fake::new(3600) }, Arc::clone(&leases));
    let well = Bed::new(Fake::new(3600), Arc::clone(&leases));
    let named = hung.named();
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(hung.issue_from(named.clone()).await.unwrap());
    }
    let lease = well.issue().await.unwrap();
    drop(held);
    hung.store.called(40 + 16).await;
    let began = Instant::now();
    drop(lease);
    well.store.called(2).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(hung.store.log().len(), 40 + 16, "and the rest wait for their turn");
}

#[tokio::test(start_paused = true)]
async fn a_store_is_asked_for_so_many_leases_of_a_connection_at_one_time_and_nobody_asks_for_a_client_who_left() {
    let bed = Bed::in_memory(Fake { hold: Some(Notify::new()), ..Fake::new(3600) });
    let named = bed.named();
    let clients: Vec<_> = (0..40).map(|_| tokio::spawn(bed.issue_from(named.clone()))).collect();
    bed.store.called(8).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.store.log().len(), 8);
    assert_eq!(bed.leases.stats().live, 40);
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.leases.stats().live, 8, "those who waited have left");
    bed.store.hold.as_ref().unwrap().notify_waiters();
    assert_eq!(bed.drained().await, 0);
    assert_eq!(bed.store.log().iter().filter(|call| call.starts_with("revoke")).count(), 8);
}

/// Connections to these servers.
fn connections(servers: impl IntoIterator<Item = usize>) -> Vec<Grant> {
    let one = |(number, server): (usize, usize)| {
        format!("  db{number:02}: {{ protocol: postgres, address: 'pg{server}:5432', store: corp, credential: db/creds/role }}\n")
    };
    Bed::grants(&servers.into_iter().enumerate().map(one).collect::<String>())
}

#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_keeps_nobody_from_another_one() {
    let bed = Bed::in_memory(Fake { hold: Some(Notify::new()), ..Fake::new(3600) });
    // Two connections lead to the one that hangs.
    let (named, grants) = (bed.named(), connections([0, 0, 1]));
    let hung: Vec<_> = (0..40).map(|client| tokio::spawn(bed.issue_of(&named, &grants[client % 2]))).collect();
    bed.store.called(8).await;
    let began = Instant::now();
    let other = tokio::spawn(bed.issue_of(&named, &grants[2]));
    bed.store.called(9).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "it is asked at once");
    // Those who wait for the database that hangs hear why, in time.
    let (asked, waited): (Vec<_>, Vec<_>) = {
        tokio::time::sleep(Duration::from_secs(21)).await;
        hung.into_iter().partition(|client| !client.is_finished())
    };
    assert_eq!((asked.len(), waited.len()), (8, 32));
    for client in waited {
        let error = client.await.unwrap().unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        assert!(error.detail.starts_with("pg0:5432: 8 requests") && error.detail.contains("does its database hang?"), "{error}");
    }
    assert_eq!(bed.leases.stats().live, 9, "nobody else has a place, or a lease");
    bed.store.hold.as_ref().unwrap().notify_waiters();
    other.await.unwrap().unwrap();
    for client in asked {
        client.await.unwrap().unwrap();
    }
    assert_eq!(bed.drained().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_has_so_many_turns_for_all_its_databases() {
    let bed = Bed::in_memory(Fake { hold: Some(Notify::new()), ..Fake::new(3600) });
    let (named, grants) = (bed.named(), connections(0..10));
    let clients: Vec<_> = grants.iter().flat_map(|grant| (0..7).map(|_| tokio::spawn(bed.issue_of(&named, grant)))).collect();
    bed.store.called(64).await;
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(bed.store.log().len(), 64);
    bed.store.hold.as_ref().unwrap().notify_waiters();
    let refused: Vec<_> = futures_util::future::join_all(clients).await.into_iter().filter_map(|lease| lease.unwrap().err()).collect();
    assert!(refused.len() == 6 && refused.iter().all(|error| error.detail.starts_with("64 requests for leases")), "{refused:?}");
    assert_eq!(bed.drained().await, 0);
}
