//! What the embedded driver promises beyond the contract.
