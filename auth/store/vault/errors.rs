//! What a refusal means (vault.md §2). Texts are the servers' own, as they were seen; where they differ, both are known.

use super::answer::{Failure, Refused};
use crate::store::{StoreError, StoreErrorKind};

/// What the text of a 403 says of the token that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenHint {
    /// It names the token as invalid.
    Dead,
    /// It is the form in which a policy denies.
    Policy,
    /// Either.
    Unclear,
}

pub(super) fn is_forbidden(refused: &Refused) -> bool {
    refused.status == 403
}

/// Reads a 403.
pub(super) fn token_hint(errors: &[String]) -> TokenHint {
    let says = |what: &str| errors.iter().any(|error| error.contains(what));
    if says("invalid token") || says("missing client token") {
        TokenHint::Dead
    } else if says("1 error occurred") || says("preflight capability check") {
        TokenHint::Policy
    } else {
        TokenHint::Unclear
    }
}

/// A failure as the rest of the program knows it. The server's words are for the operator: they may hold hosts and SQL, and our texts
/// hold no secret since no secret is in a path.
pub(super) fn explain(what: &str, failure: Failure) -> StoreError {
    let kind = match &failure {
        Failure::Store(error) => return error.clone(),
        Failure::Unreached(_) | Failure::Unanswered(_) => StoreErrorKind::Unavailable,
        Failure::TooLong => StoreErrorKind::Malformed,
        Failure::Refused(refused) => kind_of(refused),
    };
    StoreError::new(kind, format!("{what}: {}", failure.brief()))
}

/// Whether a request for a lease that failed like this may have made an account all the same (vault.md §0.1): no clear answer, or a
/// 5xx, which also comes when the account is made and the lease could not be kept. Not where the server says that it did not begin:
/// sealed or without a leader, a role that is not allowed, a database that could not be reached.
pub(super) fn may_have_issued(failure: &Failure) -> bool {
    match failure {
        Failure::Store(_) | Failure::Unreached(_) => false,
        Failure::Unanswered(_) | Failure::TooLong => true,
        Failure::Refused(refused) => {
            let not_begun = (refused.status == 503 && refused.is_explained())
                || without_a_leader(refused)
                || database_is_down(refused)
                || (refused.says("is not an allowed role") && !refused.says("lease"));
            refused.status >= 500 && !not_begun
        }
    }
}

/// The server tells, with a 500, that it did not reach the database behind a role.
pub(super) fn database_is_down(refused: &Refused) -> bool {
    // Its own storage may fail in the same words, once the account is made.
    refused.status == 500 && (refused.says("dial tcp") || refused.says("connection refused")) && !refused.says("lease")
}

/// The server tells that a KV mount is on its way to version 2; a standby, that it waits for its leader.
pub(super) fn is_upgrading(refused: &Refused) -> bool {
    refused.status == 400 && refused.says("from non-versioned to versioned data")
}

/// The server tells that its cluster has no leader at this moment: it did nothing.
pub(super) fn without_a_leader(refused: &Refused) -> bool {
    let texts = ["active cluster node not found", "no active Vault instance found", "node is not active"];
    matches!(refused.status, 500 | 503) && texts.into_iter().any(|text| refused.says(text))
}

fn kind_of(refused: &Refused) -> StoreErrorKind {
    let says = |what: &str| refused.says(what);
    match refused.status {
        400 if says("lease not found") || says("lease expired") || says("invalid lease") => StoreErrorKind::LeaseLost,
        400 if says("unknown role") || says("Unknown role") => StoreErrorKind::NotFound,
        400 if is_upgrading(refused) || says("failed to revoke entry") => StoreErrorKind::Unavailable,
        401 | 403 => StoreErrorKind::Denied,
        404 => StoreErrorKind::NotFound,
        429 if refused.is_behind() => StoreErrorKind::Unavailable,
        429 => StoreErrorKind::Throttled,
        500 if says("is not an allowed role") => StoreErrorKind::Denied,
        400..=499 if !matches!(refused.status, 412 | 472 | 473) => StoreErrorKind::Malformed,
        _ => StoreErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(error: &str) -> TokenHint {
        token_hint(&[error.to_owned()])
    }

    #[test]
    fn recorded_bodies_of_403_are_told_apart() {
        assert_eq!(hint("permission denied"), TokenHint::Unclear, "OpenBao 2.7, dead token; also a login on a wrong mount");
        assert_eq!(hint("1 error occurred:\n\t* permission denied\n\n"), TokenHint::Policy, "both servers, policy");
        assert_eq!(hint("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"), TokenHint::Dead, "Vault from 1.17");
        assert_eq!(hint("missing client token"), TokenHint::Dead, "Vault before");
        let preflight = "preflight capability check returned 403, please ensure client's policies grant access to path \"p/\"";
        assert_eq!(hint(preflight), TokenHint::Policy);
        assert_eq!(token_hint(&[]), TokenHint::Unclear);
    }

    #[test]
    fn recorded_refusals_get_their_kind() {
        for (status, body, kind, may_run) in [
            (400, "lease not found", StoreErrorKind::LeaseLost, false),
            (400, "lease expired", StoreErrorKind::LeaseLost, false),
            (400, "invalid lease", StoreErrorKind::LeaseLost, false),
            (400, "unknown role: x", StoreErrorKind::NotFound, false),
            (400, "failed to revoke entry: cannot be dropped", StoreErrorKind::Unavailable, false),
            (400, "Upgrading from non-versioned to versioned data.", StoreErrorKind::Unavailable, false),
            (400, "Waiting for the primary to upgrade from non-versioned to versioned data.", StoreErrorKind::Unavailable, false),
            (400, "Field validation failed: x", StoreErrorKind::Malformed, false),
            (403, "1 error occurred:\n\t* permission denied\n\n", StoreErrorKind::Denied, false),
            (404, "no handler for route \"x\". route entry not found.", StoreErrorKind::NotFound, false),
            (412, "required index state not present", StoreErrorKind::Unavailable, false),
            (429, "request path \"p\": rate limit quota exceeded", StoreErrorKind::Throttled, false),
            (500, "1 error occurred:\n\t* \"y\" is not an allowed role\n\n", StoreErrorKind::Denied, false),
            (500, "1 error occurred:\n\t* dial tcp 127.0.0.1:53306: connect: connection refused\n\n", StoreErrorKind::Unavailable, false),
            (503, "Vault is sealed", StoreErrorKind::Unavailable, false),
            (503, "no active Vault instance found", StoreErrorKind::Unavailable, false),
            (500, "local node not active but active cluster node not found", StoreErrorKind::Unavailable, false),
            (500, "1 error occurred:\n\t* leadership lost while committing log\n\n", StoreErrorKind::Unavailable, true),
            (472, "", StoreErrorKind::Unavailable, false),
            (500, "1 error occurred:\n\t* failed to create lease\n\n", StoreErrorKind::Unavailable, true),
            (503, "", StoreErrorKind::Unavailable, true),
            (504, "", StoreErrorKind::Unavailable, true),
            (500, "", StoreErrorKind::Unavailable, true),
        ] {
            let errors = if body.is_empty() { Vec::new() } else { vec![body.to_owned()] };
            let failure = Failure::Refused(Refused::of(status, errors, serde_json::Value::Null));
            assert_eq!(may_have_issued(&failure), may_run, "{status} {body}");
            let error = explain("reading a", failure);
            assert_eq!(error.kind, kind, "{status} {body}");
            assert!(!error.detail.contains('\n'), "{error}");
        }
        assert!(may_have_issued(&Failure::Unanswered("reset".into())));
        assert!(!may_have_issued(&Failure::Unreached("refused".into())));
        assert!(!may_have_issued(&Failure::Store(StoreError::new(StoreErrorKind::Unavailable, "no answer to our login"))));
    }
}
