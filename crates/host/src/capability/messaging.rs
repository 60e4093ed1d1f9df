//! Messages of guests: grant, budget, driver.
