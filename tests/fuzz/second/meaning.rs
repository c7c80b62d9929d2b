//! What the one who hears a message of the connection protocol will do, as far as a rule can be about it.

use keyward_ssh_transport::Side;
use keyward_ssh_transport::policy::What;
use keyward_ssh_transport::shown::Shown;

use crate::second::{Malformed, asked};
use crate::wire::Value;

/// `None`: nothing of the kind.
pub fn meant(by: Side, message: &[u8]) -> Result<Option<What>, Malformed> {
    let (name, inside) = match asked(by, message)? {
        Some((_, _, Some(inside))) => inside,
        Some((90, name, None)) => return Ok(Some(What::Other { name: Shown::new(name) })),
        _ => return Ok(None),
    };
    let port = |number: u64| u32::try_from(number).unwrap();
    Ok(Some(match (name, &inside[..]) {
        ("tcpip-forward" | "forwarded-tcpip", [Value::Bytes(address), Value::Number(number), ..]) => {
            What::RemoteForward { address: Shown::new(address), port: port(*number) }
        }
        ("streamlocal-forward@openssh.com" | "forwarded-streamlocal@openssh.com", [Value::Bytes(path), ..]) => {
            What::RemoteSocket { path: Shown::new(path) }
        }
        ("direct-tcpip", [Value::Bytes(host), Value::Number(number), ..]) => {
            What::LocalForward { host: Shown::new(host), port: port(*number) }
        }
        ("direct-streamlocal@openssh.com", [Value::Bytes(path), ..]) => What::LocalSocket { path: Shown::new(path) },
        ("x11" | "x11-req", _) => What::X11,
        ("auth-agent@openssh.com" | "agent-connect" | "auth-agent-req@openssh.com" | "agent-req", _) => What::Agent,
        ("shell", _) => What::Shell,
        ("exec", [Value::Bytes(command)]) => What::Exec { command: Shown::new(program(command)) },
        ("subsystem", [Value::Bytes(b"sftp")]) => What::Sftp,
        ("subsystem", [Value::Bytes(name)]) => What::Subsystem { name: Shown::new(name) },
        ("pty-req", _) => What::Terminal,
        _ => return Ok(None),
    }))
}

/// A command's first word, up to what a shell would act on: no more of it is on record.
fn program(command: &[u8]) -> &[u8] {
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z') || "_./+-@%:,~".contains(char::from(byte));
    command.trim_ascii_start().split(|byte| !plain(*byte)).next().unwrap()
}
