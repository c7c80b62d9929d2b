//! The HTTP listener, for probes and Prometheus: `/livez`, `/readyz`, `/metrics`. Nothing here needs a login, so nothing here tells more
//! than counts and names that the file declares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::join_all;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use keyward_auth::{StoreError, StoreErrorKind};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

use crate::server::Proxy;

/// Stores are asked at most this often, however often we are.
const FRESH: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;
const CONNECTION_LIFE: Duration = Duration::from_secs(30);

struct Shared {
    proxy: Arc<Proxy>,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

/// Serves until dropped: at most 64 connections, each at most for half a minute.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>) {
    let shared = Arc::new(Shared { proxy, last: Mutex::default() });
    let routes =
        Router::new().route("/livez", get(async || "ok\n")).route("/readyz", get(ready)).route("/metrics", get(metrics)).with_state(shared);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "the HTTP listener: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(routes.clone());
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let connection = http.serve_connection(TokioIo::new(socket), service);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_LIFE, connection).await;
            drop(place);
        });
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    if shared.proxy.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match stores(&shared).await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

/// Whether every store lets us in, or cannot be asked and what was read of it may still be used; the kind of failure only. Asked in a task of its own, which whoever comes meanwhile waits for, and
/// which goes on when the probe has lost its patience.
async fn stores(shared: &Arc<Shared>) -> Result<(), String> {
    let shared = Arc::clone(shared);
    let asked = tokio::spawn(async move {
        let mut last = shared.last.lock().await;
        if let Some((_, outcome)) = last.as_ref().filter(|(when, _)| when.elapsed() < FRESH) {
            return outcome.clone();
        }
        let gate = &shared.proxy.gate;
        let names = gate.store_names();
        let answers = names.iter().map(|name| async move {
            match tokio::time::timeout(PATIENCE, gate.store_status(name)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) if error.kind == StoreErrorKind::Disabled => Ok(()),
                // What it said before it went away lets users in as yet: if no node were ready any more, nothing would.
                Ok(Err(StoreError { kind: StoreErrorKind::Unavailable | StoreErrorKind::Throttled, .. })) | Err(_)
                    if gate.store_stands_in(name) =>
                {
                    Ok(())
                }
                Ok(Err(error)) => Err(format!("store {name}: {}\n", error.kind.word())),
                Err(_) => Err(format!("store {name}: too slow\n")),
            }
        });
        let outcome = join_all(answers).await.into_iter().collect::<Result<(), String>>();
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    });
    asked.await.unwrap_or_else(|_| Err("the stores could not be asked\n".to_owned()))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let text = shared.proxy.metrics.render(shared.proxy.gate.lease_stats());
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
