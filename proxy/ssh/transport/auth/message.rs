//! The messages of user authentication as bytes: RFC 4252 sections 5 to 8, RFC 4256 section 3, and the bound kind of `publickey` (OpenSSH
//! PROTOCOL section 3.1). Readers borrow from the message; whatever is left over behind a message is an error.

use zeroize::Zeroizing;

use super::prompts::{Echo, PROMPTS_MAX, Prompts};
use crate::message::{SERVICE_ACCEPT, SERVICE_REQUEST};
use crate::wire::{Malformed, Put, Reader};

/// "I am this user, and here is why."
pub(super) const REQUEST: u8 = 50;
/// Not yet, or not like this.
pub(super) const FAILURE: u8 = 51;
/// You are in.
pub(super) const SUCCESS: u8 = 52;
/// A text before the login.
pub(super) const BANNER: u8 = 53;
/// The method's own: the key would be taken; the password must be changed; prompts.
pub(super) const METHOD: u8 = 60;
/// Answers to prompts.
pub(super) const INFO_RESPONSE: u8 = 61;

pub(super) const USERAUTH_SERVICE: &[u8] = b"ssh-userauth";
pub(super) const CONNECTION_SERVICE: &[u8] = b"ssh-connection";

pub(super) const NONE: &str = "none";
pub(super) const PUBLICKEY: &str = "publickey";
pub(super) const PUBLICKEY_HOSTBOUND: &str = "publickey-hostbound-v00@openssh.com";
pub(super) const PASSWORD: &str = "password";
pub(super) const INTERACTIVE: &str = "keyboard-interactive";

/// Methods that a server lists.
const METHODS_MAX: usize = 64;

/// A request (RFC 4252 section 5).
pub(super) struct Request<'a> {
    pub(super) user: &'a str,
    pub(super) service: &'a [u8],
    pub(super) method: Method<'a>,
}

/// What the user would prove itself with.
pub(super) enum Method<'a> {
    None,
    PublicKey(KeyRequest<'a>),
    Password(&'a [u8]),
    /// A new password for an old one.
    PasswordChange,
    Interactive,
    Other(&'a [u8]),
}

/// `publickey`, plain and bound.
pub(super) struct KeyRequest<'a> {
    pub(super) algorithm: &'a [u8],
    pub(super) blob: &'a [u8],
    pub(super) bound: Bound<'a>,
    /// Without one it is a query.
    pub(super) signature: Option<Signed<'a>>,
}

/// Does the request name the host key that it is for?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound<'a> {
    ToNone,
    To(&'a [u8]),
}

/// A signature, and what it is over besides the session's identifier: the bytes of the request before it, as they came (rule 18).
pub(super) struct Signed<'a> {
    pub(super) request: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads it with its number.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = body(message, REQUEST)?;
        let (user, service, method) = (reader.text()?, reader.string()?, reader.string()?);
        let method = match str::from_utf8(method) {
            Ok(NONE) => Method::None,
            Ok(PUBLICKEY) => Method::PublicKey(KeyRequest::read(&mut reader, message, PUBLICKEY)?),
            Ok(PUBLICKEY_HOSTBOUND) => Method::PublicKey(KeyRequest::read(&mut reader, message, PUBLICKEY_HOSTBOUND)?),
            Ok(PASSWORD) => {
                let change = reader.boolean()?;
                let password = reader.string()?;
                if change {
                    reader.string()?;
                    Method::PasswordChange
                } else {
                    Method::Password(password)
                }
            }
            Ok(INTERACTIVE) => {
                // A language, and a hint at which of its methods the client would like; neither changes anything here.
                reader.string()?;
                reader.string()?;
                Method::Interactive
            }
            // What is behind the name of a method that we do not know cannot be read.
            _ => return Ok(Self { user, service, method: Method::Other(method) }),
        };
        reader.end()?;
        Ok(Self { user, service, method })
    }
}

impl<'a> KeyRequest<'a> {
    fn read(reader: &mut Reader<'a>, message: &'a [u8], method: &str) -> Result<Self, Malformed> {
        let signs = reader.boolean()?;
        let (algorithm, blob) = (reader.string()?, reader.string()?);
        let bound = if method == PUBLICKEY_HOSTBOUND { Bound::To(reader.string()?) } else { Bound::ToNone };
        let signature = if signs {
            let before = message.len().saturating_sub(reader.rest().len());
            let request = message.get(..before).ok_or(Malformed("a message is shorter than it says"))?;
            Some(Signed { request, signature: reader.string()? })
        } else {
            None
        };
        Ok(Self { algorithm, blob, bound, signature })
    }
}

/// What a signature of a request is over (RFC 4252 section 7). `request` is all of it that comes before the signature.
pub(super) fn signed_data(session_id: &[u8], request: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(session_id.len().saturating_add(request.len()).saturating_add(4));
    data.put_string(session_id).put_bytes(request);
    data
}

/// The answers to so many prompts. `None`: it brings another number of them, for which RFC 4256 section 3.4 wants a failure.
pub(super) fn read_responses(message: &[u8], prompts: usize) -> Result<Option<Vec<&[u8]>>, Malformed> {
    let mut reader = body(message, INFO_RESPONSE)?;
    if usize::try_from(reader.u32()?) != Ok(prompts) {
        return Ok(None);
    }
    let responses = (0..prompts).map(|_| reader.string()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(Some(responses))
}

/// The service that is asked for (RFC 4253 section 10).
pub(super) fn read_service_request(message: &[u8]) -> Result<&[u8], Malformed> {
    read_service(message, SERVICE_REQUEST)
}

/// The service that is to be had.
pub(super) fn read_service_accept(message: &[u8]) -> Result<&[u8], Malformed> {
    read_service(message, SERVICE_ACCEPT)
}

fn read_service(message: &[u8], number: u8) -> Result<&[u8], Malformed> {
    let mut reader = body(message, number)?;
    let service = reader.string()?;
    reader.end()?;
    Ok(service)
}

/// A failure: what may help, and whether what was shown has helped already (RFC 4252 section 5.1).
pub(super) fn read_failure(message: &[u8]) -> Result<(Vec<&str>, bool), Malformed> {
    let mut reader = body(message, FAILURE)?;
    let (methods, partial) = (reader.name_list()?, reader.boolean()?);
    reader.end()?;
    if methods.len() > METHODS_MAX {
        return Err(Malformed("a server lists too many methods"));
    }
    Ok((methods, partial))
}

/// A success is its number.
pub(super) fn read_success(message: &[u8]) -> Result<(), Malformed> {
    body(message, SUCCESS)?.end()
}

/// A banner's text, not escaped.
pub(super) fn read_banner(message: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = body(message, BANNER)?;
    let (text, _language) = (reader.string()?, reader.string()?);
    reader.end()?;
    Ok(text)
}

/// Whether each prompt of a request shows what is typed; what they say is not for a machine.
pub(super) fn read_prompts(message: &[u8]) -> Result<Vec<Echo>, Malformed> {
    let mut reader = body(message, METHOD)?;
    let (_name, _instruction, _language) = (reader.string()?, reader.string()?, reader.string()?);
    let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    if count > PROMPTS_MAX {
        return Err(Malformed("a server asks for too much at once"));
    }
    let mut prompts = Vec::with_capacity(count);
    for _ in 0..count {
        reader.string()?;
        prompts.push(if reader.boolean()? { Echo::Shown } else { Echo::Hidden });
    }
    reader.end()?;
    Ok(prompts)
}

fn body(message: &[u8], number: u8) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader::new(message);
    if reader.u8()? == number { Ok(reader) } else { Err(Malformed("another message than the one that is read")) }
}

pub(super) fn service_request(service: &[u8]) -> Vec<u8> {
    let mut message = vec![SERVICE_REQUEST];
    message.put_string(service);
    message
}

pub(super) fn service_accept(service: &[u8]) -> Vec<u8> {
    let mut message = vec![SERVICE_ACCEPT];
    message.put_string(service);
    message
}

pub(super) fn failure(methods: &[&str]) -> Vec<u8> {
    let mut message = vec![FAILURE];
    message.put_names(methods).put_bool(false);
    message
}

pub(super) fn success() -> Vec<u8> {
    vec![SUCCESS]
}

pub(super) fn banner(text: &str) -> Vec<u8> {
    let mut message = vec![BANNER];
    message.put_string(text).put_string("");
    message
}

pub(super) fn key_would_do(algorithm: &str, blob: &[u8]) -> Vec<u8> {
    let mut message = vec![METHOD];
    message.put_string(algorithm).put_string(blob);
    message
}

pub(super) fn prompts(prompts: &Prompts) -> Vec<u8> {
    let mut message = vec![METHOD];
    message.put_string("").put_string(&prompts.instruction).put_string("");
    message.put_u32(u32::try_from(prompts.prompts.len()).unwrap_or(u32::MAX));
    for prompt in &prompts.prompts {
        message.put_string(&prompt.text).put_bool(prompt.echo == Echo::Shown);
    }
    message
}

/// A request up to its method's name.
fn request(user: &str, method: &str, room: usize) -> Vec<u8> {
    // The names, five lengths and a flag: so that no copy of a secret is left behind where a longer buffer was needed.
    let mut message = Vec::with_capacity(user.len().saturating_add(room).saturating_add(128));
    message.put_u8(REQUEST).put_string(user).put_string(CONNECTION_SERVICE).put_string(method);
    message
}

pub(super) fn none_request(user: &str) -> Vec<u8> {
    request(user, NONE, 0)
}

/// A request that will be signed, without its signature.
pub(super) fn key_request(user: &str, algorithm: &str, blob: &[u8]) -> Vec<u8> {
    let mut message = request(user, PUBLICKEY, blob.len());
    message.put_bool(true).put_string(algorithm).put_string(blob);
    message
}

pub(super) fn password_request(user: &str, password: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut message = Zeroizing::new(request(user, PASSWORD, password.len()));
    message.put_bool(false).put_string(password);
    message
}

pub(super) fn interactive_request(user: &str) -> Vec<u8> {
    let mut message = request(user, INTERACTIVE, 0);
    message.put_string("").put_string("");
    message
}

pub(super) fn no_responses() -> Vec<u8> {
    let mut message = vec![INFO_RESPONSE];
    message.put_u32(0);
    message
}

pub(super) fn one_response(response: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut message = Zeroizing::new(Vec::with_capacity(response.len().saturating_add(16)));
    message.put_u8(INFO_RESPONSE).put_u32(1).put_string(response);
    message
}

#[cfg(test)]
mod tests;
