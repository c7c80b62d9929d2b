//! What comes from the file and from the server, for the fuzz targets (see store/fuzzing.rs).

use std::time::Instant;

use reqwest::StatusCode;
use serde_json::Value;

use super::answer::decode;
use super::client::encode;
use super::errors::{explain, token_hint};
use super::{Failure, kv, login, mount};
use crate::store::{Credential, Reference};

/// Parses a reference and, if it has a selector, takes that part out of a secret. Returns the path as it would be sent.
#[must_use]
pub fn reference(text: &str, secret: &[u8]) -> Option<String> {
    let reference: Reference = text.parse().ok()?;
    if let (Some(selector), Ok(fields)) = (&reference.selector, serde_json::from_slice::<Value>(secret)) {
        let _ = selector.pick(&fields, &reference.path);
    }
    Some(encode(reference.path.segments()))
}

/// Reads an answer in every way in which one is read, whatever was asked. Returns what an operator would be told.
#[must_use]
pub fn answer(status: u16, body: &[u8]) -> Vec<String> {
    let mut told = Vec::new();
    // What hides a secret id is handed over as the command line of Vault prints it: an answer, too, or a token alone.
    told.extend(std::str::from_utf8(body).ok().and_then(login::wrapped).map(str::to_owned));
    let (Ok(status), Ok(Reference { path, .. })) = (StatusCode::from_u16(status), "kv/data/app".parse()) else { return told };
    for version_2 in [false, true] {
        match decode(status, body, Instant::now()) {
            Ok(answer) => {
                told.extend(login::token_of(&answer).err().map(|error| error.to_string()));
                let _ = (answer.body.get("data").map(mount::read), answer.seconds("lease_duration"), answer.text("lease_id").len());
                // A role's answer is read as one of version 1 is.
                let read = kv::document(answer, &path, version_2).and_then(|document| Credential::whole(&document, &path));
                told.extend(read.err().map(|error| error.to_string()));
            }
            Err(Failure::Refused(refused)) => {
                let _ = token_hint(&refused.errors);
                told.push(kv::absent(&refused, &path).to_string());
                told.push(explain("reading", Failure::Refused(refused)).to_string());
            }
            Err(failure) => told.push(explain("reading", failure).to_string()),
        }
    }
    told
}
