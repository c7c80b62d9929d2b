//! A socket's way in one direction: it holds so many bytes and hands them on in pieces.

use std::collections::VecDeque;

use crate::conn::Conn;
use crate::conn::tests::Dice;

pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Bytes until it is cut; what is written afterwards is gone.
    left: Option<usize>,
}

impl Pipe {
    pub(super) fn new(capacity: usize, cut_after: Option<usize>) -> Self {
        Self { bytes: VecDeque::new(), capacity, left: cut_after }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Some of what waits in a transport goes in.
    pub(super) fn put(&mut self, from: &mut Conn, dice: &mut Dice) -> bool {
        let fits = from.output().len().min(self.capacity - self.bytes.len());
        if fits == 0 {
            return false;
        }
        let length = 1 + dice.below(fits);
        let kept = self.left.map_or(length, |left| left.min(length));
        self.left = self.left.map(|left| left - kept);
        self.bytes.extend(&from.output()[..kept]);
        from.wrote(length);
        true
    }

    /// Some of what is in it comes out.
    pub(super) fn get(&mut self, to: &mut Conn, dice: &mut Dice) -> bool {
        if self.bytes.is_empty() {
            return false;
        }
        let length = 1 + dice.below(self.bytes.len());
        let piece = &self.bytes.make_contiguous()[..length];
        let taken = to.receive(piece);
        self.bytes.drain(..taken);
        taken > 0
    }
}
