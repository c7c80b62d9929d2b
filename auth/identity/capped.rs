//! A map that forgets its oldest entry when it is full, so that strangers cannot grow it without end.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

pub(super) struct Capped<K, V> {
    capacity: usize,
    entries: HashMap<K, (u64, V)>,
    /// Oldest first: the number of an entry's last writing.
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Eq + Hash + Clone, V: Default> Capped<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The entry to write to, made if there is none; it is then the youngest.
    pub(super) fn write(&mut self, key: K) -> &mut V {
        let number = self.next;
        self.next = number.wrapping_add(1);
        if let Some((old, _)) = self.entries.get(&key) {
            self.order.remove(old);
        } else if self.entries.len() >= self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.order.insert(number, key.clone());
        let entry = self.entries.entry(key).or_default();
        entry.0 = number;
        &mut entry.1
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((number, _)) = self.entries.remove(key) {
            self.order.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_was_written_longest_ago_goes_first() {
        let mut map = Capped::<&str, u32>::new(2);
        *map.write("a") = 1;
        *map.write("b") = 2;
        *map.write("a") += 10;
        *map.write("c") = 3;
        assert_eq!((map.get(&"a"), map.get(&"b"), map.get(&"c")), (Some(&11), None, Some(&3)));
        map.remove(&"a");
        *map.write("d") = 4;
        assert_eq!((map.get(&"a"), map.get(&"c"), map.get(&"d")), (None, Some(&3), Some(&4)));
        assert_eq!((map.entries.len(), map.order.len()), (2, 2));
    }
}
