//! What a refusal means (vault.md §2). Texts are the servers' own, as they were seen; where they differ, both are known.

use super::client::{Failure, Refused};
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
    let refused = match failure {
        Failure::Store(error) => return error,
        Failure::Unreached(why) => return StoreError::new(StoreErrorKind::Unavailable, format!("{what}: {why}")),
        Failure::Unanswered(why) => return StoreError::new(StoreErrorKind::Unavailable, format!("{what}: {why}")).ambiguous(),
        Failure::Refused(refused) => refused,
    };
    let words = refused.errors.join("; ").split_whitespace().collect::<Vec<_>>().join(" ");
    let error = StoreError::new(kind_of(&refused), format!("{what}: status {}: {words}", refused.status));
    // A server that explains itself has undone what it began; a gateway in between knows nothing of it.
    let explained = !refused.errors.is_empty();
    if matches!(refused.status, 502 | 504) || (refused.status >= 500 && !explained) { error.ambiguous() } else { error }
}

fn kind_of(refused: &Refused) -> StoreErrorKind {
    let says = |what: &str| refused.errors.iter().any(|error| error.contains(what));
    match refused.status {
        400 if says("lease not found") || says("lease expired") || says("invalid lease") => StoreErrorKind::LeaseLost,
        400 if says("unknown role") || says("Unknown role") => StoreErrorKind::NotFound,
        400 if says("Upgrading from non-versioned") || says("failed to revoke entry") => StoreErrorKind::Unavailable,
        401 | 403 => StoreErrorKind::Denied,
        404 => StoreErrorKind::NotFound,
        429 => StoreErrorKind::Throttled,
        500 if says("is not an allowed role") => StoreErrorKind::Denied,
        400..=499 if refused.status != 412 => StoreErrorKind::Malformed,
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
        for (status, body, kind, ambiguous) in [
            (400, "lease not found", StoreErrorKind::LeaseLost, false),
            (400, "lease expired", StoreErrorKind::LeaseLost, false),
            (400, "invalid lease", StoreErrorKind::LeaseLost, false),
            (400, "unknown role: x", StoreErrorKind::NotFound, false),
            (400, "failed to revoke entry: cannot be dropped", StoreErrorKind::Unavailable, false),
            (400, "Upgrading from non-versioned to versioned data.", StoreErrorKind::Unavailable, false),
            (400, "Field validation failed: x", StoreErrorKind::Malformed, false),
            (403, "1 error occurred:\n\t* permission denied\n\n", StoreErrorKind::Denied, false),
            (404, "no handler for route \"x\". route entry not found.", StoreErrorKind::NotFound, false),
            (412, "required index state not present", StoreErrorKind::Unavailable, false),
            (429, "request path \"p\": rate limit quota exceeded", StoreErrorKind::Throttled, false),
            (500, "1 error occurred:\n\t* \"y\" is not an allowed role\n\n", StoreErrorKind::Denied, false),
            (500, "1 error occurred:\n\t* dial tcp 127.0.0.1:53306: connect: connection refused\n\n", StoreErrorKind::Unavailable, false),
            (503, "Vault is sealed", StoreErrorKind::Unavailable, false),
            (504, "", StoreErrorKind::Unavailable, true),
            (500, "", StoreErrorKind::Unavailable, true),
        ] {
            let errors = if body.is_empty() { Vec::new() } else { vec![body.to_owned()] };
            let error = explain("reading a", Failure::Refused(Refused::of(status, errors, serde_json::Value::Null)));
            assert_eq!((error.kind, error.ambiguous), (kind, ambiguous), "{status} {body}");
            assert!(!error.detail.contains('\n'), "{error}");
        }
        assert!(explain("x", Failure::Unanswered("reset".into())).ambiguous);
        assert!(!explain("x", Failure::Unreached("refused".into())).ambiguous);
    }
}
