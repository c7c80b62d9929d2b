//! tokio-postgres as a client, with rustls: verified TLS and channel binding.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Socket};
use tokio_rustls::TlsConnector;

use super::psql::Dsn;

/// A connected client; its notices and notifications are in `messages`, its end in `ended`.
pub struct RustClient {
    pub client: Client,
    pub messages: mpsc::Receiver<AsyncMessage>,
    pub ended: tokio::task::JoinHandle<Option<Error>>,
    tls: Tls,
}

impl RustClient {
    /// Connects as the DSN says (`sslmode=verify-full` or `disable`).
    pub async fn connect(dsn: &Dsn) -> Result<Self, Error> {
        let mut config = Config::new();
        let mut tls = Tls(Arc::new(RootCertStore::empty()));
        for (name, value) in dsn.environment() {
            match name.as_str() {
                "PGHOST" => drop(config.host(value)),
                "PGHOSTADDR" => drop(config.hostaddr(value.parse().unwrap())),
                "PGPORT" => drop(config.port(value.parse().unwrap())),
                "PGUSER" => drop(config.user(value)),
                "PGPASSWORD" => drop(config.password(value)),
                "PGDATABASE" => drop(config.dbname(value)),
                "PGSSLMODE" if value == "disable" => drop(config.ssl_mode(tokio_postgres::config::SslMode::Disable)),
                "PGSSLMODE" => drop(config.ssl_mode(tokio_postgres::config::SslMode::Require)),
                "PGSSLROOTCERT" => tls = Tls::trusting(&value),
                "PGCONNECT_TIMEOUT" => {}
                other => panic!("{other} is not translated"),
            }
        }
        let (client, mut connection) = config.connect(tls.clone()).await?;
        let (tell, messages) = mpsc::channel();
        let ended = tokio::spawn(async move {
            loop {
                match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(message)) => drop(tell.send(message)),
                    Some(Err(error)) => return Some(error),
                    None => return None,
                }
            }
        });
        Ok(Self { client, messages, ended, tls })
    }

    /// Cancels what runs, on a link of its own.
    pub async fn cancel(&self) {
        self.client.cancel_token().cancel_query(self.tls.clone()).await.unwrap();
    }
}

/// The verifier of the server's certificate.
#[derive(Clone)]
struct Tls(Arc<RootCertStore>);

impl Tls {
    fn trusting(file: &str) -> Self {
        let mut roots = RootCertStore::empty();
        CertificateDer::pem_file_iter(file).unwrap().for_each(|certificate| roots.add(certificate.unwrap()).unwrap());
        Self(Arc::new(roots))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Secured;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = config.with_root_certificates(Arc::clone(&self.0)).with_no_client_auth();
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Handshake(TlsConnector::from(Arc::new(config)), name))
    }
}

struct Handshake(TlsConnector, ServerName<'static>);

impl TlsConnect<Socket> for Handshake {
    type Stream = Secured;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured>>;

    fn connect(self, stream: Socket) -> Self::Future {
        async move { self.0.connect(self.1, stream).await.map(Secured) }.boxed()
    }
}

/// A TLS stream that knows its channel binding (RFC 5929 `tls-server-end-point`; our certificates are signed with SHA-256).
struct Secured(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        let leaf = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first).unwrap();
        ChannelBinding::tls_server_end_point(digest::digest(&digest::SHA256, leaf).as_ref().to_vec())
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
