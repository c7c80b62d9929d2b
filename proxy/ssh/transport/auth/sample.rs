//! For tests: keys of every type that sign, with and without certificates, and an owner who takes them.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

use super::message::{self, METHOD};
use super::question::{Offer, Offers, Question, Verdict};
use super::server::{Limits, Server, Step};
use crate::key::{KeyType, PublicKey, SIGNATURE_ALGORITHMS, SkPolicy};
use crate::keygen::{Keygen, TYPES};
use crate::sign::{CannotSign, Certified, Signer, read_private_key};
use crate::wire::Put;

pub(super) const SESSION: &[u8] = b"the hash of the first key exchange";
pub(super) const HOST_KEY: &[u8] = b"the blob of our host key";
pub(super) const PASSWORD: &str = "CorrectHorseBatteryStaple";

/// What is answered to a proof.
pub(super) const UNDER_TOUCH: Verdict = Verdict::AcceptedUnder(SkPolicy::TOUCH);

pub(super) const TOUCHED: u8 = 0x01;
pub(super) const VERIFIED: u8 = 0x04;

/// A security key in software.
pub(super) struct SecurityKey {
    pair: Pair,
    public: PublicKey,
    flags: u8,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl SecurityKey {
    pub(super) fn ed25519(flags: u8) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let mut blob = Vec::new();
        blob.put_string(KeyType::SkEd25519.name()).put_string(pair.public_key()).put_string("ssh:");
        Self { pair: Pair::Ed25519(pair), public: PublicKey::parse(&blob).unwrap(), flags }
    }

    pub(super) fn ecdsa(flags: u8) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let mut blob = Vec::new();
        blob.put_string(KeyType::SkEcdsaP256.name()).put_string("nistp256").put_string(pair.public_key()).put_string("ssh:");
        Self { pair: Pair::Ecdsa(pair), public: PublicKey::parse(&blob).unwrap(), flags }
    }
}

impl Signer for SecurityKey {
    fn algorithms(&self) -> &'static [&'static str] {
        self.public.kind().algorithms()
    }

    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, algorithm: &str, data: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let mut signed = digest(&SHA256, b"ssh:").as_ref().to_vec();
        signed.put_u8(self.flags).put_u32(7).put_bytes(digest(&SHA256, data).as_ref());
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(&signed).as_ref().to_vec(),
            Pair::Ecdsa(pair) => {
                let fixed = pair.sign(&SystemRandom::new(), &signed).unwrap();
                let (r, s) = fixed.as_ref().split_at(32);
                let mut numbers = Vec::new();
                numbers.put_mpint(r).put_mpint(s);
                numbers
            }
        };
        let mut blob = Vec::new();
        blob.put_string(algorithm).put_string(signature).put_u8(self.flags).put_u32(7);
        Ok(blob)
    }
}

/// One of every type that `ssh-keygen` makes, and security keys that are touched.
pub(super) fn signers() -> &'static [Arc<dyn Signer>] {
    &made().0
}

/// The same with certificates for alice; security keys have none here, since `ssh-keygen` cannot read theirs without a device.
pub(super) fn certified() -> &'static [Arc<dyn Signer>] {
    &made().1
}

/// Any of them.
pub(super) fn signer() -> Arc<dyn Signer> {
    Arc::clone(&signers()[0])
}

pub(super) fn rsa() -> Arc<dyn Signer> {
    Arc::clone(signers().iter().find(|signer| signer.public().kind() == KeyType::Rsa).unwrap())
}

type Signers = Vec<Arc<dyn Signer>>;

fn made() -> &'static (Signers, Signers) {
    static MADE: OnceLock<(Signers, Signers)> = OnceLock::new();
    MADE.get_or_init(|| {
        let keygen = Keygen::new();
        keygen.key("authority", &["-t", "ed25519"]);
        let (mut signers, mut certified) = (Signers::new(), Signers::new());
        for (number, (kind, _)) in TYPES.into_iter().enumerate() {
            let name = format!("key{number}");
            keygen.key(&name, kind);
            let signer: Arc<dyn Signer> = Arc::from(read_private_key(keygen.read(&name).as_bytes(), None).unwrap());
            let certificate = keygen.certificate("authority", &name, &["-n", "alice"]);
            certified.push(Arc::new(Certified::new(Arc::clone(&signer), &certificate).unwrap()) as Arc<dyn Signer>);
            signers.push(signer);
        }
        signers.push(Arc::new(SecurityKey::ed25519(TOUCHED)));
        signers.push(Arc::new(SecurityKey::ecdsa(TOUCHED)));
        (signers, certified)
    })
}

pub(super) fn all_offers() -> Offers {
    Offers::new(&SIGNATURE_ALGORITHMS, Offer::Yes, Offer::Yes)
}

/// A server in whose session the service was asked for already.
pub(super) fn server() -> Server {
    server_with(all_offers())
}

pub(super) fn server_with(offers: Offers) -> Server {
    let mut server = Server::new(SESSION, HOST_KEY, offers, Limits::default(), None);
    assert!(matches!(server.receive(&message::service_request(message::USERAUTH_SERVICE)), Ok(Step::Send(_))));
    server
}

/// A signed request of this user with the first algorithm of the key.
pub(super) fn signed_request(user: &str, signer: &dyn Signer) -> Vec<u8> {
    signed(message::key_request(user, signer.algorithms()[0], signer.blob()), signer, SESSION)
}

/// Puts the signature behind a request.
pub(super) fn signed(mut request: Vec<u8>, signer: &dyn Signer, session_id: &[u8]) -> Vec<u8> {
    let signature = signer.sign(signer.algorithms()[0], &message::signed_data(session_id, &request)).unwrap();
    request.put_string(signature);
    request
}

/// "Would you take this key?"
pub(super) fn query(user: &str, algorithm: &str, blob: &[u8]) -> Vec<u8> {
    let mut message = vec![message::REQUEST];
    message.put_string(user).put_string(message::CONNECTION_SERVICE).put_string(message::PUBLICKEY);
    message.put_bool(false).put_string(algorithm).put_string(blob);
    message
}

/// A request that is bound to a host key, without its signature.
pub(super) fn bound_request(user: &str, signer: &dyn Signer, host_key: &[u8]) -> Vec<u8> {
    let mut message = vec![message::REQUEST];
    message.put_string(user).put_string(message::CONNECTION_SERVICE).put_string(message::PUBLICKEY_HOSTBOUND);
    message.put_bool(true).put_string(signer.algorithms()[0]).put_string(signer.blob()).put_string(host_key);
    message
}

/// An info request with these prompts: whether each shows what is typed.
pub(super) fn prompts(shown: &[bool]) -> Vec<u8> {
    let mut message = vec![METHOD];
    message.put_string("").put_string("").put_string("").put_u32(u32::try_from(shown.len()).unwrap());
    for &shown in shown {
        message.put_string("Password: ").put_bool(shown);
    }
    message
}

/// An owner who takes every key of ours, and alice's password.
pub(super) fn owner(question: Question) -> Verdict {
    let known = |key: &PublicKey| signers().iter().any(|signer| signer.public() == key);
    let yes = match question {
        Question::Nothing => false,
        Question::Query(presented) => known(presented.key()),
        Question::Proof(presented, _) if known(presented.key()) => return UNDER_TOUCH,
        Question::Proof(..) => false,
        Question::Password(password) => *password.expose() == PASSWORD.as_bytes(),
        Question::Interactive => return Verdict::Ask(super::Prompts::password()),
        Question::Responses(responses) => {
            matches!(<[_; 1]>::try_from(responses), Ok([only]) if *only.clone().expose() == PASSWORD.as_bytes())
        }
    };
    if yes { Verdict::Accepted } else { Verdict::Refused }
}
