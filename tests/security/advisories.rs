//! Attacks that published advisories describe.
