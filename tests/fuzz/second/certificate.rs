//! Certificates read a second time (PROTOCOL.certkeys) and, where it can, a third time by ssh-key.

use keyward_ssh_transport::key::PublicKey;

use crate::wire::{Value, begin, whole};

/// The name of the certificate, the one of the key inside, and the letters of that key.
const KINDS: [(&str, &str, &str); 7] = [
    ("ssh-rsa-cert-v01@openssh.com", "ssh-rsa", "ss"),
    ("ecdsa-sha2-nistp256-cert-v01@openssh.com", "ecdsa-sha2-nistp256", "ss"),
    ("ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp384", "ss"),
    ("ecdsa-sha2-nistp521-cert-v01@openssh.com", "ecdsa-sha2-nistp521", "ss"),
    ("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", "s"),
    ("sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com", "ss"),
    ("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "sss"),
];

type Options<'a> = Vec<(&'a [u8], &'a [u8])>;

/// All that a certificate says.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Bytes of the whole.
    length: usize,
    kind: &'static str,
    nonce: &'a [u8],
    key: Vec<&'a [u8]>,
    pub serial: u64,
    /// 1: a user's, 2: a host's.
    pub role: u64,
    pub key_id: &'a [u8],
    pub principals: Vec<&'a [u8]>,
    pub valid_after: u64,
    pub valid_before: u64,
    pub critical: Options<'a>,
    pub extensions: Options<'a>,
    pub authority: &'a [u8],
    pub signature: &'a [u8],
    /// The bytes before the authority's key.
    pub before_authority: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `None`: it is no certificate.
    pub fn read(blob: &'a [u8]) -> Option<Self> {
        let (name, _) = begin("s", blob)?;
        let (_, kind, key) = KINDS.into_iter().find(|(certificate, ..)| name == [Value::Bytes(certificate.as_bytes())])?;
        let (values, length) = begin(&format!("ss{key}lussllsss"), blob)?;
        let (first, rest) = values.split_at(2 + key.len());
        let [Value::Bytes(_), Value::Bytes(nonce), key @ ..] = first else { panic!() };
        let [Value::Number(serial), Value::Number(role), Value::Bytes(key_id), Value::Bytes(principals), rest @ ..] = rest else {
            panic!()
        };
        let [Value::Number(valid_after), Value::Number(valid_before), rest @ ..] = rest else { panic!() };
        let [Value::Bytes(critical), Value::Bytes(extensions), Value::Bytes(_reserved)] = rest else { panic!() };
        let signed = whole("ss", &blob[length..])?;
        let [Value::Bytes(authority), Value::Bytes(signature)] = signed[..] else { panic!() };
        Some(Self {
            length: blob.len(),
            kind,
            nonce,
            key: key.iter().map(bytes).collect(),
            serial: *serial,
            role: *role,
            key_id,
            principals: list("s", principals)?.iter().map(|one| bytes(&one[0])).collect(),
            valid_after: *valid_after,
            valid_before: *valid_before,
            critical: options(critical)?,
            extensions: options(extensions)?,
            authority,
            signature,
            before_authority: &blob[..length],
        })
    }

    /// The key inside in the one way to write it. Numbers of RSA with needless zeros are forgiven in a certificate, as OpenSSH does.
    pub fn plain_key(&self) -> Vec<u8> {
        let mut blob = string(self.kind.as_bytes());
        for part in &self.key {
            let digits = part.iter().position(|byte| *byte != 0).unwrap_or(part.len());
            match part.get(digits) {
                _ if self.kind != "ssh-rsa" || digits == 0 => blob.extend(string(part)),
                Some(0x80..) => blob.extend(string(&part[digits - 1..])),
                _ => blob.extend(string(&part[digits..])),
            }
        }
        blob
    }

    /// Whether Keyward should read it. It is stricter than OpenSSH in this: the names of options ascend, there are at most 64 of them, and
    /// both keys are such as it takes elsewhere.
    pub fn is_acceptable(&self) -> bool {
        let ordered = |options: &Options<'_>| options.len() <= 64 && options.windows(2).all(|pair| pair[0].0 < pair[1].0);
        self.length <= 32 * 1024
            && matches!(self.role, 1 | 2)
            && self.principals.len() <= 256
            && ordered(&self.critical)
            && ordered(&self.extensions)
            && PublicKey::parse(&self.plain_key()).is_ok()
            && PublicKey::parse(self.authority).is_ok()
    }

    /// Why ssh-key 0.6 does not read a certificate that Keyward does, or reads it in another way. In each of these Keyward is right:
    pub fn beyond_ssh_key(&self) -> Option<&'static str> {
        let text = |bytes: &[u8]| str::from_utf8(bytes).is_ok();
        let options = || self.critical.iter().chain(&self.extensions);
        // RFC 4251 section 5: a string is any bytes, unless what uses it says otherwise; PROTOCOL.certkeys does not, and OpenSSH takes all but
        // NUL. Keyward compares principals byte for byte, and escapes a key id before it is shown.
        if !text(self.key_id) || !self.principals.iter().all(|name| text(name)) || !options().all(|(name, _)| text(name)) {
            return Some("a key id, a principal or the name of an option is not UTF-8");
        }
        // PROTOCOL.certkeys: any uint64; "always" ends at the greatest of all.
        if self.valid_after.max(self.valid_before) > i64::MAX.unsigned_abs() {
            return Some("a time does not fit into 63 bits");
        }
        // What the data of an option is, its name says. For ssh-key it is nothing or one text; what is behind that text it takes for the next
        // option, and a text that is empty it does not tell from none.
        if !options().all(|(_, data)| data.is_empty() || single(data).is_some_and(|inside| !inside.is_empty() && text(inside))) {
            return Some("the data of an option is not one text");
        }
        // PROTOCOL.u2f says no more of it than RFC 4251 of a string.
        if self.kind.starts_with("sk-") && !self.key.last().is_some_and(|application| text(application)) {
            return Some("the application of a security key is not UTF-8");
        }
        // RFC 4251 section 5: they must not be there. OpenSSH forgives them too, and Keyward trusts and revokes the key as it should be written.
        if self.kind == "ssh-rsa" && self.key.iter().any(|part| matches!(part, [0] | [0, 0..=0x7f, ..])) {
            return Some("a number has needless zeros");
        }
        None
    }

    /// ssh-key has read the same.
    pub fn hold_against(&self, other: &ssh_key::Certificate) {
        assert_eq!(other.nonce(), self.nonce);
        assert_eq!(ssh_key::PublicKey::from(other.public_key().clone()).to_bytes().unwrap(), self.plain_key());
        assert_eq!((other.serial(), u64::from(u32::from(other.cert_type()))), (self.serial, self.role));
        assert_eq!(other.key_id().as_bytes(), self.key_id);
        assert!(other.valid_principals().iter().map(|name| name.as_bytes()).eq(self.principals.iter().copied()));
        assert_eq!((other.valid_after(), other.valid_before()), (self.valid_after, self.valid_before));
        for (theirs, ours) in [(other.critical_options(), &self.critical), (other.extensions(), &self.extensions)] {
            let ours = ours.iter().map(|(name, data)| (*name, single(data).unwrap_or_default()));
            assert!(theirs.iter().map(|(name, data)| (name.as_bytes(), data.as_bytes())).eq(ours));
        }
        assert_eq!(ssh_key::PublicKey::from(other.signature_key().clone()).to_bytes().unwrap(), self.authority);
    }
}

/// The one string that the data of an option is.
pub fn single(data: &[u8]) -> Option<&[u8]> {
    whole("s", data).map(|values| bytes(&values[0]))
}

/// A string, written.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn bytes<'a>(value: &Value<'a>) -> &'a [u8] {
    match value {
        Value::Bytes(bytes) => bytes,
        Value::Number(_) => panic!(),
    }
}

fn options(list_of: &[u8]) -> Option<Options<'_>> {
    Some(list("ss", list_of)?.iter().map(|one| (bytes(&one[0]), bytes(&one[1]))).collect())
}

/// The letters as often as there are bytes for them.
fn list<'a>(letters: &str, mut bytes: &'a [u8]) -> Option<Vec<Vec<Value<'a>>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (one, length) = begin(letters, bytes)?;
        bytes = &bytes[length..];
        all.push(one);
    }
    Some(all)
}
