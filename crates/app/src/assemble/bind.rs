//! `[component.NAME.bind]`: which component answers which import.

use std::collections::BTreeMap;

use super::Assembly;
use crate::fields::At;

impl Assembly<'_, '_> {
    pub(super) fn bind(
        &mut self,
        written: Vec<(At<String>, At<String>)>,
        names: &[&str],
    ) -> BTreeMap<String, usize> {
        let bound =
            |(import, callee): (At<String>, At<String>)| (import.value, self.index(&callee, names));
        written.into_iter().map(bound).collect()
    }
}
