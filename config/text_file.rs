//! A file, read whole within a bound: as it is, or as text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

/// Reads a regular file of at most `limit` bytes. Blocks.
///
/// # Errors
/// A text for the operator: it names the file and never what it holds.
pub fn read_file(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("the file {shown} cannot be read: {error}");
    // A pipe could keep us waiting for ever, from the open on.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{shown} is no regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(file.metadata().map_err(failed)?.len().min(limit)).unwrap_or_default()));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
        return Err(format!("the file {shown} is larger than {limit} bytes"));
    }
    Ok(bytes)
}

/// The same, of a text.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Zeroizing<String>, String> {
    let mut bytes = read_file(path, limit)?;
    match String::from_utf8(std::mem::take(&mut bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(format!("the file {} is not UTF-8 text", path.display()))
        }
    }
}
