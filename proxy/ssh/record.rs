//! What the audit record says of what a session was used for: names and addresses, never contents.

use keyward_ssh_transport::Side;
use keyward_ssh_transport::policy::{Decision, Event, What};
use serde_json::{Map, Value, json};

/// The fields of one decision.
pub(super) fn channel(event: &Event) -> Map<String, Value> {
    let by = match event.by {
        Side::Client => "client",
        Side::Server => "server",
    };
    let channel = event.what.permission().map_or("other", keyward_ssh_transport::policy::Permission::name);
    let mut fields = Map::new();
    fields.insert("channel".to_owned(), json!(channel));
    fields.insert("by".to_owned(), json!(by));
    fields.insert("allowed".to_owned(), json!(event.decision == Decision::Allowed));
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    match &event.what {
        What::Exec { command } => add("command", json!(command.as_str())),
        What::Subsystem { name } | What::Other { name } => add("name", json!(name.as_str())),
        What::LocalForward { host: address, port } | What::RemoteForward { address, port } => {
            add("port", json!(port));
            add("address", json!(address.as_str()))
        }
        What::LocalSocket { path } | What::RemoteSocket { path } => add("path", json!(path.as_str())),
        What::Shell | What::Sftp | What::Agent | What::X11 => None,
    };
    fields
}
