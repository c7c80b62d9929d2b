//! The data types of SSH (RFC 4251 section 5): readers over what a peer sent, total and bounded by it, and writers.

use std::fmt;

#[cfg(test)]
mod tests;

/// Why bytes are no message; the text is for the log and holds nothing of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// What is left to read. Nothing is copied or allocated; an announced length that is longer than what is there is an error at once.
#[derive(Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the first of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Whether all was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `length` bytes as they are.
    ///
    /// # Errors
    /// There are fewer.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("a message is shorter than it says"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes as they are.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("a message is shorter than it says"))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// `byte`.
    ///
    /// # Errors
    /// There is none.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// `boolean`: every value but 0 is true.
    ///
    /// # Errors
    /// There is none.
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        Ok(self.u8()? != 0)
    }

    /// `uint32`.
    ///
    /// # Errors
    /// There are fewer than four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// `uint64`.
    ///
    /// # Errors
    /// There are fewer than eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// `string`: any bytes, the length before them.
    ///
    /// # Errors
    /// It is longer than what is there.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| Malformed("a string is too long"))?)
    }

    /// `string` that must be UTF-8.
    ///
    /// # Errors
    /// It is longer than what is there, or not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// `mpint` that must not be negative, as big-endian bytes without zeros before them. Zeros that need not be there are forgiven.
    ///
    /// # Errors
    /// It is longer than what is there, or negative.
    pub fn mpint(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(Malformed("a number is negative"));
        }
        Ok(without_zeros(bytes))
    }

    /// `name-list`: the names in their order (section 5: no empty name, printable ASCII without spaces).
    ///
    /// # Errors
    /// It is longer than what is there, or one of the names is no name.
    pub fn name_list(&mut self) -> Result<Vec<&'a str>, Malformed> {
        let bytes = self.string()?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let list = std::str::from_utf8(bytes).map_err(|_| Malformed("a name-list is not ASCII"))?;
        list.split(',')
            .map(|name| {
                let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
                named.then_some(name).ok_or(Malformed("a name-list holds what is no name"))
            })
            .collect()
    }

    /// That this was all.
    ///
    /// # Errors
    /// There is more.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("a message is longer than it says")) }
    }
}

fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Writes the data types at the end of a buffer.
pub trait Put {
    /// `byte`.
    fn put_u8(&mut self, value: u8) -> &mut Self;
    /// `boolean`.
    fn put_bool(&mut self, value: bool) -> &mut Self;
    /// `uint32`.
    fn put_u32(&mut self, value: u32) -> &mut Self;
    /// `uint64`.
    fn put_u64(&mut self, value: u64) -> &mut Self;
    /// Bytes as they are.
    fn put_bytes(&mut self, value: &[u8]) -> &mut Self;
    /// `string`. What is longer than a length can say never gets here: messages are bounded far below.
    fn put_string(&mut self, value: impl AsRef<[u8]>) -> &mut Self;
    /// `mpint` of a number that is not negative, given as big-endian bytes; in its shortest form.
    fn put_mpint(&mut self, value: &[u8]) -> &mut Self;
    /// `name-list`.
    fn put_names(&mut self, names: &[&str]) -> &mut Self;
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) -> &mut Self {
        self.push(value);
        self
    }

    fn put_bool(&mut self, value: bool) -> &mut Self {
        self.put_u8(u8::from(value))
    }

    fn put_u32(&mut self, value: u32) -> &mut Self {
        self.put_bytes(&value.to_be_bytes())
    }

    fn put_u64(&mut self, value: u64) -> &mut Self {
        self.put_bytes(&value.to_be_bytes())
    }

    fn put_bytes(&mut self, value: &[u8]) -> &mut Self {
        self.extend_from_slice(value);
        self
    }

    fn put_string(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX)).put_bytes(value)
    }

    fn put_mpint(&mut self, value: &[u8]) -> &mut Self {
        let value = without_zeros(value);
        if value.first().is_some_and(|first| first & 0x80 != 0) {
            self.put_u32(u32::try_from(value.len().saturating_add(1)).unwrap_or(u32::MAX)).put_u8(0).put_bytes(value)
        } else {
            self.put_string(value)
        }
    }

    fn put_names(&mut self, names: &[&str]) -> &mut Self {
        self.put_string(names.join(","))
    }
}
