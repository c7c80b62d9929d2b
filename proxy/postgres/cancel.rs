//! Cancel requests: a client names its session by the process id and the key that we gave it, on a link of its own.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;

use super::{messages, upstream, wire};
use crate::link::Link;
use crate::registry::Interrupt;
use crate::upstream::Endpoint;

/// Dial, ask, and wait until the server has dealt with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a session's query is stopped upstream: by a cancel request of our own.
pub(super) struct Cancel {
    /// The very server of the session.
    pub(super) endpoint: Endpoint,
    pub(super) number: u32,
    pub(super) key: Vec<u8>,
}

impl Interrupt for Cancel {
    fn interrupt(&self) -> BoxFuture<'_, bool> {
        async {
            if self.key.is_empty() {
                // Some poolers give none: there is nothing to ask with.
                return false;
            }
            let asked = async {
                // Over TLS where the session has it: the key is worth a denial of service. The server closes once it has signalled.
                let Ok(mut verified) = upstream::connect(self.endpoint.clone()).await else { return false };
                let sent = messages::write(verified.stream(), &wire::cancel_request(self.number, &self.key)).await.is_ok();
                if sent {
                    let _ = verified.stream().read(&mut [0; 1]).await;
                }
                sent
            };
            tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
                tracing::warn!("a cancel request was not answered by the server");
                false
            })
        }
        .boxed()
    }
}

/// Serves a client's cancel request. Hit and miss look the same to it: nothing, and then the end. The end comes after the server has
/// dealt with the request, as a client that waits for it expects; a miss costs the address what a wrong password does.
pub(super) async fn serve(link: &Link, number: u32, key: &[u8]) {
    let found = link.proxy.registry.by_handle(number, key);
    link.proxy.metrics.cancel(link.door.protocol, found.is_some());
    match found {
        Some(live) => {
            let _ = live.interrupt().await;
        }
        None => link.proxy.gate.missed(link.source).await,
    }
}
