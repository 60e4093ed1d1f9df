//! room
fn main(){}
