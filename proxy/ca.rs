//! The local CA in the state folder: certificates for listeners whose admin brought none, so that connect strings can say
//! `sslmode=verify-full`. `keyward ca` prints it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::state::write_private;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// Leaves are made anew at every start; this is how long a process may stay up.
const LEAF_DAYS: i64 = 825;
const CA_DAYS: i64 = 3650;

/// The local CA.
pub struct LocalCa {
    state: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate chain and its key.
pub struct Leaf {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl LocalCa {
    /// Reads the CA from the state folder, or makes it there: ECDSA P-256, ten years.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn open(state: &Path) -> Result<Self, String> {
        let (at, key_at) = (state.join(CERTIFICATE), state.join(KEY));
        if at.exists() && !key_at.exists() {
            // A new one would look the same and be trusted by nobody.
            return Err(format!(
                "{} is there and its key {} is not: bring the key back, or remove the certificate too",
                at.display(),
                key_at.display()
            ));
        }
        if !at.exists() {
            let (pem, key) = make().map_err(|error| format!("the local CA: {error}"))?;
            // The key first: a certificate without its key would look whole at the next start.
            write_private(&key_at, key.as_bytes())?;
            write_private(&at, pem.as_bytes())?;
        }
        let pem = std::fs::read_to_string(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        let key = zeroize::Zeroizing::new(std::fs::read_to_string(&key_at).map_err(|error| format!("{}: {error}", key_at.display()))?);
        let key = KeyPair::from_pem(&key).map_err(|_| format!("{}: not a private key", key_at.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|_| format!("{}: not a CA certificate", at.display()))?;
        Ok(Self { state: state.to_owned(), pem, issuer })
    }

    /// Whether the state folder has one.
    #[must_use]
    pub fn is_there(state: &Path) -> bool {
        state.join(CERTIFICATE).exists()
    }

    /// The state folder that it is in.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The certificate to trust, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a server certificate for these names and addresses.
    ///
    /// # Errors
    /// A text for the operator: a name that no certificate can hold.
    pub fn leaf(&self, names: &[String]) -> Result<Leaf, String> {
        let shown = |error: rcgen::Error| format!("a certificate from the local CA: {error}");
        let mut params = CertificateParams::default();
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(Ia5String::try_from(name.clone()).map_err(shown)?),
            });
        }
        params.distinguished_name = named("Keyward");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        lasting(&mut params, LEAF_DAYS);
        let key = KeyPair::generate().map_err(shown)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(shown)?;
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes()).map_err(|_| "the local CA is not PEM".to_owned())?;
        Ok(Leaf { chain: vec![certificate.der().clone(), ca], key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) })
    }
}

fn make() -> Result<(String, zeroize::Zeroizing<String>), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = named("Keyward local CA");
    lasting(&mut params, CA_DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), zeroize::Zeroizing::new(key.serialize_pem())))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn lasting(params: &mut CertificateParams, days: i64) {
    // Backdated a day: clients' clocks differ. The calendar comes from jiff, since rcgen's setter takes year, month and day.
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day =
        |date: jiff::civil::Date| rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs());
    params.not_before = day(today.saturating_sub(jiff::Span::new().days(1)));
    params.not_after = day(today.saturating_add(jiff::Span::new().days(days)));
}
