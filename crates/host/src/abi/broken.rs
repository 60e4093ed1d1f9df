//! How a guest's work ends badly.

use std::any::Any;

use crate::abi::Warm;
use crate::fault::Fault;

/// A guest that failed. What remains of it is kept, with its permit, until its answer is dealt with: as long as it is
/// there, the end of a body is an end that the guest meant, not its death.
pub(crate) struct Broken {
    pub(crate) fault: Fault,
    pub(crate) remains: Option<Box<dyn Any + Send>>,
}

impl Broken {
    /// With its instance.
    pub(super) fn with(fault: Fault, warm: Warm) -> Self {
        Self {
            fault,
            remains: Some(Box::new(warm)),
        }
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            remains: None,
        }
    }
}
