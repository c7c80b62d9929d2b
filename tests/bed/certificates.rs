//! A CA and a leaf for `localhost` and 127.0.0.1, as PEM files.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Writes `ca.pem`, `server.pem` and `server.key` to `folder`.
pub fn write(folder: &Path) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(DnType::CommonName, "The CA of the test bed"); // a leaf of the same name would look self-signed
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let leaf_pem = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
    fs::write(folder.join("ca.pem"), ca_pem).unwrap();
    fs::write(folder.join("server.pem"), leaf_pem).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

/// What `pinned_key` says of the certificate in this PEM file.
pub fn pin(certificate: &Path) -> String {
    use base64::Engine;
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.tbs_certificate.subject_pki.raw);
    format!("sha256:{}", base64::engine::general_purpose::STANDARD.encode(digest))
}
