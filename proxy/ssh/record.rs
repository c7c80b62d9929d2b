//! What the audit record says of what a session was used for: names and addresses, never contents.

use keyward_ssh_transport::Side;
use keyward_ssh_transport::policy::{Decision, Event, Permission, What};
use serde_json::json;

use crate::audit::Use;

/// One decision.
pub(super) fn channel(event: &Event) -> Use {
    let by = match event.by {
        Side::Client => "client",
        Side::Server => "server",
    };
    let outcome = match event.decision {
        Decision::Allowed => "allowed",
        Decision::Refused => "refused",
    };
    let mut details = vec![("by", json!(by))];
    match &event.what {
        What::Exec { command } => details.push(("command", json!(command.as_str()))),
        What::Subsystem { name } | What::Other { name } => details.push(("name", json!(name.as_str()))),
        What::LocalForward { host: address, port } | What::RemoteForward { address, port } => {
            details.extend([("address", json!(address.as_str())), ("port", json!(port))]);
        }
        What::LocalSocket { path } | What::RemoteSocket { path } => details.push(("path", json!(path.as_str()))),
        What::Terminal => details.push(("name", json!("pty-req"))),
        What::Shell | What::Sftp | What::Agent | What::X11 => {}
    }
    Use { what: event.what.permission().map_or("other", Permission::name), outcome, details }
}
