//! Configuration values and secrets of guests: grant, budget, driver.
