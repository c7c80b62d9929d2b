//! `keyward sessions`, `kill` and `reload`: ask the running process over its admin socket.

use std::path::Path;

use super::{DONE, Format, WRONG, failed, runtime, table};
use crate::admin::socket::{self, Answer, Request, SessionRow};
use crate::reload::{read, shown};
use crate::state::admin_socket;

pub(super) fn sessions(path: &Path, format: Format) -> u8 {
    match ask(path, &Request::Sessions) {
        Ok(Answer::Sessions(rows)) if format == Format::Json => match serde_json::to_string_pretty(&rows) {
            Ok(text) => {
                println!("{text}");
                DONE
            }
            Err(error) => failed(&error.to_string()),
        },
        Ok(Answer::Sessions(rows)) => {
            let head = ["SESSION", "USER", "SOURCE", "CONNECTION", "ACCOUNT", "PROTOCOL", "AGE", "IDLE", "UP", "DOWN"];
            table(&head, &rows.into_iter().map(cells).collect::<Vec<_>>());
            DONE
        }
        other => unexpected(other),
    }
}

fn cells(row: SessionRow) -> Vec<String> {
    let (age, idle) = (format!("{}s", row.age), format!("{}s", row.idle));
    let (up, down) = (row.bytes_up.to_string(), row.bytes_down.to_string());
    let connection = super::beside(&row.connection, row.host.as_deref());
    vec![row.session, row.user, row.source, connection, row.account, row.protocol, age, idle, up, down]
}

pub(super) fn kill(path: &Path, session: String) -> u8 {
    done(ask(path, &Request::Kill { session }))
}

pub(super) fn reload(path: &Path) -> u8 {
    done(ask(path, &Request::Reload { file: Some(shown(path)) }))
}

fn done(answer: Result<Answer, u8>) -> u8 {
    match answer {
        Ok(Answer::Done(text)) => {
            println!("{text}");
            DONE
        }
        other => unexpected(other),
    }
}

fn unexpected(answer: Result<Answer, u8>) -> u8 {
    match answer {
        Ok(Answer::Failed(text)) => failed(&text),
        Ok(_) => failed("the process answered something else"),
        Err(code) => code,
    }
}

/// A file that is wrong by now must not keep an operator from his sessions: only `state` is needed of it.
fn ask(path: &Path, request: &Request) -> Result<Answer, u8> {
    let loaded = read(path);
    let state = loaded.config.map(|config| config.state).filter(|state| !state.as_os_str().is_empty());
    let Some(state) = state else {
        eprint!("{}", loaded.problems);
        return Err(WRONG);
    };
    let runtime = runtime().map_err(|text| failed(&text))?;
    runtime.block_on(socket::ask(&admin_socket(&state), request)).map_err(|text| failed(&text))
}
