//! Listening sockets: TCP and unix.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use keyward_config::ListenAddress;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::stream::{self, Stream};

/// Half-open and not yet accepted connections that the kernel keeps for a listener.
const BACKLOG: u32 = 1024;

/// A bound socket.
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl Socket {
    /// Binds and listens.
    ///
    /// # Errors
    /// The socket's.
    pub fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                socket.listen(BACKLOG).map(Self::Tcp)
            }
            ListenAddress::Unix(path) => bind_unix(path, 0o666).map(Self::Unix),
        }
    }

    /// The next client, and its address if it has one.
    ///
    /// # Errors
    /// The socket's.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                stream::tune(&socket)?;
                Ok((Stream::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }

    /// Where it listens, with the port that it was given.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()).unwrap_or_default(),
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                address.and_then(|address| address.as_pathname().map(|path| path.display().to_string())).unwrap_or_default()
            }
        }
    }

    /// Takes the socket's file away, now that nobody serves it.
    pub fn remove(&self) {
        if let Self::Unix(listener) = self
            && let Ok(address) = listener.local_addr()
            && let Some(path) = address.as_pathname()
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds a unix socket. A socket file on which nobody listens was left by a killed process, and is replaced; any other file is not ours.
///
/// # Errors
/// The socket's.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        let answer = std::os::unix::net::UnixStream::connect(path);
        if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path)?;
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (folder.path().join("file"), folder.path().join("socket"));
        std::fs::write(&file, "precious").unwrap();
        assert!(bind_unix(&file, 0o600).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        let living = bind_unix(&socket, 0o600).unwrap();
        assert!(bind_unix(&socket, 0o600).is_err(), "somebody listens there");
        drop(living);
        assert!(bind_unix(&socket, 0o600).is_ok());
    }
}
