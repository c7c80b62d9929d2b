//! The binary lists of `ssh-keygen -k` (PROTOCOL.krl). What we do not know may revoke something, so a list that has it is no list.

use super::{Certificates, Revocations, Serials};
use crate::wire::{Malformed, Reader};

/// What a list begins with.
pub(super) const MAGIC: &[u8] = b"SSHKRL\n\0";
/// The one version of the format.
const VERSION: u32 = 1;

/// Reads a list.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(list: &[u8]) -> Result<Revocations, Malformed> {
    let mut reader = Reader::new(list.strip_prefix(MAGIC).ok_or(Malformed("not a revocation list"))?);
    if reader.u32()? != VERSION {
        return Err(Malformed("a revocation list of an unknown version"));
    }
    for _ in ["its number", "its time", "its flags"] {
        reader.u64()?;
    }
    for _ in ["reserved", "its comment"] {
        reader.string()?;
    }
    let mut revocations = Revocations::default();
    while !reader.is_empty() {
        let (kind, section) = (reader.u8()?, reader.string()?);
        match kind {
            1 => revocations.certificates.push(certificates(section)?),
            2 => revocations.keys.extend(strings(section)?),
            3 => revocations.sha1.extend(strings(section)?),
            5 => revocations.sha256.extend(strings(section)?),
            255 => extension(section)?,
            // 4 is a signature, which OpenSSH does not check any more.
            _ => return Err(Malformed("a revocation list with a section of an unknown kind")),
        }
    }
    Ok(revocations)
}

fn certificates(section: &[u8]) -> Result<Certificates, Malformed> {
    let mut reader = Reader::new(section);
    let authority = Some(reader.string()?).filter(|authority| !authority.is_empty()).map(<[u8]>::to_vec);
    reader.string()?; // reserved
    let mut certificates = Certificates { authority, ..Certificates::default() };
    while !reader.is_empty() {
        let (kind, section) = (reader.u8()?, reader.string()?);
        let mut inside = Reader::new(section);
        match kind {
            0x20 => {
                while !inside.is_empty() {
                    let serial = inside.u64()?;
                    certificates.serials.push(Serials::Range(serial..=serial));
                }
            }
            0x21 => {
                let (from, to) = (inside.u64()?, inside.u64()?);
                inside.end()?;
                if from > to {
                    return Err(Malformed("a revocation list with a range that ends before it begins"));
                }
                certificates.serials.push(Serials::Range(from..=to));
            }
            0x22 => {
                let (first, bits) = (inside.u64()?, inside.mpint()?.to_vec());
                inside.end()?;
                certificates.serials.push(Serials::Bitmap { first, bits });
            }
            0x23 => certificates.ids.extend(strings(section)?),
            0x39 => extension(section)?,
            _ => return Err(Malformed("a revocation list with certificates in an unknown way")),
        }
    }
    Ok(certificates)
}

fn strings(section: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut reader = Reader::new(section);
    let mut strings = Vec::new();
    while !reader.is_empty() {
        strings.push(reader.string()?.to_vec());
    }
    Ok(strings)
}

/// We know none. One that is not critical may be left out.
fn extension(section: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(section);
    reader.string()?; // its name
    let critical = reader.boolean()?;
    reader.string()?;
    reader.end()?;
    if critical { Err(Malformed("a revocation list with a critical extension")) } else { Ok(()) }
}
