//! What the host can do for a guest behind a grant: each file is one capability (grant, then budget, then driver).

pub(crate) mod log;
