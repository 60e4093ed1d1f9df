//! Blobs of guests: grant, budget, driver.
