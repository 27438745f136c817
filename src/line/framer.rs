//! x
/// x
#[derive(Debug)]
pub struct Framer {}
