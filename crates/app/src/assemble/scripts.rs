//! The scripts of interpreters: whether they are in a directory that the component is granted.

use std::ops::Range;

use super::Assembly;
use crate::app::{Grants, Scripts};
use crate::error::Kind;

impl Assembly<'_, '_> {
    /// Reports a root that no granted directory has anything to do with.
    pub(super) fn check_scripts(
        &mut self,
        component: &str,
        scripts: &Scripts,
        grants: &Grants,
        written: Range<usize>,
    ) {
        let root = &scripts.root;
        let met = |guest: &str| is_inside(root, guest) || is_inside(guest, root);
        if grants.files.iter().any(|grant| met(&grant.guest)) {
            return;
        }
        let what = format!("the component is granted no directory \"{root}\"");
        let help = format!(
            "add files = {{ \"{root}\" = {{ host = \"DIRECTORY\" }} }} to [component.{component}.grants], or --dir DIRECTORY::{root}"
        );
        self.report.at(Kind::BadDirectory, written, what, help);
    }
}

/// Whether `path` is `folder` or leads below it.
fn is_inside(path: &str, folder: &str) -> bool {
    let below = path.strip_prefix(folder.trim_end_matches('/'));
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
