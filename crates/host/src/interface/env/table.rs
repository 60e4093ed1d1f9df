//! What a module has open, by numbers: the lowest free one is the next.

/// A table of a few things.
#[derive(Debug)]
pub(super) struct Table<T>(Vec<Option<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Table<T> {
    /// Whether there is a place for one more among so many.
    pub(super) fn has_room(&self, most: usize) -> bool {
        self.0.len() < most || self.0.iter().any(Option::is_none)
    }

    /// Its number.
    pub(super) fn add(&mut self, entry: T) -> i32 {
        let free = self.0.iter().position(Option::is_none);
        let number = free.unwrap_or(self.0.len());
        match self.0.get_mut(number) {
            Some(place) => *place = Some(entry),
            None => self.0.push(Some(entry)),
        }
        i32::try_from(number).unwrap_or(i32::MAX)
    }

    pub(super) fn get_mut(&mut self, number: i32) -> Option<&mut T> {
        self.0.get_mut(usize::try_from(number).ok()?)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: i32) -> Option<T> {
        self.0.get_mut(usize::try_from(number).ok()?)?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_the_next() {
        let mut table = Table::default();
        assert_eq!(["a", "b", "c"].map(|entry| table.add(entry)), [0, 1, 2]);
        assert!(!table.has_room(3) && table.has_room(4));
        assert_eq!(table.remove(1), Some("b"));
        assert_eq!(table.remove(1), None);
        assert!(table.has_room(3));
        assert_eq!((table.add("d"), table.add("e")), (1, 3));
        assert_eq!(table.get_mut(1), Some(&mut "d"));
        for number in [4, -1, i32::MIN, i32::MAX] {
            assert_eq!(table.get_mut(number), None);
            assert_eq!(table.remove(number), None);
        }
    }
}
