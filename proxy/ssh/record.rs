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

#[cfg(test)]
mod tests {
    use keyward_ssh_transport::shown::Shown;

    use super::*;

    #[test]
    fn every_use_is_on_record_by_its_own_name_with_what_it_was_of() {
        let text = || Shown::new(b"a\nb");
        let rows = [
            (What::Shell, "shell", ""),
            (What::Exec { command: text() }, "exec", r"command: a\nb"),
            (What::Sftp, "sftp", ""),
            (What::Subsystem { name: text() }, "other", r"name: a\nb"),
            (What::LocalForward { host: text(), port: 22 }, "local-forward", r"address: a\nb, port: 22"),
            (What::LocalSocket { path: text() }, "local-forward", r"path: a\nb"),
            (What::RemoteForward { address: text(), port: 0 }, "remote-forward", r"address: a\nb, port: 0"),
            (What::RemoteSocket { path: text() }, "remote-forward", r"path: a\nb"),
            (What::Agent, "agent", ""),
            (What::X11, "x11", ""),
            (What::Terminal, "other", "name: pty-req"),
            (What::Other { name: text() }, "other", r"name: a\nb"),
        ];
        let decided = [(Side::Client, "client", Decision::Allowed, "allowed"), (Side::Server, "server", Decision::Refused, "refused")];
        for ((what, name, of), (by, who, decision, outcome)) in rows.into_iter().flat_map(|row| decided.map(|by| (row.clone(), by))) {
            let used = channel(&Event { by, what, decision, tell: None });
            let shown =
                |(key, value): &(&str, serde_json::Value)| format!("{key}: {}", value.as_str().map_or(value.to_string(), str::to_owned));
            let said: Vec<String> = used.details.iter().map(shown).collect();
            let wanted: Vec<String> = [format!("by: {who}"), of.to_owned()].into_iter().filter(|part| !part.is_empty()).collect();
            assert_eq!((used.what, used.outcome, said.join(", ")), (name, outcome, wanted.join(", ")));
        }
    }
}
