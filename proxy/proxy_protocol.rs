//! The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt), from the sources that the listener names and from no other.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;

use crate::stream::Stream;

const V1_START: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// A version 1 line, with its end (§2.1).
const V1_MAX: usize = 107;
/// A version 2 header with its TLVs; the format allows 64 KiB, balancers send a few hundred bytes.
const V2_MAX: usize = 2048;

/// Reads the header, and not a byte of what follows. `None`: a health check of the balancer itself (`LOCAL`, `UNKNOWN`).
///
/// # Errors
/// `UnexpectedEof` if the peer left; `InvalidData` if there is no header.
pub async fn read(stream: &mut Stream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::with_capacity(V1_MAX);
    // Byte by byte, as far as it can still be one: the first packet of a client that sends none may be shorter than this.
    while header.len() < V2_SIGNATURE.len() {
        header.push(stream.read_u8().await?);
        let v1 = V1_START.starts_with(&header) || header.starts_with(V1_START);
        if !v1 && !V2_SIGNATURE.starts_with(&header) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it begins with something else"));
        }
    }
    if header == V2_SIGNATURE {
        let mut rest = [0_u8; 4];
        stream.read_exact(&mut rest).await?;
        header.extend_from_slice(&rest);
        let [_, _, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > V2_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a header longer than 2048 bytes"));
        }
        let mut body = vec![0_u8; length];
        stream.read_exact(&mut body).await?;
        header.extend_from_slice(&body);
    } else {
        while header.last() != Some(&b'\n') {
            if header.len() >= V1_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no end of the line within 107 bytes"));
            }
            header.push(stream.read_u8().await?);
        }
    }
    parse(&header)
}

/// Parses a whole header of either version.
///
/// # Errors
/// `InvalidData`.
pub fn parse(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    match ppp::HeaderResult::parse(header) {
        ppp::HeaderResult::V1(Ok(v1)) => Ok(match v1.addresses {
            ppp::v1::Addresses::Tcp4(tcp) => Some(SocketAddr::from((tcp.source_address, tcp.source_port))),
            ppp::v1::Addresses::Tcp6(tcp) => Some(SocketAddr::from((tcp.source_address, tcp.source_port))),
            ppp::v1::Addresses::Unknown => None,
        }),
        ppp::HeaderResult::V2(Ok(v2)) if v2.command == ppp::v2::Command::Local => Ok(None),
        ppp::HeaderResult::V2(Ok(v2)) => Ok(match v2.addresses {
            ppp::v2::Addresses::IPv4(tcp) => Some(SocketAddr::from((tcp.source_address, tcp.source_port))),
            ppp::v2::Addresses::IPv6(tcp) => Some(SocketAddr::from((tcp.source_address, tcp.source_port))),
            ppp::v2::Addresses::Unix(_) | ppp::v2::Addresses::Unspecified => None,
        }),
        ppp::HeaderResult::V1(Err(error)) => Err(invalid(error.to_string())),
        ppp::HeaderResult::V2(Err(error)) => Err(invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let v1 = parse(b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 5432\r\n").unwrap();
        assert_eq!(v1, Some("192.0.2.7:40000".parse().unwrap()));
        let mut v2 = V2_SIGNATURE.to_vec();
        v2.extend_from_slice(&[0x21, 0x11, 0, 12, 192, 0, 2, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x15, 0x38]);
        assert_eq!(parse(&v2).unwrap(), Some("192.0.2.7:40000".parse().unwrap()));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap(), None);
        assert!(parse(b"GET / HTTP/1.1\r\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
