//! What calls of imports hold while they wait for their turn: a guest of WASI 0.3 may begin any number of them at once, and
//! the arguments of each are copies in the host's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use wasmtime::component::Val;

/// Bytes of arguments that wait, over all imports of one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

/// The arguments of one call that waits; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    all: Waiting,
    bytes: usize,
}

impl Waiting {
    /// Room for these arguments, if no more than `most` bytes wait then.
    pub(super) fn hold(&self, params: &[Val], most: usize) -> Option<Held> {
        let bytes = total(params);
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        self.0.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Held {
            all: self.clone(),
            bytes,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Relaxed);
    }
}

fn total<'a>(values: impl IntoIterator<Item = &'a Val>) -> usize {
    values
        .into_iter()
        .fold(0, |sum, value| sum.saturating_add(size(value)))
}

/// What a value takes. Types are no deeper than the engine lets them be, and so is the recursion.
fn size(value: &Val) -> usize {
    let inside = match value {
        Val::String(text) | Val::Enum(text) => text.len(),
        Val::List(values) | Val::Tuple(values) | Val::FixedLengthList(values) => total(values),
        Val::Map(pairs) => total(pairs.iter().flat_map(|(key, value)| [key, value])),
        Val::Record(fields) => {
            let names: usize = fields.iter().map(|(name, _)| name.len()).sum();
            names.saturating_add(total(fields.iter().map(|(_, value)| value)))
        }
        Val::Variant(name, value) => name.len().saturating_add(total(value.as_deref())),
        Val::Option(value) | Val::Result(Ok(value) | Err(value)) => total(value.as_deref()),
        Val::Flags(names) => names
            .iter()
            .map(|name| size_of::<String>() + name.len())
            .sum(),
        _ => 0,
    };
    inside.saturating_add(size_of::<Val>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_given_back() {
        let kilobyte = || [Val::List(vec![Val::String("x".repeat(1000)); 4])];
        let waiting = Waiting::default();
        let held = waiting.hold(&kilobyte(), 10_000);
        let second = waiting.hold(&kilobyte(), 10_000);
        assert!(held.is_some() && second.is_some());
        assert!(waiting.hold(&kilobyte(), 10_000).is_none(), "12,000 bytes");
        drop(held);
        assert!(waiting.hold(&kilobyte(), 10_000).is_some());
        drop(second);
        assert_eq!(waiting.0.load(Relaxed), 0);
    }

    #[test]
    fn every_value_has_a_size() {
        let text = || Val::String("abcd".into());
        let boxed = || Some(Box::new(text()));
        for value in [
            Val::List(vec![text()]),
            Val::Tuple(vec![text()]),
            Val::FixedLengthList(vec![text()]),
            Val::Map(vec![(Val::U8(1), text())]),
            Val::Record(vec![("a".into(), text())]),
            Val::Variant("a".into(), boxed()),
            Val::Option(boxed()),
            Val::Result(Ok(boxed())),
            Val::Result(Err(boxed())),
        ] {
            assert!(size(&value) >= 2 * size_of::<Val>() + 4, "{value:?}");
        }
        assert!(size(&Val::Flags(vec!["read".into()])) > size_of::<Val>() + 4);
        assert_eq!(size(&Val::Bool(true)), size_of::<Val>());
    }
}
