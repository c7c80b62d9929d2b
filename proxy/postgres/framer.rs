//! Counts message headers of an established session: a tag byte, a length of four that counts itself, a body that is never looked at.
//! Between two messages a notice may stand at any time, by the protocol also between those of a COPY; but what reads a COPY is often a program
//! that thinks of nothing else, so that none is put there.

use crate::relay::{Framer, Passed};

const HEADER: usize = 5;

/// Where in a stream of messages we are.
#[derive(Default)]
pub struct Messages {
    header: [u8; HEADER],
    seen: usize,
    body: usize,
    /// From CopyInResponse, CopyOutResponse or CopyBothResponse to what ends it.
    copying: bool,
}

impl Messages {
    /// In a stream of which these bytes have passed already.
    #[must_use]
    pub fn after(passed: &[u8]) -> Self {
        let mut messages = Self::default();
        messages.count(passed);
        messages
    }
}

impl Framer for Messages {
    fn pass(&mut self, bytes: &[u8]) -> Passed {
        let passed = Passed::all(bytes);
        self.count(bytes);
        passed
    }

    fn to_boundary(&self) -> usize {
        match (self.body, self.seen) {
            (0, 0) => 0,
            (0, seen) => HEADER.saturating_sub(seen),
            (body, _) => body,
        }
    }

    fn to_gap(&self) -> Option<usize> {
        Some(self.to_boundary()).filter(|_| !self.copying)
    }
}

impl Messages {
    fn count(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let skipped = self.body.min(bytes.len());
                self.body = self.body.saturating_sub(skipped);
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let taken = HEADER.saturating_sub(self.seen).min(bytes.len());
            if let Some((slot, from)) = self.header.get_mut(self.seen..self.seen.saturating_add(taken)).zip(bytes.get(..taken)) {
                slot.copy_from_slice(from);
            }
            self.seen = self.seen.saturating_add(taken);
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.seen == HEADER {
                let [tag, length @ ..] = self.header;
                match tag {
                    b'G' | b'H' | b'W' => self.copying = true,
                    // CommandComplete, ErrorResponse, ReadyForQuery.
                    b'C' | b'E' | b'Z' => self.copying = false,
                    _ => {}
                }
                // A length below 4 is nonsense of the upstream; the client will see it as it is. We only lose the boundary.
                self.body = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX).saturating_sub(4);
                self.seen = 0;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [b"D", length.to_be_bytes().as_slice(), body].concat()
    }

    proptest! {
        #[test]
        fn boundaries_are_found_however_the_bytes_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..8),
            cuts in prop::collection::vec(1_usize..9, 1..200),
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| message(body)).collect();
            let mut ends = vec![0];
            for body in &bodies {
                ends.push(ends.last().unwrap() + 5 + body.len());
            }
            let (mut framer, mut at) = (Messages::default(), 0);
            for cut in cuts {
                let end = (at + cut).min(bytes.len());
                framer.pass(&bytes[at..end]);
                at = end;
                let next = ends.iter().find(|end| **end >= at).unwrap();
                prop_assert_eq!(framer.to_boundary() == 0, *next == at);
                prop_assert!(framer.to_boundary() <= next - at, "never past a boundary");
            }
        }
    }
}
