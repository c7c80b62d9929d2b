//! A server that shows an authority's certificate as its own: self-signed ones of `openssl req -x509`, and what some versions of MySQL's
//! tools made. webpki refuses them (`CaUsedAsEndEntity`), OpenSSL does not. Where the name is not verified nothing is lost by taking them:
//! whoever has the key could as well sign an ordinary certificate with it.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::asn1_rs::{Any, FromDer, Tag};
use x509_parser::certificate::X509Certificate;

/// Whether a certificate says that it is an authority's (RFC 5280 §4.2.1.9). One that cannot be parsed does not.
pub(super) fn is_one(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| parsed.is_ca())
}

/// Takes such a certificate if one of `roots` signed it itself, or if its name and key are those of one of `roots`.
///
/// # Errors
/// As webpki's for an ordinary certificate; the same checks but for the one that it is not an authority's.
pub(super) fn verify(
    certificate: &CertificateDer<'_>,
    roots: &RootCertStore,
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    // webpki's parser: version 3, one signature algorithm inside and outside, no critical extension that it does not know.
    ParsedCertificate::try_from(certificate)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
    valid_now(&parsed, now)?;
    for_servers(&parsed)?;
    let signed = Signed::read(certificate, &parsed).ok_or(CertificateError::BadEncoding)?;
    let mut why = CertificateError::UnknownIssuer;
    // An authority for some names only cannot be used here, where nobody looks at the name.
    for root in roots.roots.iter().filter(|root| root.name_constraints.is_none()) {
        if signed.is_of(root) {
            return Ok(());
        }
        if root.subject.as_ref() == signed.issuer {
            if signed.is_signed_by(root, algorithms) {
                return Ok(());
            }
            why = CertificateError::BadSignature;
        }
    }
    Err(why.into())
}

fn valid_now(parsed: &X509Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let now = i64::try_from(now.as_secs()).map_err(|_| CertificateError::Expired)?;
    let validity = parsed.validity();
    match (validity.not_before.timestamp(), validity.not_after.timestamp()) {
        (from, _) if now < from => Err(CertificateError::NotValidYet),
        (_, until) if now > until => Err(CertificateError::Expired),
        _ => Ok(()),
    }
}

/// webpki's rule: an extended key usage, where there is one, names servers.
fn for_servers(parsed: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let usage = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_none_or(|usage| usage.value.server_auth) { Ok(()) } else { Err(CertificateError::InvalidPurpose) }
}

/// What of a certificate its signature is about. Names and keys are the contents of their SEQUENCE, as in `TrustAnchor`.
struct Signed<'a> {
    subject: &'a [u8],
    key: &'a [u8],
    issuer: &'a [u8],
    body: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(certificate: &'a [u8], parsed: &'a X509Certificate<'a>) -> Option<Self> {
        let (after_body, _) = Any::from_der(sequence(certificate)?.0).ok()?;
        let (algorithm, signature) = sequence(after_body)?;
        let body = &parsed.tbs_certificate;
        Some(Self {
            subject: sequence(body.subject.as_raw())?.0,
            key: sequence(body.subject_pki.raw)?.0,
            issuer: sequence(body.issuer.as_raw())?.0,
            body: body.as_ref(),
            algorithm,
            signature: bit_string(signature)?,
        })
    }

    /// No signature is needed: who has the key of an authority is that authority.
    fn is_of(&self, root: &TrustAnchor<'_>) -> bool {
        root.subject.as_ref() == self.subject && root.subject_public_key_info.as_ref() == self.key
    }

    fn is_signed_by(&self, root: &TrustAnchor<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let Some((key_algorithm, key)) = sequence(root.subject_public_key_info.as_ref()) else { return false };
        let Some(key) = bit_string(key) else { return false };
        let mut fitting = algorithms.all.iter().filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm && algorithm.public_key_alg_id().as_ref() == key_algorithm
        });
        fitting.any(|algorithm| algorithm.verify_signature(key, self.body, self.signature).is_ok())
    }
}

/// The contents of a SEQUENCE and what follows it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    (any.tag() == Tag::Sequence).then_some((any.data, rest))
}

/// The bytes of a BIT STRING that has whole ones.
fn bit_string(der: &[u8]) -> Option<&[u8]> {
    let (_, any) = Any::from_der(der).ok()?;
    let (unused, bytes) = any.data.split_first()?;
    (any.tag() == Tag::BitString && *unused == 0).then_some(bytes)
}
