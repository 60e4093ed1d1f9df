//! Databases of guests: grant, budget, driver.
