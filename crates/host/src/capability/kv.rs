//! Key-value stores of guests: grant, budget, driver.
