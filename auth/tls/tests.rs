use std::io::Cursor;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, NameConstraints, SanType,
    date_time_ymd,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::*;

/// A certificate and its key.
struct Made {
    certificate: CertificateDer<'static>,
    params: CertificateParams,
    key: KeyPair,
}

impl Made {
    fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap().into(), params, key }
    }

    fn sign(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        Self { certificate: params.signed_by(&key, &issuer).unwrap().into(), params, key }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        own_roots(vec![self.certificate.clone()]).unwrap()
    }

    fn pin(&self) -> [u8; 32] {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate).unwrap();
        digest(&SHA256, parsed.tbs_certificate.subject_pki.raw).as_ref().try_into().unwrap()
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// For `localhost`, and an authority's.
fn authority_for_localhost(name: &str) -> CertificateParams {
    let mut params = authority(name);
    params.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
    params
}

/// Shows a certificate whether or not the key is the certificate's.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A whole handshake with `localhost`, which shows `chain` and signs with `key`.
fn handshake(trust: Trust, chain: &[&CertificateDer<'static>], key: &KeyPair) -> Result<(), rustls::Error> {
    let provider = Arc::new(default_provider());
    let key = provider.key_provider.load_private_key(PrivatePkcs8KeyDer::from(key.serialize_der()).into()).unwrap();
    let shown = Arc::new(CertifiedKey::new(chain.iter().map(|&certificate| certificate.clone()).collect(), key));
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_cert_resolver(Arc::new(Shows(shown)));
    let client = trust.client().unwrap().with_no_client_auth();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut Cursor::new(&bytes)).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut Cursor::new(&bytes)).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

fn refusal(trust: Trust, server: &Made) -> CertificateError {
    match handshake(trust, &[&server.certificate], &server.key) {
        Err(rustls::Error::InvalidCertificate(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_file_of_certificates_or_is_an_endless_one_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("long.pem");
    std::fs::File::create(&long).unwrap().set_len(super::MAX_PEM + 1).unwrap();
    for path in [Path::new("/dev/zero"), folder.path(), &long] {
        for error in [certificates(path).err(), private_key(path).err()] {
            let error = error.unwrap_or_else(|| panic!("{}", path.display()));
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}

#[test]
fn a_certificate_without_a_name_as_mysql_makes_it_is_enough_for_the_chain_and_not_for_the_name() {
    let ca = Made::self_signed(authority("MySQL_Server_9.7.4_Auto_Generated_CA_Certificate"));
    let mut params = named("MySQL_Server_9.7.4_Auto_Generated_Server_Certificate");
    params.is_ca = IsCa::ExplicitNoCa;
    let server = ca.sign(params);
    handshake(Trust::Chain(ca.roots()), &[&server.certificate], &server.key).unwrap();
    handshake(Trust::Key(server.pin()), &[&server.certificate], &server.key).unwrap();
    assert!(matches!(
        refusal(Trust::Name(ca.roots()), &server),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ));
}

#[test]
fn a_server_may_show_an_authoritys_certificate_that_an_own_authority_signed() {
    let ca = Made::self_signed(authority("ours"));
    let server = ca.sign(authority_for_localhost("server"));
    handshake(Trust::Chain(ca.roots()), &[&server.certificate], &server.key).unwrap();
    handshake(Trust::Chain(ca.roots()), &[&server.certificate, &ca.certificate], &server.key).unwrap();
    handshake(Trust::Key(server.pin()), &[&server.certificate], &server.key).unwrap();
    assert!(matches!(refusal(Trust::Name(ca.roots()), &server), CertificateError::Other(_)), "verify-full stays strict");
}

#[test]
fn a_server_may_show_the_very_certificate_that_is_trusted() {
    let itself = Made::self_signed(authority_for_localhost("db-1"));
    handshake(Trust::Chain(itself.roots()), &[&itself.certificate], &itself.key).unwrap();
    let of_a_stranger = Made::self_signed(authority("elsewhere")).sign(authority("db-2"));
    handshake(Trust::Chain(of_a_stranger.roots()), &[&of_a_stranger.certificate], &of_a_stranger.key).unwrap();
    assert!(matches!(refusal(Trust::Name(itself.roots()), &itself), CertificateError::Other(_)), "verify-full stays strict");
}

#[test]
fn a_server_without_the_key_of_its_certificate_is_refused() {
    let ca = Made::self_signed(authority("ours"));
    let server = ca.sign(authority("server"));
    let thief = KeyPair::generate().unwrap();
    for trust in [Trust::Chain(ca.roots()), Trust::Chain(server.roots()), Trust::Key(server.pin())] {
        let refused = handshake(trust, &[&server.certificate], &thief).unwrap_err();
        assert_eq!(refused, rustls::Error::InvalidCertificate(CertificateError::BadSignature));
    }
}

#[test]
fn an_authority_that_is_not_ours_is_refused() {
    let ca = Made::self_signed(authority("ours"));
    let stranger = Made::self_signed(authority("a stranger"));
    assert_eq!(refusal(Trust::Chain(ca.roots()), &stranger), CertificateError::UnknownIssuer);
    assert_eq!(refusal(Trust::Chain(ca.roots()), &stranger.sign(authority("server"))), CertificateError::UnknownIssuer);
    let namesake = Made::self_signed(authority("ours"));
    assert_eq!(refusal(Trust::Chain(ca.roots()), &namesake), CertificateError::BadSignature);
    assert_eq!(refusal(Trust::Chain(ca.roots()), &namesake.sign(authority("server"))), CertificateError::BadSignature);
    let pinned = Trust::Key(ca.sign(authority("server")).pin());
    assert_eq!(refusal(pinned, &ca.sign(authority("server"))), CertificateError::ApplicationVerificationFailure);
}

#[test]
fn an_authority_of_an_authority_of_ours_is_refused() {
    let ca = Made::self_signed(authority("ours"));
    let between = ca.sign(authority("between"));
    let server = between.sign(authority("server"));
    let refused = handshake(Trust::Chain(ca.roots()), &[&server.certificate, &between.certificate], &server.key).unwrap_err();
    assert_eq!(refused, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
}

#[test]
fn an_authoritys_certificate_is_refused_for_what_any_other_is_refused_for() {
    let ca = Made::self_signed(authority("ours"));
    let refused = |change: fn(&mut CertificateParams)| {
        let mut params = authority("server");
        change(&mut params);
        refusal(Trust::Chain(ca.roots()), &ca.sign(params))
    };
    assert_eq!(refused(|params| params.not_after = date_time_ymd(2020, 1, 1)), CertificateError::Expired);
    assert_eq!(refused(|params| params.not_before = date_time_ymd(3000, 1, 1)), CertificateError::NotValidYet);
    assert_eq!(refused(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), CertificateError::InvalidPurpose);
    let unknown = |params: &mut CertificateParams| {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 99], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    assert!(matches!(refused(unknown), CertificateError::Other(_)));
}

#[test]
fn an_authoritys_certificate_that_was_changed_is_refused() {
    let ca = Made::self_signed(authority("ours"));
    let mut server = ca.sign(authority("server"));
    let mut bytes = server.certificate.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    server.certificate = bytes.into();
    assert_eq!(refusal(Trust::Chain(ca.roots()), &server), CertificateError::BadSignature);
}

#[test]
fn an_authority_for_some_names_only_signs_no_authority_as_a_server() {
    let mut params = authority("ours");
    let permitted_subtrees = vec![GeneralSubtree::DnsName("localhost".to_owned())];
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    let ca = Made::self_signed(params);
    assert_eq!(refusal(Trust::Chain(ca.roots()), &ca.sign(authority("server"))), CertificateError::UnknownIssuer);
}
